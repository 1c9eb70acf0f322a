"""Processes killed on another host: only the end of their leases frees their threads."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import time
from typing import TYPE_CHECKING

from agentrunner import AgentRunner
from agentrunner.stores.urls import store_from_url
from campaigns import Campaign, NotRun, Outcome, start
from support import compare
from support.processes import process
from support.programs.child import KEPT

if TYPE_CHECKING:
    from campaigns import Context
    from support.processes import Process

TTL = 3.0
BAR = TTL + 2.0
STUCK = TTL + 4.0
AT_ONCE = 5
THREADS = 2


class Round:
    """Children that are killed together, and the one process that takes over their threads."""

    def __init__(self, context: Context, outcome: Outcome, successor: Process) -> None:
        self.context = context
        self.outcome = outcome
        self.successor = successor
        self.killed_at: dict[str, float] = {}

    async def kill(self, number: int, together: asyncio.Barrier) -> None:
        """Run agents in a child on another host, and kill it once all of them run."""
        log = self.context.folder / f"log{number}"
        async with process(
            "support.programs.elsewhere", "support.programs.child", self.context.location, log, TTL
        ) as child:
            threads = [f"t{number}-{n}" for n in range(THREADS)]
            for thread in threads:
                child.ask("run", thread, f"{thread}-run", 100_000, 0.02)
            begun = 0
            while begun < THREADS:
                verb, thread, *how = await child.answer()
                begun += verb == "begun"
                if verb != "begun":
                    self.outcome.fail(f"{thread}: {verb} {how} before its process was killed")
            await together.wait()
            await asyncio.sleep(self.context.random.uniform(0, 0.1))
            child.kill()
            self.killed_at |= dict.fromkeys(threads, time.monotonic())
            self.outcome.count("kills")
            for thread in threads:
                self.successor.ask("run", thread, f"{thread}-next", 1, 0)

    async def take_over(self) -> None:
        """Wait until the other process has run on every thread of a dead one, or time is up."""
        waiting = set(self.killed_at)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STUCK * self.context.patience):
                while waiting:
                    verb, thread, *how = await self.successor.answer()
                    if verb == "begun":
                        self.note_takeover(thread, time.monotonic() - self.killed_at[thread])
                    else:
                        waiting.discard(thread)
                        if (verb, *how) != ("ended", "RUN_FINISHED", "-"):
                            self.outcome.fail(f"{thread}: the run after the kill {verb} with {how}")
        if waiting:
            self.outcome.count("stuck", len(waiting))
            self.outcome.fail(f"{sorted(waiting)} are locked {STUCK} s after their process was killed")

    def note_takeover(self, thread: str, seconds: float) -> None:
        self.outcome.recovery_seconds.append(seconds)
        if seconds > BAR * self.context.patience:
            self.outcome.fail(f"{thread} was taken over only {seconds:.2f} s after its process was killed")
        if seconds < TTL / 2:
            self.outcome.fail(f"{thread} was taken over after {seconds:.2f} s, while its lease ran")

    async def check(self, runner: AgentRunner, numbers: range) -> None:
        """Compare what the dead children's readers logged with what is stored."""
        for number in numbers:
            for (kind, thread), told in compare.readers(self.context.folder / f"log{number}").items():
                raw = await compare.journal(runner, thread)
                compare.dense(self.outcome, thread, raw)
                end = next((n for n, event in enumerate(raw) if compare.is_interrupted(event)), len(raw))
                compare.compare(self.outcome, f"{thread}, {kind}", told, raw[: end + 1])
                await compare.same_folded(self.outcome, runner, thread, raw)


async def campaign(context: Context) -> Outcome:
    outcome = Outcome({"kills": 0, "events shown": 0, "lost": 0, "gaps": 0, "doubled": 0, "stuck": 0})
    if start("support.programs.elsewhere", "support.lines", stderr=subprocess.DEVNULL).wait():
        raise NotRun("this system does not let a process have its own host name")
    log = context.folder / "successors"
    async with process("support.programs.child", context.location, log, TTL, mutation=context.mutation) as successor:
        for first in range(0, context.rounds, AT_ONCE):
            numbers = range(first, min(first + AT_ONCE, context.rounds))
            kills, together = Round(context, outcome, successor), asyncio.Barrier(len(numbers))
            async with asyncio.TaskGroup() as group:
                for number in numbers:
                    group.create_task(kills.kill(number, together))
            await kills.take_over()
            if not outcome.figures["stuck"]:
                async with AgentRunner(store_from_url(context.location, resume_window=KEPT)) as runner:
                    await kills.check(runner, numbers)
            for _ in numbers:
                context.tick()
    return outcome


CAMPAIGN = Campaign(
    name="lease",
    promise="no thread stays locked",
    bar=f"another host: claimable within TTL + 2 s ({TTL} s + 2 s), not while the lease runs; 0 stuck",
    backends=("sqlite", "redis", "postgres"),
    small=2,
    full={"sqlite": 100, "redis": 100, "postgres": 100},
    run=lambda context: asyncio.run(campaign(context)),
    mutations={"nothing_is_recovered": "a run is taken over if its owner is gone or silent"},
)
