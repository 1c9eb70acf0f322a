"""An agent is closed in its own task, and what it yields while it ends is recorded."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from agentrunner import text_agent
from agentrunner.harness import Harness
from agentrunner.running import agent_task
from support.events import event_types, run_finished, run_started, text_message
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ag_ui.core import RunAgentInput

    from agentrunner import InMemoryAgentRunner

    MemoryFactory = Callable[..., InMemoryAgentRunner]

INVALID = b'{"type":"TEXT_MESSAGE_END","messageId":"never opened"}'
OPEN, DELTA, CLOSE = text_message("m1", "half")


class Scoped:
    """An agent that yields events inside a cancel scope, and notes when it has left the scope."""

    def __init__(self, *events: Any, burst: bool = False) -> None:
        self.events = events
        self.burst = burst
        self.task: asyncio.Task[Any] | None = None
        self.left_in: asyncio.Task[Any] | None = None
        self.yielded = asyncio.Event()

    async def run(self, input: RunAgentInput) -> AsyncIterator[Any]:
        self.task = asyncio.current_task()
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep_forever)
                yield run_started(input.thread_id, input.run_id)
                for event in self.events:
                    yield event
                while self.burst:
                    self.yielded.set()
                    yield {"type": "CUSTOM", "name": "tick", "value": 1}
        finally:
            await asyncio.sleep(0)
            self.left_in = asyncio.current_task()


@pytest.mark.fault("B16")
@pytest.mark.parametrize("in_harness", [False, True])
async def test_a_generator_is_closed_in_its_own_task_after_an_invalid_event(
    in_harness: bool, memory_factory: MemoryFactory
) -> None:
    agent, runner = Scoped(INVALID), memory_factory()
    async with Harness(runner, {"default": agent}) if in_harness else contextlib.nullcontext() as harness:
        events = await collect(await runner.run(harness.agents["default"] if harness else agent, make_input()))
        # The reader sees the run's end after the thread is free, and the thread is free after the cleanup.
        assert agent.left_in is agent.task is not None
        assert events[-1]["code"] == "INVALID_EVENT_SEQUENCE"


@pytest.mark.fault("B16")
async def test_a_generator_is_closed_in_its_own_task_when_it_is_stopped_in_a_burst(
    memory_factory: MemoryFactory,
) -> None:
    agent, runner = Scoped(burst=True), memory_factory()
    stream = await runner.run(agent, make_input())
    await agent.yielded.wait()
    assert await runner.stop("t1")
    assert (await collect(stream))[-1]["type"] == "RUN_FINISHED"
    assert agent.left_in is agent.task is not None


@pytest.mark.fault("B16")
async def test_a_generator_is_closed_in_its_own_task_after_events_behind_the_end(
    memory_factory: MemoryFactory,
) -> None:
    agent, runner = Scoped(run_finished(), DELTA, burst=True), memory_factory()
    events = await collect(await runner.run(agent, make_input()))
    assert event_types(events) == ["RUN_STARTED", "RUN_FINISHED"]
    assert agent.left_in is agent.task is not None


@pytest.mark.fault("B16")
async def test_work_after_an_event_behind_the_end_is_done(memory_factory: MemoryFactory) -> None:
    saved: list[bool] = []

    async def agent(input: RunAgentInput) -> AsyncIterator[Any]:
        for event in (run_started(), run_finished(), OPEN, DELTA):
            yield event
        await asyncio.sleep(0)
        saved.append(True)

    await collect(await memory_factory().run(agent, make_input()))
    assert saved == [True]


@pytest.mark.fault("B16")
async def test_the_function_of_a_text_agent_is_closed_in_its_own_task(memory_factory: MemoryFactory) -> None:
    tasks: list[asyncio.Task[Any] | None] = []

    async def function(input: RunAgentInput) -> AsyncIterator[Any]:
        tasks.append(asyncio.current_task())
        try:
            yield "text"
            yield 5
        finally:
            await asyncio.sleep(0)
            tasks.append(asyncio.current_task())

    events = await collect(await memory_factory().run(text_agent(function), make_input()))
    assert events[-1]["type"] == "RUN_ERROR"
    assert len(tasks) == 2
    assert tasks[0] is tasks[1]


@pytest.mark.fault("B16")
async def test_the_cleanup_is_bounded_and_its_run_ends_with_the_invalid_event(
    memory_factory: MemoryFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_task, "STOP_GRACE_SECONDS", 0.05)
    monkeypatch.setattr(agent_task, "PATIENCE_SECONDS", 0.02)
    release = asyncio.Event()
    ended = asyncio.Event()

    async def agent(input: RunAgentInput) -> AsyncIterator[Any]:
        try:
            yield run_started()
            yield INVALID
        finally:
            while not release.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await release.wait()
            ended.set()

    events = await collect(await memory_factory().run(agent, make_input()))
    assert events[-1]["code"] == "INVALID_EVENT_SEQUENCE"
    release.set()
    await ended.wait()


class Flagged:
    """An agent whose `abort_run` sets a flag, after which it yields its last words."""

    def __init__(self, *last_words: Any) -> None:
        self.last_words = last_words
        self.started = asyncio.Event()
        self.flag = asyncio.Event()

    def abort_run(self) -> None:
        self.flag.set()

    async def run(self, input: RunAgentInput) -> AsyncIterator[Any]:
        yield run_started()
        yield OPEN
        self.started.set()
        await self.flag.wait()
        for event in self.last_words:
            await asyncio.sleep(0)
            yield event


class Caught(Flagged):
    """An agent that catches its cancellation."""

    abort_run = None

    async def run(self, input: RunAgentInput) -> AsyncIterator[Any]:
        yield run_started()
        yield OPEN
        self.started.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        for event in self.last_words:
            await asyncio.sleep(0)
            yield event


class CaughtAtYield(Caught):
    """An agent that never waits, and is cancelled while it is suspended at a `yield`."""

    async def run(self, input: RunAgentInput) -> AsyncIterator[Any]:
        yield run_started()
        yield OPEN
        self.started.set()
        with contextlib.suppress(asyncio.CancelledError):
            while True:
                yield {"type": "CUSTOM", "name": "tick", "value": 1}
        for event in self.last_words:
            yield event


@pytest.mark.fault("B10")
@pytest.mark.parametrize("in_harness", [False, True])
@pytest.mark.parametrize("kind", [Flagged, Caught, CaughtAtYield])
@pytest.mark.parametrize(
    "ending",
    [
        [],
        [{"type": "RUN_ERROR", "message": "I was told to stop", "code": "ABORTED"}],
        [run_finished(outcome={"type": "cancelled"})],
    ],
    ids=["no end", "error", "cancelled"],
)
async def test_the_last_words_of_a_stopped_agent_are_recorded(
    ending: list[Any], kind: type[Flagged], in_harness: bool, memory_factory: MemoryFactory
) -> None:
    agent, runner = kind(DELTA, CLOSE, *ending), memory_factory()
    async with Harness(runner, {"default": agent}) if in_harness else contextlib.nullcontext() as harness:
        stream = await runner.run(harness.agents["default"] if harness else agent, make_input())
        await agent.started.wait()
        assert await runner.stop("t1")
        live = [event for event in await collect(stream) if event["type"] != "CUSTOM"]
        assert live[1:4] == [OPEN, DELTA, CLOSE]
        assert live[4:] == (ending or [run_finished()])
        assert (await runner.threads.events("t1"))[-1].to_dict() == live[-1]


@pytest.mark.fault("B10")
async def test_the_last_words_of_an_interrupted_agent_are_recorded_but_not_its_end(
    memory_factory: MemoryFactory,
) -> None:
    agent, runner = Caught(DELTA, CLOSE, run_finished()), memory_factory()
    stream = await runner.run(agent, make_input())
    await agent.started.wait()
    await runner.drain(0)
    events = await collect(stream)
    assert events[1:4] == [OPEN, DELTA, CLOSE]
    assert [event.get("code") for event in events[4:]] == ["INTERRUPTED"]


@pytest.mark.fault("A9")
async def test_an_agent_that_is_given_up_frees_its_slot_thread_and_record(
    memory_factory: MemoryFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_task, "STOP_GRACE_SECONDS", 0.02)
    release, started, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def agent(input: RunAgentInput) -> AsyncIterator[Any]:
        yield run_started(input.thread_id, input.run_id)
        if input.run_id != "r1":
            return
        started.set()
        try:
            while not release.is_set():
                with contextlib.suppress(asyncio.CancelledError):
                    await release.wait()
            yield OPEN
            yield DELTA
        finally:
            ended.set()

    runner = memory_factory()
    async with Harness(runner, {"default": agent}, max_concurrent_runs=1) as harness:
        # The stream is not read and `Harness.run` is not called, as if the client had left.
        await runner.run(harness.agents["default"], make_input())
        await started.wait()
        assert await runner.stop("t1")
        assert (await harness.run("next", thread_id="t2", run_id="r2")).state == "completed"
        assert (await harness.wait("r1")).state == "cancelled"
        await collect(await runner.run(harness.agents["default"], make_input(run="r3")))
        before = await runner.threads.events("t1")
        release.set()
        await ended.wait()
        assert [event.type for event in before] == ["RUN_STARTED", "RUN_FINISHED"] * 2
        assert await runner.threads.events("t1") == before


@pytest.mark.fault("A11")
async def test_readers_that_leave_a_quiet_run_leave_nothing_behind(memory_factory: MemoryFactory) -> None:
    agent, runner = Caught(), memory_factory()
    stream = await runner.run(agent, make_input())
    await agent.started.wait()
    driver = runner.driver("t1")
    assert driver is not None
    for _ in range(20):
        reader = asyncio.create_task(collect(await runner.connect("t1")))
        while not driver._waiters:
            await asyncio.sleep(0)
        reader.cancel()
        await asyncio.wait([reader])
        assert not driver._waiters
    await runner.stop("t1")
    await collect(stream)
