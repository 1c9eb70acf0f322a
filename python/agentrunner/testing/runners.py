"""What readers are promised by a runner over the store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agentrunner.errors import RunAlreadyExists, ThreadAlreadyRunning
from agentrunner.events import fold, verify
from agentrunner.testing.base import Chapter, needs_shared
from agentrunner.testing.checks import check, equal, refused
from agentrunner.testing.writer import begin, given, lines, text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ag_ui.core import RunAgentInput

    from agentrunner import Event, EventStream
    from agentrunner.stores import Store

SAME = "a late reader ends with exactly what an early reader has"
STEPS = [*text("m1", "Hel", "lo"), *text("m2", "wor", "ld"), {"type": "STATE_SNAPSHOT", "snapshot": {"n": 1}}]


class Puppet:
    """An agent that says what it is told to."""

    def __init__(self, *events: dict[str, Any], whole: bool = False) -> None:
        self._events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.say(*events)
        if whole:
            self.end()

    def say(self, *events: dict[str, Any]) -> None:
        """Let it yield these next."""
        for event in events:
            self._events.put_nowait(event)

    def end(self) -> None:
        """Let it end in order."""
        self._events.put_nowait(None)

    async def run(self, input: RunAgentInput) -> AsyncIterator[dict[str, Any]]:
        """Yield RUN_STARTED, what it is told, RUN_FINISHED."""
        yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
        while (event := await self._events.get()) is not None:
            yield event
        yield {"type": "RUN_FINISHED", "threadId": input.thread_id, "runId": input.run_id}


class Runners(Chapter):
    """An `AgentRunner` over the store keeps its promises: to early readers, late ones, and those who come back."""

    async def test_early_and_late_readers(self) -> None:
        """A late reader ends with exactly what an early reader has, whenever it comes."""
        async with self.runner() as runner:
            puppet = Puppet()
            readers = [await runner.run(puppet, given("t", "r1"))]
            for step in STEPS:
                puppet.say(step)
                readers.append(await runner.connect("t"))
                # So that the next one finds the run a step further on.
                await _until(await runner.connect("t"), step)
            puppet.end()
            await _all_the_same(readers, await runner.connect("t"))

    async def test_readers_in_another_process(self, store: Store) -> None:
        """A reader in another process ends with the same, whenever it comes."""
        needs_shared(store)
        async with self.runner() as here, self.runner() as there:
            puppet = Puppet()
            readers = [await here.run(puppet, given("t", "r1"))]
            for step in STEPS:
                puppet.say(step)
                readers.append(await there.connect("t"))
                await _until(await there.connect("t"), step)
            check(await there.is_running("t"), "a live run is seen from every process")
            puppet.end()
            await _all_the_same(readers, await there.connect("t"))

    async def test_a_reader_comes_back_to_a_live_run(self) -> None:
        """From every cursor of a live run a reader goes on exactly behind it."""
        async with self.runner() as runner:
            puppet = Puppet(*STEPS)
            early = await runner.run(puppet, given("t", "r1"))
            seen = [await anext(early) for _ in range(len(STEPS) + 1)]
            back = [await runner.connect("t", event.cursor) for event in seen]
            compacted = await _until(await runner.connect("t"), STEPS[-1])
            behind = [await runner.connect("t", event.cursor) for event in compacted]
            puppet.end()
            seen += await _collect(early)
            for n, stream in enumerate(back):
                equal(lines(await _collect(stream)), lines(seen[n + 1 :]), f"go on right behind {seen[n].cursor}")
            for n, stream in enumerate(behind):
                equal(fold(compacted[: n + 1] + await _collect(stream)), fold(seen), SAME)

    async def test_a_reader_comes_back_to_ended_runs(self) -> None:
        """From every cursor it was given, raw or compacted, a reader goes on right behind it, the run over."""
        async with self.runner() as runner:
            early: list[Event] = []
            for n in range(3):
                early += await _collect(await runner.run(Puppet(*STEPS, whole=True), given("t", f"r{n}")))
            late = await _collect(await runner.connect("t"))
            equal(fold(late), fold(early), SAME)
            verify(late)
            for events in (early, late):
                for n, event in enumerate(events):
                    rest = await _collect(await runner.connect("t", event.cursor))
                    equal(fold(events[: n + 1] + rest), fold(early), f"{SAME}; it came back with {event.cursor}")
            again = await _collect(await runner.connect("t", late[4].cursor))
            equal(lines(again), lines(late[5:]), "a compacted form is the same each time")

    async def test_a_thread_is_the_same_when_opened_again(self) -> None:
        """What readers saw is what they see after the runner was closed and another is opened."""
        self.needs_durable()
        async with self.runner() as runner:
            early = await _collect(await runner.run(Puppet(*STEPS, whole=True), given("t", "r1")))
            late = await _collect(await runner.connect("t"))
        async with self.runner() as runner:
            equal(
                lines(await _collect(await runner.connect("t"))), lines(late), "the same frames under the same cursors"
            )
            rest = await _collect(await runner.connect("t", early[3].cursor))
            equal(lines(rest), lines(early[4:]), "within the resume window raw cursors stay exact")

    async def test_a_run_is_stopped(self) -> None:
        """`stop` ends a run in order, wherever it is called."""
        async with self.runner() as here:
            await self._stopped(here, here)

    async def test_a_run_is_stopped_from_another_process(self, store: Store) -> None:
        """A stop asked for in another process ends the run in order."""
        needs_shared(store)
        async with self.runner() as here, self.runner() as there:
            await self._stopped(here, there)

    async def _stopped(self, here: Any, there: Any) -> None:
        stream = await here.run(Puppet(*STEPS[:2]), given("t", "r1"))
        seen = await _until(stream, STEPS[1])
        equal(await there.stop("t", "another"), False, "another run is not meant")
        equal(await there.stop("t", "r1"), True, "the live run is to be stopped")
        equal(await there.stop("t"), False, "it is stopping already")
        seen += await _collect(stream)
        verify(seen)
        equal(seen[-1].type, "RUN_FINISHED", "a run that is stopped ends in order")
        equal(fold(await _collect(await there.connect("t"))), fold(seen), SAME)

    async def test_one_runner_wins(self, store: Store) -> None:
        """Of runners in several processes that start a run in one thread exactly one does."""
        needs_shared(store)
        async with self.runner() as here, self.runner() as there:
            for n in range(5):
                puppets = [Puppet() for _ in range(6)]
                starts = (
                    (here, there)[k % 2].run(puppet, given(f"t{n}", f"r{n}-{k}")) for k, puppet in enumerate(puppets)
                )
                outcomes = await asyncio.gather(*starts, return_exceptions=True)
                lost = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
                equal({type(error) for error in lost}, {ThreadAlreadyRunning}, "the others are told")
                equal(len(lost), 5, "one of six wins")
                for puppet in puppets:
                    puppet.end()
                for outcome in outcomes:
                    if not isinstance(outcome, BaseException):
                        await _collect(outcome)

    async def test_a_run_left_behind_comes_back(self) -> None:
        """A run whose process is gone is ended for its readers, with all they saw, and its thread is free."""
        self.needs_durable()
        async with self.opened(lease_ttl=0.3) as store:
            writer = await begin(store, "t", "r1")
            await writer.write(*STEPS[:3])
        async with self.runner(on_concurrent_run="enqueue") as runner:
            stream = await runner.run(Puppet(whole=True), given("t", "r2"))
            equal((await _collect(stream))[-1].type, "RUN_FINISHED", "the next run has its turn")
            events = await _collect(await runner.connect("t"))
            verify(events)
            codes = [event.to_dict().get("code") for event in events if event.type == "RUN_ERROR"]
            equal(codes, ["INTERRUPTED"], "the run left behind ends with a RUN_ERROR that says why")
            equal(fold(events).messages[0]["content"], "Hello", "with all that was shown of it")
            await refused(RunAlreadyExists, runner.run(Puppet(whole=True), given("t", "r1")), "its run id stays used")

    async def test_the_thread_list(self) -> None:
        """The runner's list, names, marks and deletion reach the store."""
        async with self.runner() as runner:
            for n in range(3):
                await _collect(await runner.run(Puppet(whole=True), given(f"t{n}", f"r{n}"), scope="alice"))
            await runner.threads.rename("t0", "name")
            await runner.threads.archive("t1")
            await runner.threads.delete("t2")
            (found,) = await runner.threads.list(scope="alice")
            equal((found.thread_id, found.name), ("t0", "name"), "one is archived, one is deleted")
            equal(await runner.threads.list(scope="bob"), [], "another scope has none")


async def _collect(stream: EventStream) -> list[Event]:
    return [event async for event in stream]


async def _until(stream: EventStream, step: dict[str, Any]) -> list[Event]:
    """Read until the agent's step is seen, compacted into another or not."""
    seen: list[Event] = []
    async for event in stream:
        seen.append(event)
        found = event.to_dict()
        same = all(found.get(key) == step.get(key) for key in ("type", "messageId"))
        if same and step.get("delta", "") in found.get("delta", ""):
            return seen
    raise AssertionError(f"the stream ended before {step['type']} was seen")


async def _all_the_same(readers: list[EventStream], last: EventStream) -> None:
    early, *others = [await _collect(stream) for stream in readers]
    verify(early)
    for late in (*others, await _collect(last)):
        verify(late)
        equal(fold(late), fold(early), SAME)
