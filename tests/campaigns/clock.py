"""The wall clock of one of two processes jumps an hour: no process loses a thread."""

from __future__ import annotations

import asyncio
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from agentrunner.stores.urls import store_from_url
from campaigns import Campaign, NotRun, Outcome
from support.processes import process
from support.sleep import put_to_sleep

if TYPE_CHECKING:
    from agentrunner.stores import Store
    from campaigns import Context
    from support.processes import Process

HOUR = 3600
TTL = 1.5
BAR = TTL + 2.0
STUCK_SECONDS = TTL + 5.0
"""Seconds without an answer after which a process or a thread counts as stuck."""
BEGUN = ["RUN_STARTED", "TEXT_MESSAGE_START"]


class Clock:
    """The wall clock of the process that is started with its environment."""

    def __init__(self, folder: Path) -> None:
        if sys.platform != "linux" or not shutil.which("cc"):
            raise NotRun("a clock that steps needs Linux and a C compiler")
        source, library = Path(__file__).parent / "clock.c", folder / "clock.so"
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-Wall", "-o", library, source], check=True)
        self._ahead = folder / "clock"
        self.ahead = 0
        self.step(0)
        self.env = {"LD_PRELOAD": str(library), "CLOCK": str(self._ahead)}

    def step(self, ahead: int) -> None:
        """Set the clock ahead of the true time by these seconds."""
        with self._ahead.open("r+b" if self._ahead.exists() else "wb") as file:
            file.write(struct.pack("=q", ahead))
        self.ahead = ahead


class Campaigning:
    """A process whose clock is stepped, and one whose clock is not."""

    def __init__(self, context: Context, outcome: Outcome, clock: Clock, stepped: Process, steady: Process) -> None:
        self.context = context
        self.outcome = outcome
        self.clock = clock
        self.both = {"stepped": stepped, "steady": steady}

    async def round(self, number: int, store: Store) -> None:
        """Step the clock under a live run of each process, then stop one of the processes."""
        for name, each in self.both.items():
            await self.expect(
                each, ["RUN_STARTED", "TEXT_MESSAGE_START"], "run", f"{name}{number}", f"{name}{number}-run"
            )
        self.clock.step(self.context.random.choice([ahead for ahead in (-HOUR, 0, HOUR) if ahead != self.clock.ahead]))
        self.outcome.count("steps")
        # Test first with fresh records, then with records older than a lease.
        for wait in (0, TTL * 1.2):
            await asyncio.sleep(wait)
            for name, each in self.both.items():
                if (taken := await self.request(each, "recover")) != ["0"]:
                    self.outcome.count("live runs taken over")
                    self.outcome.fail(f"round {number}, {self.clock.ahead:+} s: {name} took over {taken} live runs")
            for each in self.both.values():
                await self.expect(each, ["TEXT_MESSAGE_CONTENT"], "say", "word")
        for name, each in self.both.items():
            await self.expect(each, ["put"], "blind", "end")
            await self.expect(each, ["RUN_FINISHED", "-"], "wait")
            # Kept for readers that resume, by either process's clock.
            if (await store.locate(f"{name}{number}", (2, None))).kind != "journal":
                self.outcome.fail(
                    f"round {number}, {self.clock.ahead:+} s: raw events of {name}'s run were removed too early"
                )
        names = self.context.random.sample(list(self.both), 2)
        await self.fall_silent(f"silent{number}", *names)

    async def fall_silent(self, thread: str, silent: str, other: str) -> None:
        """Stop one process in a live run: the other takes over when the lease ends, by any clock."""
        sleeper = self.both[silent]
        await self.expect(sleeper, BEGUN, "run", thread, f"{thread}-run")
        await put_to_sleep(sleeper, self.context, self.outcome)
        stopped_at = time.monotonic()
        await self.expect(self.both[other], BEGUN, "run", thread, f"{thread}-next")
        seconds = time.monotonic() - stopped_at
        self.outcome.recovery_seconds.append(seconds)
        if seconds > BAR * self.context.patience:
            self.outcome.fail(f"{thread}, {self.clock.ahead:+} s: {other} took over only {seconds:.2f} s later")
        if seconds < TTL / 2:
            self.outcome.fail(f"{thread}, {self.clock.ahead:+} s: {other} took over {seconds:.2f} s later: too early")
        sleeper.go_on()
        await self.expect(sleeper, ["RUN_ERROR", "LEASE_LOST"], "wait")
        await self.expect(self.both[other], ["put"], "blind", "end")
        await self.expect(self.both[other], ["RUN_FINISHED", "-"], "wait")

    async def request(self, process: Process, *words: str) -> list[str]:
        """Send a line and return the answer. Raises `TimeoutError`."""
        async with asyncio.timeout(STUCK_SECONDS * self.context.patience):
            return await process.request(*words)

    async def expect(self, process: Process, answer: list[str], *words: str) -> None:
        """Send a line and check the answer.

        Raises `AssertionError`: the process's state is unknown then.
        """
        told = await self.request(process, *words)
        assert told == answer, f"{words} was answered by {told}, not {answer}"


async def campaign(context: Context) -> Outcome:
    outcome = Outcome({"steps": 0, "live runs taken over": 0, "stuck": 0})
    clock = Clock(context.folder)
    store = store_from_url(context.location)
    arguments = ("support.programs.peer", "runs", context.location, TTL)
    async with process(*arguments, env=clock.env, mutation=context.mutation) as stepped, process(*arguments) as steady:
        await store.open()
        try:
            campaigning = Campaigning(context, outcome, clock, stepped, steady)
            for number in range(context.rounds):
                await campaigning.round(number, store)
                context.tick()
        except TimeoutError:
            outcome.count("stuck")
            outcome.fail(f"round {number}, {clock.ahead:+} s: a thread is stuck, or a process")
        except AssertionError as error:
            outcome.fail(f"round {number}, {clock.ahead:+} s: {error}")
        finally:
            await store.aclose()
    return outcome


CAMPAIGN = Campaign(
    name="clock",
    promise="a stepped clock costs no thread",
    bar="± 1 h and back: 0 live runs taken over, 0 stuck; a silent process's threads within TTL + 2 s",
    backends=("sqlite", "redis", "postgres"),
    small=2,
    full={"sqlite": 40, "redis": 40, "postgres": 40},
    run=lambda context: asyncio.run(campaign(context)),
    mutations={"leases_by_the_wall_clock": "leases end by the monotonic clock, not the wall clock"},
)
