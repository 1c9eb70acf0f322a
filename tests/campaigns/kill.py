"""kill -9 at random moments of live runs: no shown event is lost, no thread stays locked."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

# Not only for its name: a runner that must first load the module starts its first run later.
from ag_ui.core import RunAgentInput

from agentrunner import AgentRunner, ThreadAlreadyRunning
from agentrunner.stores.urls import store_from_url
from campaigns import Campaign, Outcome
from support import compare
from support.processes import process
from support.programs.child import KEPT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from agentrunner import Event, EventStream
    from campaigns import Context
    from support.processes import Process

THREADS = 3
LONGEST = 0.06
"""Seconds a child lives at most after its first event was shown."""
BAR = 1.0
"""Seconds after which a dead process's threads can be claimed on its host."""
STUCK = 15.0


async def successor(run_input: RunAgentInput) -> AsyncIterator[dict[str, str]]:
    yield {"type": "RUN_STARTED", "threadId": run_input.thread_id, "runId": run_input.run_id}
    yield {"type": "RUN_FINISHED", "threadId": run_input.thread_id, "runId": run_input.run_id}


async def collect(stream: EventStream) -> list[Event]:
    return [event async for event in stream]


class Round:
    """One round: a child that is killed."""

    def __init__(self, context: Context, outcome: Outcome, number: int) -> None:
        self.context = context
        self.outcome = outcome
        self.threads = [f"t{number}-{n}" for n in range(THREADS)]
        self.log = log_of(context, number)
        self.delay = context.random.uniform(0, LONGEST)
        # Half of the time another process already follows; otherwise a new runner opens the store.
        self.followed = context.random.random() < 0.5

    async def go(self, child: Process) -> None:
        """Run agents in the child, kill it, and check what it left behind."""
        for thread in self.threads:
            child.ask("run", thread, f"{thread}-run", 100_000, 0.001)
        _, begun = await child.answer()
        async with contextlib.AsyncExitStack() as stack:
            runner = AgentRunner(store_from_url(self.context.location, resume_window=KEPT))
            following = None
            if self.followed:
                await stack.enter_async_context(runner)
                following = asyncio.create_task(collect(await runner.connect(begun)))
            await asyncio.sleep(self.delay)
            child.kill()
            killed_at = time.monotonic()
            self.outcome.count("kills")
            if not self.followed:
                await stack.enter_async_context(runner)
            async with asyncio.TaskGroup() as claims:
                for thread in self.threads:
                    claims.create_task(self.claim(runner, thread, killed_at))
            if following is not None:
                await self.check_followed(runner, begun, following)
            await self.check(runner)
            for thread in self.threads:
                await runner.threads.delete(thread)
        self.log.unlink()

    async def claim(self, runner: AgentRunner, thread: str, killed_at: float) -> None:
        """Run on a dead process's thread."""
        next_input = {"threadId": thread, "runId": f"{thread}-next", "messages": []}
        while True:
            try:
                stream = await runner.run(successor, next_input)
            except ThreadAlreadyRunning:
                if time.monotonic() - killed_at > STUCK:
                    self.outcome.count("stuck")
                    self.outcome.fail(f"{thread} is locked {STUCK} s after its process was killed")
                    return
                await asyncio.sleep(0.02)
                continue
            break
        seconds = time.monotonic() - killed_at
        self.outcome.recovery_seconds.append(seconds)
        if seconds > BAR * self.context.patience:
            self.outcome.fail(f"{thread} could be claimed only {seconds:.2f} s after its process was killed")
        if [event.type for event in await collect(stream)] != ["RUN_STARTED", "RUN_FINISHED"]:
            self.outcome.fail(f"{thread}: the run after the kill failed")

    async def check_followed(self, runner: AgentRunner, thread: str, following: asyncio.Task[list[Event]]) -> None:
        """Check that a follower in another process saw the whole run and its end."""
        async with asyncio.timeout(STUCK):
            followed = await following
        raw = (await compare.journal(runner, thread))[:-2]
        compare.compare(self.outcome, f"{thread}, followed", compare.list_shown(followed), raw)
        if not (followed and raw and bytes(followed[-1]) == bytes(raw[-1])):
            self.outcome.fail(f"{thread}: the follower did not see the run's end")
        self.outcome.count("followed")

    async def check(self, runner: AgentRunner) -> None:
        """Compare what the child's readers logged with what is stored."""
        told = compare.readers(self.log)
        for thread in self.threads:
            raw = await compare.journal(runner, thread)
            compare.dense(self.outcome, thread, raw)
            run = raw[:-2]
            for kind in ("early", "late"):
                compare.compare(self.outcome, f"{thread}, {kind}", told[kind, thread], run)
            if len(run) > 1:
                ends = [event for event in run if event.type in ("RUN_FINISHED", "RUN_ERROR")]
                if len(ends) != 1 or not compare.is_interrupted(run[-1]):
                    self.outcome.fail(f"{thread}: the killed run ends with {[bytes(event) for event in ends]}")
                await compare.same_folded(self.outcome, runner, thread, raw)
                replayed = await collect(await runner.connect(thread, after="0"))
                if list_contents(replayed) != list_contents(await runner.threads.events(thread)):
                    self.outcome.fail(f"{thread}: a read from the beginning differs")
        report = await (await runner.open()).inspect(fix=False)
        if not report.is_sound:
            self.outcome.fail(f"{self.threads}: the store is not sound: {report}")


def list_contents(events: Iterable[Event]) -> list[bytes]:
    """Return the stored events but the ends of runs, which a replay may show otherwise."""
    return [bytes(event) for event in events if event.cursor and event.type not in ("RUN_FINISHED", "RUN_ERROR")]


def log_of(context: Context, number: int) -> Path:
    return context.folder / f"log{number}"


async def start_child(context: Context, stack: contextlib.AsyncExitStack, number: int) -> Process:
    child = process("support.programs.child", context.location, log_of(context, number), 10, mutation=context.mutation)
    return await stack.enter_async_context(child)


async def campaign(context: Context) -> Outcome:
    outcome = Outcome({"kills": 0, "followed": 0, "events shown": 0, "lost": 0, "gaps": 0, "doubled": 0, "stuck": 0})
    async with contextlib.AsyncExitStack() as spare:
        child = await start_child(context, spare, 0)
        for number in range(context.rounds):
            async with spare.pop_all():
                # Start the next child while the last one's work is checked; until its first line it only waits.
                child, now = await start_child(context, spare, number + 1), child
                await Round(context, outcome, number).go(now)
            context.tick()
    return outcome


CAMPAIGN = Campaign(
    name="kill",
    promise="kill -9 loses nothing that was shown",
    bar="0 lost, 0 gaps, 0 doubled, 0 stuck; same host: claimable within 1 s",
    backends=("sqlite", "redis", "postgres"),
    small=6,
    full={"sqlite": 1000, "redis": 200, "postgres": 200},
    run=lambda context: asyncio.run(campaign(context)),
    mutations={"publish_before_commit": "readers see events only when they are durable"},
)
