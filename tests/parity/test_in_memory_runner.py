"""The 49 tests of the reference's in-memory runner, on the memory and SQLite stores.

Those that concern memory run on that store only. Those about a second run on a running thread and about stopping are
in `test_in_memory_concurrency.py`.
"""

from __future__ import annotations

import asyncio
import time
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import AgentError, InMemoryAgentRunner, MemoryStore, fold
from support.agents import agent_with, scripted_agent
from support.events import event_types, run_finished, run_started, text_message, tool_call
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ag_ui.core import RunAgentInput

    from agentrunner import AgentRunner

    Factory = Callable[..., AgentRunner]
    MemoryFactory = Callable[..., InMemoryAgentRunner]


def snapshot(value: Any) -> dict[str, Any]:
    return {"type": "STATE_SNAPSHOT", "snapshot": value}


def failing(error: Exception, *events: Any) -> Any:
    async def agent(input: RunAgentInput) -> AsyncIterator[Any]:
        for event in events:
            yield event
        raise error

    return agent


async def emit(runner: AgentRunner, thread: str, run: str, *events: Any) -> list[dict[str, Any]]:
    return await collect(await runner.run(agent_with(*events), make_input(thread, run)))


async def fill(runner: AgentRunner, runs: int, threads: int) -> None:
    for n in range(runs):
        await emit(runner, f"t{n % threads}", f"r{n}", *text_message(f"m{n}", "x" * 500))


# RUN_STARTED


async def test_emits_run_started_before_agent_events(runner: AgentRunner) -> None:
    events = await emit(runner, "t1", "r1", *text_message("m1", "Hello"))
    assert event_types(events)[:4] == ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END"]


async def test_attaches_only_new_messages_to_the_input(runner: AgentRunner) -> None:
    await collect(await runner.run(agent_with(), make_input(run="r1", messages=["old-msg"])))
    request = make_input(run="r2", messages=["old-msg", "new-msg"], state={"counter": 1})
    events = await collect(await runner.run(agent_with(), request))
    connected = await collect(await runner.connect("t1"))
    for start in (events[0], next(e for e in connected if e["type"] == "RUN_STARTED" and e["runId"] == "r2")):
        assert [message["id"] for message in start["input"]["messages"]] == ["new-msg"]
        assert start["input"]["state"] == {"counter": 1}


async def test_preserves_agent_provided_input(runner: AgentRunner) -> None:
    own = run_started(input=make_input(messages=["mine"]))
    events = await collect(await runner.run(scripted_agent([own, run_finished()]), make_input(messages=["yours"])))
    assert events[0] == own


# Propagation


async def test_replays_agent_events_for_new_connections(runner: AgentRunner) -> None:
    events = await emit(runner, "t1", "r1", *text_message("m1", "Hello"))
    assert await collect(await runner.connect("t1")) == events
    assert event_types(events)[1:4] == event_types(text_message("m1", "Hello"))


async def test_keeps_agent_generated_tool_results(runner: AgentRunner) -> None:
    call = tool_call("c1", "search", "{}", result="found")
    await emit(runner, "t1", "r1", *call)
    assert (await collect(await runner.connect("t1")))[1:-1] == call


# Errors


@pytest.mark.parametrize("message", ["HTTP 401: Unauthorized", "Connection refused"])
async def test_propagates_the_agent_error_message(runner: AgentRunner, message: str) -> None:
    events = await collect(await runner.run(failing(AgentError(message), run_started()), make_input()))
    assert events[-1]["type"] == "RUN_ERROR"
    assert events[-1]["message"] == message
    assert "RUN_FINISHED" not in event_types(events)
    assert await collect(await runner.connect("t1")) == events


async def test_no_phantom_run_when_the_agent_throws_before_any_event(runner: AgentRunner) -> None:
    events = await collect(await runner.run(failing(OSError("no route")), make_input(run="r1")))
    assert event_types(events) == ["RUN_ERROR"]
    assert await runner.threads.list() == []
    assert await runner.threads.events("t1") == []
    await emit(runner, "t1", "r2")
    assert [thread.runs for thread in await runner.threads.list()] == [1]
    assert event_types(await runner.threads.events("t1")) == ["RUN_STARTED", "RUN_FINISHED"]


# Buffers


async def test_keeps_history_when_the_live_buffer_is_let_go(runner: AgentRunner) -> None:
    await emit(runner, "t1", "r1", *text_message("m1", "Hello"))
    assert runner._table.live_runs == {}
    assert [event.to_dict() for event in await runner.threads.events("t1")][1:-1] == text_message("m1", "Hello")


async def test_replays_full_history_across_a_run_boundary(runner: AgentRunner) -> None:
    await emit(runner, "t1", "r1", *text_message("a", "first"))
    await emit(runner, "t1", "r2", *text_message("b", "second"))
    events = await collect(await runner.connect("t1"))
    assert [event["delta"] for event in events if event["type"] == "TEXT_MESSAGE_CONTENT"] == ["first", "second"]


# Bounds: per store, never global


def test_a_second_runner_leaves_the_limits_of_the_first_alone() -> None:
    first, second = MemoryStore(max_threads=5), MemoryStore(max_threads=7)
    assert (first.max_threads, second.max_threads) == (5, 7)


def test_saying_one_limit_leaves_the_others_at_their_defaults() -> None:
    MemoryStore(max_threads=5)
    store = MemoryStore(max_bytes=1000)
    assert (store.max_threads, store.max_runs_per_thread, store.max_bytes) == (1000, 100, 1000)


def test_saying_no_limit_is_saying_every_default() -> None:
    MemoryStore(max_threads=5, max_runs_per_thread=5, max_bytes=5)
    store = MemoryStore()
    assert (store.max_threads, store.max_runs_per_thread, store.max_bytes) == (1000, 100, 512 * 1024 * 1024)


def test_making_runners_never_warns() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for threads in (1, 2, 1):
            InMemoryAgentRunner(max_threads=threads)
    assert caught == []


async def test_stays_bounded_in_thread_count(memory_factory: MemoryFactory) -> None:
    runner = memory_factory(max_threads=5)
    with pytest.warns(UserWarning, match="max_threads=5"):
        await fill(runner, 50, 50)
    assert {thread.thread_id for thread in await runner.threads.list()} == {f"t{n}" for n in range(45, 50)}


async def test_stays_bounded_in_runs_per_thread(memory_factory: MemoryFactory) -> None:
    runner = memory_factory(max_runs_per_thread=3)
    with pytest.warns(UserWarning, match="max_runs_per_thread=3"):
        await fill(runner, 20, 1)
    starts = [e.to_dict()["messageId"] for e in await runner.threads.events("t0") if e.type == "TEXT_MESSAGE_START"]
    assert starts == ["m17", "m18", "m19"]


async def test_evicts_under_a_sustained_workload(memory_factory: MemoryFactory) -> None:
    runner = memory_factory(max_threads=20, max_runs_per_thread=4)
    small = memory_factory(max_bytes=20_000)
    with pytest.warns(UserWarning, match="max_threads=20"):
        await fill(runner, 200, 40)
    with pytest.warns(UserWarning, match="max_bytes=20000"):
        await fill(small, 200, 40)
    threads = await runner.threads.list()
    assert len(threads) == 20
    assert all(1 <= thread.runs <= 4 for thread in threads)
    kept = await small.threads.list()
    assert 0 < len(kept) < 40
    sizes = [sum(len(bytes(e)) for e in await small.threads.events(thread.thread_id)) for thread in kept]
    assert 10_000 < sum(sizes) <= 20_000


# The list of threads


async def test_list_gives_a_summary_for_each_completed_thread(runner: AgentRunner) -> None:
    await collect(await runner.run(agent_with(), make_input("t1"), agent_id="test-agent"))
    (thread,) = await runner.threads.list()
    assert (thread.thread_id, thread.name, thread.agent_id) == ("t1", None, "test-agent")
    assert (thread.archived, thread.running, thread.runs) == (False, False, 1)
    assert 1_600_000_000_000 < thread.created_at == thread.updated_at


async def test_list_is_sorted_most_recently_updated_first(runner: AgentRunner) -> None:
    for n, thread in enumerate(("a", "b", "c", "a")):
        await emit(runner, thread, f"r{n}")
        # Both stores use milliseconds: threads of the same millisecond would be ordered by their ids.
        (latest,) = [t for t in await runner.threads.list() if t.thread_id == thread]
        while int(time.time() * 1000) <= latest.updated_at:
            await asyncio.sleep(0)
    assert [thread.thread_id for thread in await runner.threads.list()] == ["a", "c", "b"]


async def test_list_is_empty_when_none_has_run(runner: AgentRunner) -> None:
    assert await runner.threads.list() == []


# Messages


async def test_messages_gives_all_messages_with_their_content(runner: AgentRunner) -> None:
    await collect(await runner.run(agent_with(*text_message("m1", "Hel", "lo")), make_input(messages=["asked"])))
    assert await runner.threads.messages("t1") == [
        {"id": "asked", "role": "user", "content": "asked"},
        {"id": "m1", "role": "assistant", "content": "Hello"},
    ]


async def test_messages_of_an_unknown_thread_are_none(runner: AgentRunner) -> None:
    assert await runner.threads.messages("nowhere") == []


async def test_messages_reflect_the_full_history_of_the_most_recent_run(runner: AgentRunner) -> None:
    await collect(await runner.run(agent_with(*text_message("a1", "x")), make_input(run="r1", messages=["u1"])))
    request = make_input(run="r2", messages=["u1", {"id": "a1", "role": "assistant", "content": "x"}, "u2"])
    await collect(await runner.run(agent_with(*text_message("a2", "y")), request))
    assert [message["id"] for message in await runner.threads.messages("t1")] == ["u1", "a1", "u2", "a2"]


async def test_callers_may_change_the_messages_and_state_they_get(runner: AgentRunner) -> None:
    await emit(runner, "t1", "r1", *text_message("m1", "x"), snapshot({"list": [1]}))
    messages, state = await runner.threads.messages("t1"), await runner.threads.state("t1")
    messages[0]["content"] = "changed"
    messages.clear()
    state["list"].append(2)
    state["more"] = True
    assert (await runner.threads.messages("t1"))[0]["content"] == "x"
    assert await runner.threads.state("t1") == {"list": [1]}


async def test_messages_are_kept_when_a_later_run_brings_none(runner: AgentRunner) -> None:
    await emit(runner, "t1", "r1", *text_message("m1", "x"))
    await emit(runner, "t1", "r2")
    assert [message["id"] for message in await runner.threads.messages("t1")] == ["m1"]


# Events


async def test_events_gives_what_is_stored(runner: AgentRunner) -> None:
    await collect(await runner.run(scripted_agent([run_started(), *text_message("m1", "x")]), make_input()))
    events = [event.to_dict() for event in await runner.threads.events("t1")]
    assert event_types(events) == ["RUN_STARTED", *event_types(text_message("m1", "x")), "RUN_FINISHED"]


async def test_events_of_an_unknown_thread_are_none(runner: AgentRunner) -> None:
    assert await runner.threads.events("nowhere") == []


async def test_events_are_flattened_across_runs(runner: AgentRunner) -> None:
    await emit(runner, "t1", "r1")
    await emit(runner, "t1", "r2")
    assert [e.to_dict()["runId"] for e in await runner.threads.events("t1") if e.type == "RUN_STARTED"] == ["r1", "r2"]


# State


async def test_state_is_empty_without_a_snapshot_and_for_an_unknown_thread(runner: AgentRunner) -> None:
    await emit(runner, "t1", "r1", *text_message("m1", "x"))
    assert await runner.threads.state("t1") == {}
    assert await runner.threads.state("nowhere") == {}


async def test_state_is_the_last_snapshot(runner: AgentRunner) -> None:
    await emit(runner, "t1", "r1", snapshot({"n": 1}), snapshot({"n": 2}))
    assert await runner.threads.state("t1") == {"n": 2}


async def test_state_is_the_most_recent_across_runs_of_this_thread_only(runner: AgentRunner) -> None:
    await emit(runner, "t1", "r1", snapshot({"n": 1}))
    await emit(runner, "t1", "r2", {"type": "STATE_DELTA", "delta": [{"op": "replace", "path": "/n", "value": 2}]})
    await emit(runner, "t1", "r3")
    await emit(runner, "t2", "r4", snapshot({"n": 9}))
    assert await runner.threads.state("t1") == {"n": 2}
    assert await runner.threads.state("t2") == {"n": 9}


@pytest.mark.parametrize("value", [[1, 2], "text", 3, None])
async def test_state_is_the_snapshot_whatever_it_is(runner: AgentRunner, value: Any) -> None:
    await emit(runner, "t1", "r1", snapshot(value))
    assert await runner.threads.state("t1") == fold([snapshot(value)]).state
