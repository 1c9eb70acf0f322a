"""Two processes that follow each other's runs while a fault is injected into their server."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from agentrunner import AgentRunner
from agentrunner.stores.urls import store_from_url
from support import compare
from support.processes import process
from support.programs.child import KEPT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from campaigns import Context, Outcome
    from support.processes import Process

TTL = 30.0
"""Seconds of a lease. The stores retry for two thirds of them: longer than a busy machine takes to start a server."""
PATIENCE = 25.0
"""Seconds after which an expected event counts as missing."""
PAUSE = 0.1
"""Seconds between 50 events of a run."""


class Side:
    """One of the two processes: its runs, and what it reports."""

    def __init__(self, outcome: Outcome, name: str, child: Process) -> None:
        self.outcome = outcome
        self.name = name
        self.child = child
        self.other: Side
        self.begun: dict[str, asyncio.Future[float]] = {}
        self.ended: dict[str, asyncio.Future[float]] = {}
        self.followed: dict[str, asyncio.Future[float]] = {}

    def run(self, thread: str, turns: int) -> None:
        """Run an agent in this process, which the other process follows."""
        loop = asyncio.get_running_loop()
        self.begun[thread], self.ended[thread] = loop.create_future(), loop.create_future()
        self.other.followed[thread] = loop.create_future()
        self.child.ask("run", thread, f"{thread}-run", turns, PAUSE)

    async def listen(self) -> None:
        """Note what the process reports until it ends."""
        while words := await self.child.answer():
            verb, thread, *how = words
            if verb == "failed":
                self.outcome.fail(f"{self.name}: {thread}: {' '.join(how)}")
                for waiting in (self.begun, self.ended, self.followed, self.other.followed):
                    if thread in waiting:
                        waiting[thread].cancel()
                continue
            if verb == "begun":
                self.other.child.ask("follow", thread)
            elif verb == "ended" and how != ["RUN_FINISHED", "-"]:
                self.outcome.fail(f"{self.name}: {thread} ended with {how}")
            moment = getattr(self, verb)[thread]
            if not moment.done():
                moment.set_result(time.monotonic())


class Pair:
    """The two processes."""

    def __init__(self, context: Context, outcome: Outcome, a: Process, b: Process) -> None:
        self.context = context
        self.outcome = outcome
        self.sides = Side(outcome, "a", a), Side(outcome, "b", b)
        self.sides[0].other, self.sides[1].other = self.sides[1], self.sides[0]

    def start(self, thread: str) -> list[asyncio.Future[float]]:
        """Start a run in each process, and return a future of each start."""
        for side in self.sides:
            side.run(f"{thread}-{side.name}", self.context.random.randint(10, 40))
        return [side.begun[f"{thread}-{side.name}"] for side in self.sides]

    async def wait_for_starts(self, begun: list[asyncio.Future[float]], ready_at: float, fault: str) -> None:
        """Wait until runs have started, and count the seconds since the server was ready."""
        done, late = await asyncio.wait(begun, timeout=self.patience)
        self.outcome.recovery_seconds += [max(0.0, each.result() - ready_at) for each in done if not each.cancelled()]
        if late:
            self.outcome.fail(f"{fault}: {len(late)} runs have not started {self.patience} s later")

    @property
    def patience(self) -> float:
        """Seconds after which a run counts as stuck."""
        # With a guard dropped, longer waits show nothing.
        return PATIENCE if self.context.mutation is None else PATIENCE / 5

    @property
    def live(self) -> int:
        """The number of runs that have not ended."""
        return sum(not ended.done() for side in self.sides for ended in side.ended.values())

    async def settle(self) -> None:
        """Wait until all runs, readers and processes have ended."""
        waiting = [each for side in self.sides for each in (*side.ended.values(), *side.followed.values())]
        _, stuck = await asyncio.wait(waiting, timeout=self.patience)
        if stuck:
            what = f"{len(stuck)} runs or their readers have not ended"
            self.outcome.fail(f"{what} {self.patience} s after the last fault")
        for side in self.sides:
            if await side.child.end():
                self.outcome.fail(f"process {side.name} ended with an error")

    async def check(self, location: str) -> None:
        """Compare what the readers logged with what is stored."""
        async with AgentRunner(store_from_url(location, resume_window=KEPT)) as runner:
            for side in self.sides:
                for (kind, thread), told in compare.readers(self.context.folder / side.name).items():
                    raw = await compare.journal(runner, thread)
                    compare.dense(self.outcome, thread, raw)
                    compare.compare(self.outcome, f"{thread}, {kind}", told, raw)
                    if not raw or raw[-1].type != "RUN_FINISHED" or told[-1].event != bytes(raw[-1]):
                        self.outcome.fail(f"{thread}, {kind}: read up to {told[-1].cursor} of {len(raw)} events")
                    if kind == "early":
                        self.outcome.count("runs")
                        await compare.same_folded(self.outcome, runner, thread, raw)
            store = await runner.open()
            live = await store.live()
            self.outcome.count("stuck", len(live))
            report = await store.inspect(fix=False)
            if live or not report.is_sound:
                self.outcome.fail(f"at the end: live {live}, {report}")


@contextlib.asynccontextmanager
async def pair(context: Context, outcome: Outcome, location: str, mutation: str | None) -> AsyncIterator[Pair]:
    """Start both processes and a run in each; wait for all runs to end when the block ends."""
    outcome.figures |= {"runs": 0, "events shown": 0, "lost": 0, "gaps": 0, "doubled": 0, "stuck": 0}
    async with (
        process("support.programs.child", location, context.folder / "a", TTL, mutation=mutation) as a,
        process("support.programs.child", location, context.folder / "b", TTL, mutation=mutation) as b,
    ):
        both = Pair(context, outcome, a, b)
        listening = [asyncio.create_task(side.listen()) for side in both.sides]
        await asyncio.wait(both.start("first"), timeout=both.patience)
        yield both
        await both.settle()
        await asyncio.gather(*listening)
