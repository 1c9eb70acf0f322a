"""Processes that sleep past their lease: after a takeover none of their writes count."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from agentrunner import AgentRunner
from agentrunner.stores.urls import store_from_url
from campaigns import Campaign, Outcome
from support import compare
from support.processes import process
from support.programs.child import KEPT
from support.sleep import put_to_sleep

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ag_ui.core import RunAgentInput

    from agentrunner import Event, EventStream
    from campaigns import Context
    from support.processes import Process

TTL = 2.0
BAR = TTL + 2.0
PATIENCE = TTL + 12.0
AT_ONCE = 10
LOST = {
    # A runner notices by itself and tells its readers. A peer that only calls the store's verbs is refused by each.
    "child": ["ended", "RUN_ERROR", "LEASE_LOST"],
    "peer": ["LeaseLost", "LeaseLost", "False"],
}


class Successor:
    """An agent that is in the middle of its run when the zombie wakes up."""

    def __init__(self) -> None:
        self.half = asyncio.Event()
        self.awake = asyncio.Event()

    async def run(self, run_input: RunAgentInput) -> AsyncIterator[dict[str, object]]:
        yield {"type": "RUN_STARTED", "threadId": run_input.thread_id, "runId": run_input.run_id}
        for n in range(3):
            yield {"type": "CUSTOM", "name": "before", "value": n}
        self.half.set()
        await self.awake.wait()
        for n in range(3):
            yield {"type": "CUSTOM", "name": "after", "value": n}
        yield {"type": "RUN_FINISHED", "threadId": run_input.thread_id, "runId": run_input.run_id}


class Zombie:
    """A process that is put to sleep again and again; a fresh thread each time."""

    def __init__(self, context: Context, outcome: Outcome, runner: AgentRunner, number: int) -> None:
        self.context = context
        self.outcome = outcome
        self.runner = runner
        self.number = number
        self.kind = "peer" if number % 2 else "child"
        self.log = context.folder / f"log{number}"

    async def rounds(self, count: int) -> None:
        """Put it to sleep so many times."""
        location, mutation = self.context.location, self.context.mutation
        arguments = ("writes", location, TTL) if self.kind == "peer" else (location, self.log, TTL)
        async with process(f"support.programs.{self.kind}", *arguments, mutation=mutation) as sleeper:
            for n in range(count):
                await self.round(sleeper, f"z{self.number}-{n}")
                self.context.tick()

    async def round(self, sleeper: Process, thread: str) -> None:
        if self.kind == "peer":
            sleeper.ask("write", thread, f"{thread}-run")
        else:
            sleeper.ask("run", thread, f"{thread}-run", 100_000, 0.002)
        if (answer := await sleeper.answer()) != ["begun", thread]:
            self.outcome.fail(f"{thread}: the run did not start: {answer}")
            return
        await put_to_sleep(sleeper, self.context, self.outcome)
        asleep_at = time.monotonic()
        agent = Successor()
        next_input = {"threadId": thread, "runId": f"{thread}-next", "messages": []}
        try:
            async with asyncio.timeout(PATIENCE * self.context.patience):
                reading = asyncio.create_task(collect(await self.runner.run(agent, next_input)))
                self.note_takeover(thread, time.monotonic() - asleep_at)
                await agent.half.wait()
                sleeper.go_on()
                answer = [word for word in await sleeper.answer() if word != thread]
                agent.awake.set()
                successor_events = await reading
        except TimeoutError:
            self.outcome.fail(f"{thread} is stuck {PATIENCE} s after its process was stopped")
            sleeper.go_on()
            return
        if answer != LOST[self.kind]:
            self.outcome.fail(f"{thread}: the {self.kind} that slept ended with {answer}")
        await self.check(thread, successor_events)

    def note_takeover(self, thread: str, seconds: float) -> None:
        self.outcome.recovery_seconds.append(seconds)
        if seconds > BAR * self.context.patience:
            self.outcome.fail(f"{thread} was taken over only {seconds:.2f} s after its process was stopped")

    async def check(self, thread: str, successor_events: list[Event]) -> None:
        """Check that nothing follows the end of the run that was taken over."""
        raw = await compare.journal(self.runner, thread)
        compare.dense(self.outcome, thread, raw)
        end = next((n for n, event in enumerate(raw) if compare.is_interrupted(event)), len(raw))
        tail, successor = [bytes(event) for event in raw[end + 1 :]], [bytes(event) for event in successor_events]
        if tail != successor:
            self.outcome.count("stale events", max(1, len(set(tail) - set(successor))))
            self.outcome.fail(
                f"{thread}: after the takeover the log has {tail[:9]}, but the successor wrote {successor[:9]}"
            )
        await compare.same_folded(self.outcome, self.runner, thread, raw)
        if self.kind == "child":
            told = compare.readers(self.log)
            for kind in ("early", "late"):
                compare.compare(self.outcome, f"{thread}, {kind}", told[kind, thread], raw[: end + 1])


async def collect(stream: EventStream) -> list[Event]:
    return [event async for event in stream]


async def campaign(context: Context) -> Outcome:
    outcome = Outcome({"stops": 0, "stale events": 0})
    store = store_from_url(context.location, lease_ttl=TTL, resume_window=KEPT)
    async with AgentRunner(store, on_concurrent_run="enqueue") as runner, asyncio.TaskGroup() as group:
        zombies = min(AT_ONCE, context.rounds)
        for number in range(zombies):
            count = context.rounds // zombies + (number < context.rounds % zombies)
            group.create_task(Zombie(context, outcome, runner, number).rounds(count))
    return outcome


CAMPAIGN = Campaign(
    name="zombies",
    promise="a stale writer is fenced off",
    bar=f"0 stale events; taken over within TTL + 2 s ({TTL} s + 2 s); the zombie's readers are told",
    backends=("sqlite", "redis", "postgres"),
    small=4,
    full={"sqlite": 100, "redis": 100, "postgres": 100},
    run=lambda context: asyncio.run(campaign(context)),
    mutations={"write_under_any_token": "a write brings its own token, not the newest one"},
)
