"""What is open when a run ends, and its tool calls without a result."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import events as functions
from support.agents import Gate, agent_with, scripted_agent
from support.events import event_types, run_started, text_message, tool_call
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agentrunner import AgentRunner

FAILED = {"type": "RUN_ERROR", "message": "it failed"}
FINISHED = {"type": "RUN_FINISHED", "threadId": "t1", "runId": "r1"}
HALVES = [
    "",
    "{",
    '{"',
    '{"ci',
    '{"city"',
    '{"city":',
    '{"city":"Pa',
    '{"a":[1,',
    '{"a":tr',
    '{"a":-',
    '{"a":"\\',
    '{"a":"\\u00',
]
TOOLS = [{"name": "show", "description": "", "parameters": {}}]


def half_call(arguments: str, call: str = "c", tool: str = "f") -> list[dict[str, Any]]:
    return tool_call(call, tool, arguments)[:-1]


def read_calls(messages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the calls' ids with their results; all arguments must be JSON."""
    calls = [call for message in messages for call in message.get("toolCalls") or ()]
    for call in calls:
        json.loads(call["function"]["arguments"])
    results = {message["toolCallId"]: message["content"] for message in messages if message["role"] == "tool"}
    return {call["id"]: results.get(call["id"]) for call in calls}


async def run(
    runner: AgentRunner, *events: dict[str, Any], **fields: Any
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Run an agent that yields these; return what a page saw, and the calls' results."""
    live = await collect(await runner.run(scripted_agent([run_started(), *events]), make_input(**fields)))
    functions.verify(live)
    messages = await runner.threads.messages("t1")
    assert functions.fold(live).messages == messages
    return live, read_calls(messages)


@pytest.mark.fault("B9")
@pytest.mark.parametrize("arguments", HALVES)
async def test_half_written_arguments_become_json_before_the_agents_error(
    memory_factory: Callable[..., AgentRunner], arguments: str
) -> None:
    live, calls = await run(memory_factory(), *half_call(arguments), FAILED)
    assert live[-1]["message"] == "it failed"
    assert json.loads(calls["c"])["status"] == "error"


@pytest.mark.fault("B9")
async def test_everything_open_is_closed_before_the_agents_error(memory_factory: Callable[..., AgentRunner]) -> None:
    reasoning = [
        {"type": "REASONING_START", "messageId": "m"},
        {"type": "REASONING_MESSAGE_START", "messageId": "m", "role": "reasoning"},
    ]
    live, _ = await run(memory_factory(), *reasoning, *text_message("n", "x")[:-1], *half_call("{}"), FAILED)
    assert event_types(live)[-6:] == [
        "REASONING_MESSAGE_END", "REASONING_END", "TEXT_MESSAGE_END", "TOOL_CALL_END", "TOOL_CALL_RESULT", "RUN_ERROR",
    ]  # fmt: skip


@pytest.mark.fault("B9")
async def test_of_two_calls_the_one_without_a_result_gets_one(memory_factory: Callable[..., AgentRunner]) -> None:
    two = [*tool_call("c", "f", "{}", result="done"), *tool_call("d", "f", "{}")]
    _, calls = await run(memory_factory(), *two, FAILED)
    assert calls["c"] == "done"
    assert calls["d"] is not None


@pytest.mark.fault("B9")
@pytest.mark.parametrize("ending", [FAILED, None, "raise"])
async def test_a_whole_call_of_the_clients_stays_open_when_the_run_ends(
    memory_factory: Callable[..., AgentRunner], ending: Any
) -> None:
    runner = memory_factory()

    async def agent(input: Any) -> Any:
        for event in [*tool_call("own", "f", "{}", result="done"), *tool_call("c", "show", "{}")]:
            yield event
        if ending == "raise":
            raise RuntimeError("boom")
        if ending is not None:
            yield ending

    await collect(await runner.run(agent, make_input(tools=TOOLS)))
    assert read_calls(await runner.threads.messages("t1")) == {"own": "done", "c": None}


@pytest.mark.fault("B9")
async def test_a_stopped_run_answers_every_call(memory_factory: Callable[..., AgentRunner]) -> None:
    runner = memory_factory()
    gate = Gate([*tool_call("c", "show", "{}"), *half_call('{"a":', "d")])
    stream = await runner.run(gate.run, make_input(tools=TOOLS))
    await gate.reached.wait()
    await runner.stop("t1")
    functions.verify(await collect(stream))
    assert all(read_calls(await runner.threads.messages("t1")).values())


@pytest.mark.fault("B9")
async def test_a_crashed_run_is_recovered_with_arguments_that_are_json(
    sqlite_factory: Callable[..., AgentRunner],
) -> None:
    runner = sqlite_factory()
    gate = Gate(half_call('{"a":'))
    await runner.run(gate.run, make_input())
    await gate.reached.wait()
    await runner.aclose()
    calls = read_calls(await sqlite_factory().threads.messages("t1"))
    assert calls["c"] is not None


@pytest.mark.fault("B9")
async def test_a_run_that_finishes_closes_what_is_open(memory_factory: Callable[..., AgentRunner]) -> None:
    runner = memory_factory()
    agent = agent_with(*text_message("m", "x")[:-1], {"type": "STEP_STARTED", "stepName": "s"}, *half_call("{}"))
    live = await collect(await runner.run(agent, make_input()))
    functions.verify(live)
    # Nothing says that the agent would have answered it: the client may.
    assert read_calls(await runner.threads.messages("t1")) == {"c": None}


@pytest.mark.fault("B9")
async def test_an_agent_that_answers_its_calls_leaves_none_without_a_result(
    memory_factory: Callable[..., AgentRunner],
) -> None:
    runner = memory_factory()
    two = [*tool_call("c", "f", "{}", result="done"), *tool_call("d", "f", "{}")]
    await collect(await runner.run(agent_with(*two), make_input()))
    assert all(read_calls(await runner.threads.messages("t1")).values())


@pytest.mark.fault("B9")
async def test_a_call_that_an_interrupt_asks_about_stays_open(memory_factory: Callable[..., AgentRunner]) -> None:
    interrupt = {"type": "interrupt", "interrupts": [{"id": "i", "reason": "tool_call", "toolCallId": "d"}]}
    finished = {"type": "RUN_FINISHED", "threadId": "t1", "runId": "r1", "outcome": interrupt}
    two = [*tool_call("c", "f", "{}", result="done"), *tool_call("d", "f", "{}")]
    _, calls = await run(memory_factory(), *two, finished)
    assert calls == {"c": "done", "d": None}


@pytest.mark.fault("B9")
@pytest.mark.parametrize("ending", [FAILED, FINISHED], ids=["fails", "finishes"])
@pytest.mark.parametrize("arguments", HALVES[1:])
async def test_half_written_arguments_of_chunks_become_json_before_the_agents_end(
    memory_factory: Callable[..., AgentRunner], arguments: str, ending: dict[str, Any]
) -> None:
    chunk = {"type": "TOOL_CALL_CHUNK", "toolCallId": "c", "toolCallName": "f", "delta": arguments}
    live, calls = await run(memory_factory(), chunk, ending)
    assert live[-1]["type"] == ending["type"]
    assert json.loads(calls["c"])["status"] == "error"


HISTORIES: dict[str, tuple[list[dict[str, Any]], dict[str, str | None]]] = {
    "answers": (
        [
            {"id": "c", "role": "assistant", "toolCalls": [{"id": "c", "type": "function", "function": {
                "name": "f", "arguments": "{}"}}]},
            {"id": "r", "role": "tool", "toolCallId": "c", "content": "done"},
        ],
        {"c": "done"},
    ),
    "removes": ([{"id": "u", "role": "user", "content": "again"}], {}),
}  # fmt: skip


@pytest.mark.fault("B9")
@pytest.mark.parametrize("name", HISTORIES)
@pytest.mark.parametrize("is_open", [True, False], ids=["open", "ended"])
async def test_a_call_that_a_snapshot_settles_gets_no_result(
    memory_factory: Callable[..., AgentRunner], name: str, is_open: bool
) -> None:
    messages, expected = HISTORIES[name]
    snapshot = {"type": "MESSAGES_SNAPSHOT", "messages": messages}
    call = half_call("{}") if is_open else tool_call("c", "f", "{}")
    live, calls = await run(memory_factory(), *call, snapshot, FAILED)
    assert calls == expected
    assert not [event for event in live if event["type"] == "TOOL_CALL_RESULT"]


TAKEN: dict[str, list[dict[str, Any]]] = {
    "text": text_message("c-result", "x"),
    "reasoning": [
        {"type": "REASONING_MESSAGE_START", "messageId": "c-result", "role": "reasoning"},
        {"type": "REASONING_MESSAGE_END", "messageId": "c-result"},
    ],
    "another call's result": [
        *tool_call("d", "f", "{}"),
        {"type": "TOOL_CALL_RESULT", "toolCallId": "d", "messageId": "c-result", "content": "done"},
    ],
}


@pytest.mark.fault("B5")
@pytest.mark.fault("B9")
@pytest.mark.parametrize("name", TAKEN)
async def test_a_result_that_the_recorder_adds_has_a_message_id_of_its_own(
    memory_factory: Callable[..., AgentRunner], name: str
) -> None:
    live, calls = await run(memory_factory(), *TAKEN[name], *half_call("{}"), FAILED)
    assert calls["c"] is not None
    ids = [message["id"] for message in functions.fold(live).messages]
    assert len(set(ids)) == len(ids)


def snapshot(*calls: str, tool: str = "f", **results: str) -> dict[str, Any]:
    """Return an agent's history with these calls, and with some of their results."""
    messages: list[dict[str, Any]] = [{"id": "u", "role": "user", "content": "hi"}]
    for call in calls:
        function = {"name": tool, "arguments": "{}"}
        item = {"id": call, "type": "function", "function": function}
        messages.append({"id": f"of {call}", "role": "assistant", "toolCalls": [item]})
        if call in results:
            messages.append({"id": f"r {call}", "role": "tool", "toolCallId": call, "content": results[call]})
    return {"type": "MESSAGES_SNAPSHOT", "messages": messages}


@pytest.mark.fault("B9")
@pytest.mark.parametrize("ending", [FAILED, None, "raise"])
async def test_a_call_that_only_a_snapshot_has_gets_a_result_when_the_run_fails(
    memory_factory: Callable[..., AgentRunner], ending: Any
) -> None:
    runner = memory_factory()

    async def agent(input: Any) -> Any:
        yield snapshot("c")
        yield snapshot("c", "d", c="done")
        if ending == "raise":
            raise RuntimeError("boom")
        if ending is not None:
            yield ending

    await collect(await runner.run(agent_with(*text_message("m", "x")), make_input(run="r0")))
    live = await collect(await runner.run(agent, make_input(run="r1")))
    functions.verify(live)
    calls = read_calls(await runner.threads.messages("t1"))
    assert calls["c"] == "done"
    if ending is None:
        # A run without an error: the client may still answer.
        assert calls["d"] is None
    else:
        assert json.loads(calls["d"])["status"] == "error"


@pytest.mark.fault("B9")
async def test_a_snapshots_call_of_the_clients_tool_stays_open(memory_factory: Callable[..., AgentRunner]) -> None:
    _, calls = await run(memory_factory(), snapshot("c", tool="show"), FAILED, tools=TOOLS)
    assert calls == {"c": None}


@pytest.mark.fault("B9")
@pytest.mark.parametrize("is_started", [True, False], ids=["events", "snapshot only"])
@pytest.mark.parametrize("ending", [FAILED, "raise"])
async def test_a_call_that_an_earlier_runs_interrupt_asks_about_stays_open(
    runner_factory: Callable[..., AgentRunner], is_started: bool, ending: Any
) -> None:
    runner = runner_factory()
    interrupt = {"type": "interrupt", "interrupts": [{"id": "i", "reason": "tool_call", "toolCallId": "c"}]}
    finished = {"type": "RUN_FINISHED", "threadId": "t1", "runId": "r1", "outcome": interrupt}
    events = [*(tool_call("c", "f", "{}") if is_started else [snapshot("c")]), finished]
    await collect(await runner.run(scripted_agent([run_started(), *events]), make_input()))

    async def agent(input: Any) -> Any:
        yield snapshot("c", "d")
        if ending == "raise":
            raise RuntimeError("boom")
        yield ending

    resume = [{"interruptId": "i", "status": "resolved"}]
    await collect(await runner.run(agent, make_input(run="r2", resume=resume)))
    calls = read_calls(await runner.threads.messages("t1"))
    assert calls["c"] is None
    assert json.loads(calls["d"])["status"] == "error"


@pytest.mark.fault("B9")
async def test_a_crashed_run_is_recovered_with_results_of_its_snapshots_calls(
    sqlite_factory: Callable[..., AgentRunner],
) -> None:
    runner = sqlite_factory()
    interrupt = {"type": "interrupt", "interrupts": [{"id": "i", "reason": "tool_call", "toolCallId": "c"}]}
    finished = {"type": "RUN_FINISHED", "threadId": "t1", "runId": "r1", "outcome": interrupt}
    await collect(await runner.run(scripted_agent([run_started(), snapshot("c"), finished]), make_input()))
    gate = Gate([snapshot("c", "d")])
    resume = [{"interruptId": "i", "status": "resolved"}]
    await runner.run(gate.run, make_input(run="r2", resume=resume))
    await gate.reached.wait()
    await runner.aclose()
    calls = read_calls(await sqlite_factory().threads.messages("t1"))
    assert calls["c"] is None
    assert json.loads(calls["d"])["status"] == "error"
