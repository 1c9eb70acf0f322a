"""Tests for a runner over the store: what it promises to readers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agentrunner.errors import RunAlreadyExists, ThreadAlreadyRunning
from agentrunner.events import fold, verify
from agentrunner.testing.base import ConformanceTests, needs_shared
from agentrunner.testing.checks import check, check_equal, check_raises
from agentrunner.testing.writer import begin, lines, make_run_input, text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ag_ui.core import RunAgentInput

    from agentrunner import Event, EventStream
    from agentrunner.stores import Store

SAME = "a late reader ends with exactly what an early reader has"
STEPS = [*text("m1", "Hel", "lo"), *text("m2", "wor", "ld"), {"type": "STATE_SNAPSHOT", "snapshot": {"n": 1}}]


class Puppet:
    """An agent that yields the events that the test hands it."""

    def __init__(self, *events: dict[str, Any], ends: bool = False) -> None:
        self._events: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.say(*events)
        if ends:
            self.end()

    def say(self, *events: dict[str, Any]) -> None:
        """Make the agent yield these events next."""
        for event in events:
            self._events.put_nowait(event)

    def end(self) -> None:
        """Make the agent end its run in order."""
        self._events.put_nowait(None)

    async def run(self, input: RunAgentInput) -> AsyncIterator[dict[str, Any]]:
        """Yield `RUN_STARTED`, the events of the test, and `RUN_FINISHED`."""
        yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
        while (event := await self._events.get()) is not None:
            yield event
        yield {"type": "RUN_FINISHED", "threadId": input.thread_id, "runId": input.run_id}


class RunnerTests(ConformanceTests):
    """An `AgentRunner` over the store keeps its promises to all readers."""

    async def test_a_late_reader_ends_with_what_an_early_reader_has(self) -> None:
        """A late reader ends with exactly what an early reader has, whenever it connects."""
        async with self.runner() as runner:
            puppet = Puppet()
            readers = [await runner.run(puppet, make_run_input("t", "r1"))]
            for step in STEPS:
                puppet.say(step)
                readers.append(await runner.connect("t"))
                # So that the next one finds the run a step further on.
                await _until(await runner.connect("t"), step)
            puppet.end()
            await _all_the_same(readers, await runner.connect("t"))

    async def test_a_reader_in_another_process_ends_with_the_same(self, store: Store) -> None:
        """A reader in another process ends with the same as one in the run's process."""
        needs_shared(store)
        async with self.runner() as here, self.runner() as there:
            puppet = Puppet()
            readers = [await here.run(puppet, make_run_input("t", "r1"))]
            for step in STEPS:
                puppet.say(step)
                readers.append(await there.connect("t"))
                await _until(await there.connect("t"), step)
            check(await there.is_running("t"), "a live run is seen from every process")
            puppet.end()
            await _all_the_same(readers, await there.connect("t"))

    async def test_a_reader_can_resume_a_live_run_from_every_cursor(self) -> None:
        """From every cursor of a live run, a reader continues exactly after it."""
        async with self.runner() as runner:
            puppet = Puppet(*STEPS)
            early = await runner.run(puppet, make_run_input("t", "r1"))
            seen = [await anext(early) for _ in range(len(STEPS) + 1)]
            back = [await runner.connect("t", event.cursor) for event in seen]
            compacted = await _until(await runner.connect("t"), STEPS[-1])
            resumed = [await runner.connect("t", event.cursor) for event in compacted]
            puppet.end()
            seen += await _collect(early)
            for n, stream in enumerate(back):
                check_equal(
                    lines(await _collect(stream)), lines(seen[n + 1 :]), f"continue right after {seen[n].cursor}"
                )
            for n, stream in enumerate(resumed):
                check_equal(fold(compacted[: n + 1] + await _collect(stream)), fold(seen), SAME)

    async def test_a_reader_can_resume_ended_runs_from_every_cursor(self) -> None:
        """From every cursor, raw or compacted, a reader continues right after it."""
        async with self.runner() as runner:
            early: list[Event] = []
            for n in range(3):
                early += await _collect(await runner.run(Puppet(*STEPS, ends=True), make_run_input("t", f"r{n}")))
            late = await _collect(await runner.connect("t"))
            check_equal(fold(late), fold(early), SAME)
            verify(late)
            for events in (early, late):
                for n, event in enumerate(events):
                    rest = await _collect(await runner.connect("t", event.cursor))
                    check_equal(fold(events[: n + 1] + rest), fold(early), f"{SAME}; it came back with {event.cursor}")
            again = await _collect(await runner.connect("t", late[4].cursor))
            check_equal(lines(again), lines(late[5:]), "a compacted form is the same each time")

    async def test_a_thread_is_the_same_after_the_runner_is_reopened(self) -> None:
        """Readers see the same before a runner is closed and after another is opened."""
        self.needs_durable()
        async with self.runner() as runner:
            early = await _collect(await runner.run(Puppet(*STEPS, ends=True), make_run_input("t", "r1")))
            late = await _collect(await runner.connect("t"))
        async with self.runner() as runner:
            check_equal(
                lines(await _collect(await runner.connect("t"))), lines(late), "the same frames under the same cursors"
            )
            rest = await _collect(await runner.connect("t", early[3].cursor))
            check_equal(lines(rest), lines(early[4:]), "within the resume window raw cursors stay exact")

    async def test_stop_ends_a_run_in_order(self) -> None:
        """`stop` ends the live run in order."""
        async with self.runner() as here:
            await self._check_stopped(here, here)

    async def test_stop_from_another_process_ends_a_run_in_order(self, store: Store) -> None:
        """`stop` in another process ends the live run in order."""
        needs_shared(store)
        async with self.runner() as here, self.runner() as there:
            await self._check_stopped(here, there)

    async def _check_stopped(self, here: Any, there: Any) -> None:
        stream = await here.run(Puppet(*STEPS[:2]), make_run_input("t", "r1"))
        seen = await _until(stream, STEPS[1])
        check_equal(await there.stop("t", "another"), False, "another run is not meant")
        check_equal(await there.stop("t", "r1"), True, "the live run is to be stopped")
        check_equal(await there.stop("t"), False, "it is stopping already")
        seen += await _collect(stream)
        verify(seen)
        check_equal(seen[-1].type, "RUN_FINISHED", "a run that is stopped ends in order")
        check_equal(fold(await _collect(await there.connect("t"))), fold(seen), SAME)

    async def test_of_several_runners_exactly_one_starts_a_run(self, store: Store) -> None:
        """Of runners in several processes that start a run in one thread, exactly one does."""
        needs_shared(store)
        async with self.runner() as here, self.runner() as there:
            for n in range(5):
                puppets = [Puppet() for _ in range(6)]
                starts = (
                    (here, there)[k % 2].run(puppet, make_run_input(f"t{n}", f"r{n}-{k}"))
                    for k, puppet in enumerate(puppets)
                )
                outcomes = await asyncio.gather(*starts, return_exceptions=True)
                lost = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
                check_equal({type(error) for error in lost}, {ThreadAlreadyRunning}, "the others raise")
                check_equal(len(lost), 5, "one of six wins")
                for puppet in puppets:
                    puppet.end()
                for outcome in outcomes:
                    if not isinstance(outcome, BaseException):
                        await _collect(outcome)

    async def test_a_run_whose_process_is_gone_is_ended_for_its_readers(self) -> None:
        """A run whose process is gone ends with all that was shown, and its thread is free."""
        self.needs_durable()
        async with self.open_store(lease_ttl=0.3) as store:
            writer = await begin(store, "t", "r1")
            await writer.write(*STEPS[:3])
        async with self.runner(on_concurrent_run="enqueue") as runner:
            stream = await runner.run(Puppet(ends=True), make_run_input("t", "r2"))
            check_equal((await _collect(stream))[-1].type, "RUN_FINISHED", "the next run has its turn")
            verify(await _collect(await runner.connect("t")))
            events = await _collect(await runner.snapshot("t"))
            codes = [event.to_dict().get("code") for event in events if event.type == "RUN_ERROR"]
            check_equal(codes, ["INTERRUPTED"], "the run that was left ends with a RUN_ERROR and its code")
            check_equal(fold(events).messages[0]["content"], "Hello", "with all that was shown of it")
            await check_raises(
                RunAlreadyExists, runner.run(Puppet(ends=True), make_run_input("t", "r1")), "its run id stays used"
            )

    async def test_the_runners_thread_methods_reach_the_store(self) -> None:
        """The runner's list, names, archive marks and deletions reach the store."""
        async with self.runner() as runner:
            for n in range(3):
                await _collect(await runner.run(Puppet(ends=True), make_run_input(f"t{n}", f"r{n}"), scope="alice"))
            await runner.threads.rename("t0", "name")
            await runner.threads.archive("t1")
            await runner.threads.delete("t2")
            (thread,) = await runner.threads.list(scope="alice")
            check_equal((thread.thread_id, thread.name), ("t0", "name"), "one is archived, one is deleted")
            check_equal(await runner.threads.list(scope="bob"), [], "another scope has none")


async def _collect(stream: EventStream) -> list[Event]:
    return [event async for event in stream]


async def _until(stream: EventStream, step: dict[str, Any]) -> list[Event]:
    """Read until the agent's event is seen, by itself or compacted with others."""
    seen: list[Event] = []
    async for event in stream:
        seen.append(event)
        fields = event.to_dict()
        same = all(fields.get(key) == step.get(key) for key in ("type", "messageId"))
        if same and step.get("delta", "") in fields.get("delta", ""):
            return seen
    raise AssertionError(f"the stream ended before {step['type']} was seen")


async def _all_the_same(readers: list[EventStream], last: EventStream) -> None:
    early, *others = [await _collect(stream) for stream in readers]
    verify(early)
    for late in (*others, await _collect(last)):
        verify(late)
        check_equal(fold(late), fold(early), SAME)
