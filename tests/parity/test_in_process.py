"""The 20 + 3 tests of the reference's in-process runner, on both stores.

Event kinds unknown to AG-UI pass through.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import AgentError, ThreadAlreadyRunning
from support.agents import Gate, agent_with, scripted_agent
from support.events import event_types, run_finished, run_started, text_message, tool_call
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ag_ui.core import RunAgentInput

    from agentrunner import AgentRunner


def opaque(name: str, count: int, kind: str = "message") -> list[dict[str, Any]]:
    return [{"type": kind, "id": f"{name}-{n}", "content": f"{name} {n}"} for n in range(count)]


def ids(events: list[dict[str, Any]]) -> list[str]:
    """Return the ids of the opaque events, in order."""
    return [event["id"] for event in events if "id" in event]


async def ran(runner: AgentRunner, run: str, *events: Any, thread: str = "t1") -> list[dict[str, Any]]:
    return await collect(await runner.run(agent_with(*events), make_input(thread, run)))


async def read_thread(runner: AgentRunner, thread: str = "t1") -> list[dict[str, Any]]:
    return await collect(await runner.connect(thread))


async def test_a_single_agent_gives_all_its_events(runner: AgentRunner) -> None:
    assert (await ran(runner, "r1", *opaque("a", 5)))[1:-1] == opaque("a", 5)


async def test_connect_after_completion_gets_past_events(runner: AgentRunner) -> None:
    events = await ran(runner, "r1", *opaque("a", 5))
    assert await read_thread(runner) == events


async def test_accumulates_runs_in_order(runner: AgentRunner) -> None:
    for n in range(3):
        await ran(runner, f"r{n}", *opaque(f"run{n}", 5))
    assert ids(await read_thread(runner)) == [f"run{n}-{i}" for n in range(3) for i in range(5)]


async def test_connect_during_run_1_gets_only_run_1(runner: AgentRunner) -> None:
    gate = Gate(opaque("a", 2), opaque("a-late", 2))
    stream = await runner.run(gate, make_input(run="r1"))
    await gate.reached.wait()
    reader = await runner.connect("t1")
    gate.open()
    first = await collect(stream)
    await ran(runner, "r2", *opaque("b", 4))
    assert await collect(reader) == first
    assert len(ids(await read_thread(runner))) == 8


async def test_keeps_order_across_kinds_of_agents(runner: AgentRunner) -> None:
    async def slow(input: RunAgentInput) -> AsyncIterator[Any]:
        yield run_started(input.thread_id, input.run_id)
        for event in opaque("slow", 3):
            await asyncio.sleep(0)
            yield event
        yield run_finished(input.thread_id, input.run_id)

    await collect(await runner.run(slow, make_input(run="r1")))
    await ran(runner, "r2", *opaque("fast", 3))
    await collect(await runner.run(slow, make_input(run="r3")))
    names = [name.rsplit("-", 1)[0] for name in ids(await read_thread(runner))]
    assert names == ["slow"] * 3 + ["fast"] * 3 + ["slow"] * 3


async def test_concurrent_connections_see_the_same(runner: AgentRunner) -> None:
    gate = Gate(opaque("a", 3), opaque("b", 3))
    stream = await runner.run(gate, make_input())
    readers = [await runner.connect("t1") for _ in range(3)]
    gate.open()
    events = await collect(stream)
    assert ids(events) == ids([*opaque("a", 3), *opaque("b", 3)])
    assert await asyncio.gather(*map(collect, readers)) == [events] * 3


async def test_late_subscribers_all_get_every_event(runner: AgentRunner) -> None:
    gate = Gate(opaque("a", 5), opaque("b", 5))
    stream = await runner.run(gate, make_input())
    await gate.reached.wait()
    late = [await runner.connect("t1") for _ in range(3)]
    gate.open()
    events = await collect(stream)
    late.append(await runner.connect("t1"))
    for reader in late:
        seen = await collect(reader)
        assert seen == events
        assert len(ids(seen)) == 10


async def test_throws_when_the_thread_is_running_already(runner: AgentRunner) -> None:
    gate = Gate()
    stream = await runner.run(gate, make_input(run="r1"))
    with pytest.raises(ThreadAlreadyRunning, match="Thread already running"):
        await runner.run(agent_with(), make_input(run="r2"))
    gate.open()
    await collect(stream)


def failing(*events: Any) -> Any:
    async def agent(input: RunAgentInput) -> AsyncIterator[Any]:
        yield run_started(input.thread_id, input.run_id)
        for event in events:
            yield event
        raise AgentError("broken")

    return agent


async def test_events_before_an_error_are_kept_and_the_error_is_last(runner: AgentRunner) -> None:
    events = await collect(await runner.run(failing(*opaque("a", 3)), make_input()))
    assert ids(events) == ["a-0", "a-1", "a-2"]
    assert (events[-1]["type"], events[-1]["message"]) == ("RUN_ERROR", "broken")


async def test_can_run_again_after_an_error_and_connect_has_both(runner: AgentRunner) -> None:
    await collect(await runner.run(failing(*opaque("a", 2)), make_input(run="r1")))
    await ran(runner, "r2", *opaque("b", 2))
    assert ids(await read_thread(runner)) == ["a-0", "a-1", "b-0", "b-1"]


async def test_is_not_running_after_an_error(runner: AgentRunner) -> None:
    await collect(await runner.run(failing(), make_input()))
    assert await runner.is_running("t1") is False


async def test_connect_to_an_unknown_thread_is_empty(runner: AgentRunner) -> None:
    assert await read_thread(runner, "nowhere") == []


async def test_preserves_a_thousand_events(runner: AgentRunner) -> None:
    events = await ran(runner, "r1", *opaque("a", 1000, "bulk"))
    assert events[1:-1] == opaque("a", 1000, "bulk")
    assert await read_thread(runner) == events


async def test_an_unknown_thread_is_not_running(runner: AgentRunner) -> None:
    assert await runner.is_running("nowhere") is False


async def test_is_running_from_start_to_end(runner: AgentRunner) -> None:
    assert await runner.is_running("t1") is False
    gate = Gate()
    stream = await runner.run(gate, make_input())
    assert await runner.is_running("t1") is True
    gate.open()
    await collect(stream)
    assert await runner.is_running("t1") is False


async def test_stop_of_an_unknown_thread_is_false(runner: AgentRunner) -> None:
    assert await runner.stop("nowhere") is False


async def test_stop_ends_an_active_run_with_run_finished(runner: AgentRunner) -> None:
    gate = Gate(opaque("a", 2))
    stream = await runner.run(gate, make_input())
    await gate.reached.wait()
    assert await runner.stop("t1") is True
    events = await collect(stream)
    assert ids(events) == ["a-0", "a-1"]
    assert events[-1] == run_finished()


async def test_closes_open_text_and_tools_on_stop(runner: AgentRunner) -> None:
    gate = Gate([text_message("m1")[0], tool_call("c1", "search")[0]])
    stream = await runner.run(gate, make_input())
    await gate.reached.wait()
    await runner.stop("t1")
    ending = event_types(await collect(stream))[-5:]
    assert ending == [
        "TEXT_MESSAGE_END",
        # The call has no arguments yet, and a model service refuses a text that is no JSON.
        "TOOL_CALL_ARGS",
        "TOOL_CALL_END",
        "TOOL_CALL_RESULT",
        "RUN_FINISHED",
    ]


async def test_threads_are_isolated(runner: AgentRunner) -> None:
    gates = {name: Gate(opaque(name, 2), opaque(f"{name}-late", 1)) for name in ("a", "b")}
    streams = [await runner.run(gate, make_input(name, f"run-{name}")) for name, gate in gates.items()]
    for gate in gates.values():
        await gate.reached.wait()
    assert await runner.stop("a")
    assert await runner.is_running("b") is True
    gates["b"].open()
    assert [ids(events) for events in await asyncio.gather(*map(collect, streams))] == [
        ["a-0", "a-1"],
        ["b-0", "b-1", "b-late-0"],
    ]
    assert ids(await read_thread(runner, "a")) == ["a-0", "a-1"]


async def test_rapid_mixed_sequential_runs_stay_in_order(runner: AgentRunner) -> None:
    for n in range(4):
        await ran(runner, f"r{n}", *opaque(f"x{n}", 3, ("message", "bulk")[n % 2]))
    assert ids(await read_thread(runner)) == [f"x{n}-{i}" for n in range(4) for i in range(3)]


async def test_a_subscriber_between_runs_sees_the_first_only(runner: AgentRunner) -> None:
    first = await ran(runner, "r1", *opaque("a", 2))
    between = await runner.connect("t1")
    assert await collect(between) == first
    await ran(runner, "r2", *opaque("b", 2))
    assert ids(await read_thread(runner)) == ["a-0", "a-1", "b-0", "b-1"]


# The messages of the input


async def test_run_started_carries_every_input_message(runner: AgentRunner) -> None:
    run_input = make_input(messages=["one", "two"])
    events = await collect(await runner.run(agent_with(), run_input))
    assert events[0]["input"] == run_input


async def test_run_started_of_later_runs_carries_only_new_messages(runner: AgentRunner) -> None:
    await collect(await runner.run(agent_with(*text_message("answer", "x")), make_input(run="r1", messages=["one"])))
    run_input = make_input(run="r2", messages=["one", {"id": "answer", "role": "assistant", "content": "x"}, "two"])
    events = await collect(await runner.run(agent_with(), run_input))
    assert [message["id"] for message in events[0]["input"]["messages"]] == ["two"]


async def test_an_input_the_agent_provides_is_preserved(runner: AgentRunner) -> None:
    own = run_started(input=make_input(messages=["mine"], forwardedProps={"a": 1}))
    events = await collect(await runner.run(scripted_agent([own, run_finished()]), make_input(messages=["yours"])))
    assert events == [own, run_finished()]
