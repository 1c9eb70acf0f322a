"""Blocked event loops and paused processes: no run is lost, no tool repeated."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentrunner import AgentRunner
from agentrunner.stores.urls import store_from_url
from campaigns import Campaign, Outcome, complete_lines, start
from support import backends
from support.processes import process

if TYPE_CHECKING:
    from pathlib import Path

    from campaigns import Context
    from support.processes import Process

AT_ONCE = 24
KINDS = 6
RECOVERY_POLL_SECONDS = 0.2
STUCK_SECONDS = 60.0


@dataclass(frozen=True)
class Pace:
    """How long everything takes."""

    ttl: float
    blocked: float
    paused: float


IN_FULL = Pace(10.0, 15.0, 20.0)
IN_SMALL = Pace(1.0, 2.5, 2.0)


def choose_pace(context: Context) -> Pace:
    return IN_FULL if context.rounds > 2 * KINDS else IN_SMALL


@dataclass(frozen=True)
class Setting:
    """What one process does, round after round."""

    verb: str
    """`run`, or `approve` for a harness with a tool that a person has approved."""
    is_alone: bool
    """Whether no other process has the store open."""
    is_paused: bool
    """Whether the process is stopped for a while, and not its event loop blocked."""
    is_elsewhere: bool
    """Whether the other process cannot see this one, as on another machine."""


def setting_of(number: int, *, can_be_elsewhere: bool) -> Setting:
    verb = "approve" if number % 2 else "run"
    kind = number % KINDS // 2
    is_elsewhere = kind == 1 and number // KINDS % 2 == 0 and can_be_elsewhere
    return Setting(verb, kind != 1, kind == 2, is_elsewhere)


class Blocked:
    """One process with its threads."""

    def __init__(self, context: Context, outcome: Outcome, setting: Setting, number: int) -> None:
        self.context = context
        self.outcome = outcome
        self.setting = setting
        self.number = number
        self.pace = choose_pace(context)
        self.notes: Path = context.folder / f"payments{number}"

    async def rounds(self, count: int) -> None:
        """Block the process's event loop, or pause the process, so many times."""
        folder = self.context.folder / f"alone{self.number}"
        folder.mkdir()
        with contextlib.ExitStack() as stack:
            location = self.context.location
            if self.setting.is_alone:
                location = stack.enter_context(backends.place(self.context.backend, folder))
            leases = "held" if self.context.mutation is None else "released"
            program = ["support.programs.blocker", location, str(self.pace.ttl), str(self.notes), leases]
            if self.setting.is_elsewhere:
                program.insert(0, "support.programs.elsewhere")
            async with process(*program) as blocker:
                if await blocker.answer() != ["ready"]:
                    self.outcome.fail(f"process {self.number} did not start")
                    return
                for n in range(count):
                    try:
                        async with asyncio.timeout(STUCK_SECONDS * self.context.patience):
                            await self.round(blocker, f"b{self.number}-{n}")
                    except TimeoutError:
                        self.outcome.count("stuck")
                        self.outcome.fail(f"b{self.number}-{n} is stuck, as {self.setting}")
                        return
                    self.context.tick()

    async def round(self, blocker: Process, thread: str) -> None:
        """Start a run, wait until it has ended, and check how."""
        # If not even a process's threads run, only the processes of the same machine can see that it is alive. Others
        # take its runs over, from Redis or PostgreSQL, and some of those beside it are as if on another machine.
        ways = ["sleep", "gil"] if self.setting.is_alone else ["sleep"]
        how = "wait" if self.setting.is_paused else self.context.random.choice(ways)
        blocker.ask(self.setting.verb, thread, self.pace.blocked, how)
        if (answer := await blocker.answer()) != ["blocking", thread]:
            self.outcome.fail(f"{thread}: the run did not start: {answer}")
            return
        began = time.monotonic()
        if self.setting.is_paused:
            blocker.stop()
            await asyncio.sleep(self.pace.paused)
            blocker.go_on()
        answer = await blocker.answer()
        self.outcome.count(f"{'paused' if self.setting.is_paused else 'blocked'}, {self.setting.verb}")
        end = {"run": "RUN_FINISHED", "approve": "completed/1"}[self.setting.verb]
        seconds = time.monotonic() - began
        match answer:
            case ["ended", _, own, beside, warnings]:
                lost = (own != end) + (beside != "RUN_FINISHED")
                self.outcome.count("runs lost", lost)
                if lost:
                    self.outcome.fail(
                        f"{thread} ended with {own} and {beside} after {seconds:.1f} s, as {self.setting}"
                    )
                self.outcome.count("warnings", int(warnings))
                if int(warnings) < 1:
                    self.outcome.fail(f"{thread}: nothing was logged about {seconds:.1f} s")
            case _:
                self.outcome.fail(f"{thread}: the process said {answer}")

    def check_payments(self) -> None:
        """Check that each approved tool ran once."""
        payments = Counter(complete_lines(self.notes))
        repeated = [thread.decode() for thread, count in payments.items() if count > 1]
        self.outcome.count("tools run", sum(payments.values()))
        self.outcome.count("tools repeated", len(repeated))
        if repeated:
            self.outcome.fail(f"the tool ran twice on {repeated}")


async def recover_always(runner: AgentRunner) -> None:
    """Look for dead runs more often than any process does."""
    while True:
        await runner.recover()
        await asyncio.sleep(RECOVERY_POLL_SECONDS)


async def campaign(context: Context) -> Outcome:
    outcome = Outcome({"runs lost": 0, "tools run": 0, "tools repeated": 0, "stuck": 0})
    test = await asyncio.to_thread(
        lambda: start("support.programs.elsewhere", "support.lines", stderr=subprocess.DEVNULL).wait()
    )
    processes = [
        Blocked(context, outcome, setting_of(number, can_be_elsewhere=test == 0), number)
        for number in range(min(AT_ONCE, context.rounds))
    ]
    store = store_from_url(context.location, lease_ttl=choose_pace(context).ttl, resume_window=3600.0)
    async with AgentRunner(store) as other:
        looking = asyncio.create_task(recover_always(other))
        async with asyncio.TaskGroup() as group:
            for number, each in enumerate(processes):
                count = context.rounds // len(processes) + (number < context.rounds % len(processes))
                group.create_task(each.rounds(count))
        looking.cancel()
        outcome.count("runs taken over", other.stats.recoveries)
    for each in processes:
        each.check_payments()
    return outcome


CAMPAIGN = Campaign(
    name="blocked",
    promise="a blocked event loop costs no run",
    bar="blocked for 15 s or paused for 20 s with leases of 10 s: 0 runs lost, 0 tools repeated, each logged",
    backends=("sqlite", "redis", "postgres"),
    small=6,
    full={"sqlite": 300, "redis": 300, "postgres": 300},
    run=lambda context: asyncio.run(campaign(context)),
    mutations={"nothing_is_held": "leases are extended without the event loop"},
)
