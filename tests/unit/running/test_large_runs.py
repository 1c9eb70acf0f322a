"""Runs and states are limited, and a run the store cannot take frees its thread."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import AgentRunner, InMemoryAgentRunner, MemoryStore
from agentrunner._core import Claim, Recorder
from agentrunner.errors import StoreError, StoreFull, StoreValueTooLarge
from agentrunner.running import agent_reader, retries
from agentrunner.running.retries import MAX_ATTEMPTS, UnfinishedRun
from support.agents import Gate, agent_with
from support.events import event_types, text_message
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Callable

COPY = {"op": "copy", "from": "", "path": "/copy"}


def snapshot(size: int) -> dict[str, Any]:
    return {"type": "STATE_SNAPSHOT", "snapshot": {"text": "x" * size}}


def copies(count: int) -> list[dict[str, Any]]:
    return [
        {"type": "STATE_DELTA", "delta": [{"op": "copy", "from": "", "path": f"/copy{number}"}]}
        for number in range(count)
    ]


@pytest.mark.fault("A2")
async def test_a_state_that_is_copied_too_often_ends_the_run(sqlite_factory: Callable[..., AgentRunner]) -> None:
    runner = sqlite_factory(max_state_bytes=100_000)
    agent = agent_with(*text_message("m", "shown"), snapshot(20_000), *copies(70))
    events = await collect(await runner.run(agent, make_input("t1", "r1")))
    assert (events[-1]["type"], events[-1]["code"]) == ("RUN_ERROR", "STATE_TOO_LARGE")
    assert [message["content"] for message in await runner.threads.messages("t1")] == ["shown"]
    shown_state = await runner.threads.state("t1")
    assert set(shown_state) == {"text", "copy0", "copy1"}
    assert event_types(await runner.threads.events("t1"))[-1] == "RUN_ERROR"
    assert event_types([e async for e in runner.run(agent_with(), make_input("t1", "r2"))])[-1] == "RUN_FINISHED"


@pytest.mark.fault("A2")
async def test_a_run_over_its_limit_ends_and_keeps_what_was_shown(sqlite_factory: Callable[..., AgentRunner]) -> None:
    runner = sqlite_factory(max_run_bytes=50_000)
    agent = agent_with(*text_message("m", *["x" * 1000] * 100))
    events = await collect(await runner.run(agent, make_input("t1", "r1")))
    assert (events[-1]["type"], events[-1]["code"]) == ("RUN_ERROR", "RUN_TOO_LARGE")
    [message] = await runner.threads.messages("t1")
    assert 40_000 < len(message["content"]) < 50_000
    assert not await runner.is_running("t1")


@pytest.mark.fault("A2")
async def test_a_stores_own_limit_ends_a_run_too(
    memory_factory: Callable[..., InMemoryAgentRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryStore, "max_run_bytes", 50_000)
    runner = memory_factory()
    events = await collect(
        await runner.run(agent_with(*text_message("m", *["x" * 1000] * 100)), make_input("t1", "r1"))
    )
    assert events[-1]["code"] == "RUN_TOO_LARGE"
    assert event_types(await runner.threads.events("t1"))[-1] == "RUN_ERROR"


@pytest.mark.fault("A2")
async def test_a_run_that_the_store_refuses_is_stored_without_its_content(runner: AgentRunner) -> None:
    gate = Gate(text_message("m", *["x" * 1000] * 20))
    stream = await runner.run(gate.run, make_input("t1", "r1"))
    await gate.reached.wait()
    (await runner.open()).max_run_bytes = 10_000
    gate.open()
    await collect(stream)
    events = [event.to_dict() for event in await runner.threads.events("t1")]
    assert [event["type"] for event in events] == ["RUN_STARTED", "RUN_ERROR"]
    assert events[-1]["code"] == "RUN_TOO_LARGE"
    assert event_types([e async for e in runner.run(agent_with(), make_input("t1", "r2"))])[-1] == "RUN_FINISHED"


class Refusing(MemoryStore):
    """A store that refuses every run that has content."""

    refusals = 0

    async def finish(self, claim: Claim, recorder: Recorder, stored: bool) -> None:
        if recorder.compacted_bytes > 2000:
            self.refusals += 1
            raise StoreError("refused")
        await super().finish(claim, recorder, stored)


@pytest.mark.fault("A2")
async def test_a_run_that_cannot_be_finished_is_tried_less_and_less_and_then_freed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retries, "FIRST_PAUSE_SECONDS", 0.001)
    store = Refusing()
    async with AgentRunner(store) as runner:
        await collect(await runner.run(agent_with(*text_message("m", "x" * 3000)), make_input("t1", "r1")))
        pauses = []
        while (run := runner._table.unfinished.get("t1")) is not None:
            pauses.append(run.attempts)
            assert store.refusals == 1 + run.attempts
            await runner.recover("t1")
            await asyncio.sleep(0.005)
        assert max(pauses) == MAX_ATTEMPTS - 1
        events = [event.to_dict() for event in await runner.threads.events("t1")]
        assert [event["type"] for event in events] == ["RUN_STARTED", "RUN_ERROR"]
        await collect(await runner.run(agent_with(), make_input("t1", "r2")))


@pytest.mark.fault("A2")
def test_the_pause_between_two_attempts_doubles_up_to_a_minute() -> None:
    claim = Claim("t", "r", 1, 1, "{}")
    now = time.monotonic()

    def is_due(attempts: int, seconds_ago: float, **options: Any) -> bool:
        run = UnfinishedRun(claim, StoreError("refused"), attempts, now - seconds_ago, seconds=0.5)
        return run.is_due(is_urgent=options.get("is_urgent", False))

    for attempts, pause in enumerate([1, 2, 4, 8, 16, 32, 60, 60]):
        assert not is_due(attempts, pause - 0.5)
        assert is_due(attempts, pause + 0.1)
    # A caller who waits for the thread does not make the runner replay it again and again.
    assert not is_due(6, 3, is_urgent=True)
    assert is_due(6, 6, is_urgent=True)


@pytest.mark.fault("A2")
@pytest.mark.parametrize("error", [StoreFull("full"), StoreError("refused"), StoreValueTooLarge("large")])
def test_content_is_never_dropped_for_a_full_disk(error: StoreError) -> None:
    run = UnfinishedRun(Claim("t", "r", 1, 1, "{}"), error, MAX_ATTEMPTS * 10)
    assert run.may_lose_content is not isinstance(error, StoreFull)


@pytest.mark.fault("A3")
async def test_large_events_are_recorded_in_another_thread_in_order(
    memory_factory: Callable[..., InMemoryAgentRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads = []
    run_in_thread = agent_reader.run_in_thread

    async def note_thread(function: Callable[..., Any], *arguments: Any) -> Any:
        def call() -> Any:
            threads.append(threading.current_thread())
            return function(*arguments)

        return await run_in_thread(call)

    monkeypatch.setattr(agent_reader, "run_in_thread", note_thread)
    runner = memory_factory()
    delta = {"type": "STATE_DELTA", "delta": [COPY]}
    events = [*text_message("m1", "small"), snapshot(200_000), delta, *text_message("m2", "x" * 100_000, "y")]
    shown = await collect(await runner.run(agent_with(*events), make_input("t1", "r1")))
    assert [{**event} for event in shown[1:-1]] == events
    # The snapshot, the delta that copies it, the long text, and the run's end, which writes the state.
    assert len(threads) == 4
    assert threading.main_thread() not in threads


@pytest.mark.fault("A3")
async def test_a_large_event_that_is_refused_ends_the_run(memory_factory: Callable[..., InMemoryAgentRunner]) -> None:
    runner = memory_factory()
    bad = {"type": "TEXT_MESSAGE_CONTENT", "messageId": 5, "delta": "x" * 100_000}
    events = await collect(await runner.run(agent_with(bad), make_input("t1", "r1")))
    assert events[-1]["code"] == "INVALID_EVENT"


@pytest.mark.fault("A3")
async def test_a_run_can_be_stopped_while_a_large_event_is_recorded(
    memory_factory: Callable[..., InMemoryAgentRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on = asyncio.Event(), threading.Event()
    run_in_thread, loop = agent_reader.run_in_thread, asyncio.get_running_loop()

    async def slowly(function: Callable[..., Any], *arguments: Any) -> Any:
        def call() -> Any:
            loop.call_soon_threadsafe(began.set)
            go_on.wait()
            return function(*arguments)

        return await run_in_thread(call)

    monkeypatch.setattr(agent_reader, "run_in_thread", slowly)
    runner = memory_factory()
    stream = await runner.run(agent_with(snapshot(200_000)), make_input("t1", "r1"))
    await began.wait()
    assert await runner.stop("t1")
    go_on.set()
    assert event_types([event async for event in stream])[-1] == "RUN_FINISHED"


@pytest.mark.fault("A3")
@pytest.mark.fault("B5")
async def test_a_large_event_gets_an_id_of_its_own_even_when_its_run_is_stopped(
    memory_factory: Callable[..., InMemoryAgentRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = memory_factory()
    reasoning = [
        {"type": "REASONING_MESSAGE_START", "messageId": "m", "role": "reasoning"},
        {"type": "REASONING_MESSAGE_END", "messageId": "m"},
    ]
    await collect(await runner.run(agent_with(*reasoning), make_input("t1", "r1")))
    store = await runner.open()
    began, may_answer, known_ids = asyncio.Event(), asyncio.Event(), store.known_ids

    async def known_ids_late(thread_id: str, ids: list[str], **guard: Any) -> dict[str, int]:
        began.set()
        await may_answer.wait()
        return await known_ids(thread_id, ids, **guard)

    monkeypatch.setattr(store, "known_ids", known_ids_late)
    chunk = {"type": "TEXT_MESSAGE_CHUNK", "messageId": "m", "role": "assistant", "delta": "x" * 100_000}
    stream = await runner.run(agent_with(chunk), make_input("t1", "r2"))
    await began.wait()
    assert await runner.stop("t1")
    may_answer.set()
    events = [event.to_dict() async for event in stream]
    shown = [(event["messageId"], len(event["delta"])) for event in events if event["type"] == "TEXT_MESSAGE_CONTENT"]
    assert shown == [("m--own-text", 100_000)]
    assert events[-1]["type"] == "RUN_FINISHED"
