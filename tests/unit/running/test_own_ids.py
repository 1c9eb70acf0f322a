"""Messages and tool calls whose ids their thread has used for something else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.agents import agent_with
from support.compared_runs import calls_of, run_all
from support.events import event_types, text_message, tool_call
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agentrunner import AgentRunner

F = tool_call("call_0", "f", '{"a":', "1}", result="of f")
G = tool_call("call_0", "g", '{"b":', "2}", result="of g")
CALLS = [("f", '{"a":1}', "of f"), ("g", '{"b":2}', "of g")]


def reasoning(message: str, *deltas: str) -> list[dict[str, Any]]:
    return [
        {"type": "REASONING_START", "messageId": message},
        {"type": "REASONING_MESSAGE_START", "messageId": message, "role": "reasoning"},
        *({"type": "REASONING_MESSAGE_CONTENT", "messageId": message, "delta": delta} for delta in deltas),
        {"type": "REASONING_MESSAGE_END", "messageId": message},
        {"type": "REASONING_END", "messageId": message},
    ]


def activity(message: str) -> dict[str, Any]:
    return {"type": "ACTIVITY_SNAPSHOT", "messageId": message, "activityType": "plan", "content": {"step": 1}}


def as_chunks(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return a tool call as chunks."""
    start, *deltas = [event for event in events if event["type"] in ("TOOL_CALL_START", "TOOL_CALL_ARGS")]
    first = {**start, "type": "TOOL_CALL_CHUNK"}
    return [first, *({**delta, "type": "TOOL_CALL_CHUNK"} for delta in deltas), *events[-1:]]


@pytest.mark.fault("B6")
@pytest.mark.parametrize("chunks", [False, True], ids=["events", "chunks"])
@pytest.mark.parametrize("is_one_run", [True, False], ids=["one run", "two runs"])
async def test_an_id_used_twice_is_two_calls_each_with_its_result(
    memory_factory: Callable[..., AgentRunner], chunks: bool, is_one_run: bool
) -> None:
    calls = [as_chunks(F), as_chunks(G)] if chunks else [F, G]
    _, messages = await run_all(memory_factory(), *([calls[0] + calls[1]] if is_one_run else calls))
    assert calls_of(messages) == CALLS


@pytest.mark.fault("B6")
async def test_results_after_both_calls_go_to_the_calls_in_order(memory_factory: Callable[..., AgentRunner]) -> None:
    _, messages = await run_all(memory_factory(), [*F[:-1], *G[:-1], F[-1], {**G[-1], "messageId": "other"}])
    assert calls_of(messages) == CALLS


@pytest.mark.fault("B6")
async def test_an_id_can_be_used_in_every_run(runner_factory: Callable[..., AgentRunner]) -> None:
    runs = [tool_call("call_0", "f", str(number), result=str(number)) for number in range(12)]
    _, messages = await run_all(runner_factory(), *runs)
    assert calls_of(messages) == [("f", str(number), str(number)) for number in range(12)]


@pytest.mark.fault("B6")
async def test_chunks_that_name_another_tool_begin_another_call(memory_factory: Callable[..., AgentRunner]) -> None:
    _, messages = await run_all(
        memory_factory(), [*as_chunks(F)[:-1], *as_chunks(G)[:-1], F[-1], {**G[-1], "messageId": "x"}]
    )
    assert calls_of(messages) == CALLS


@pytest.mark.fault("B6")
@pytest.mark.parametrize("answers_own_id", [True, False])
async def test_the_clients_result_answers_the_newest_call_under_either_id(
    memory_factory: Callable[..., AgentRunner], answers_own_id: bool
) -> None:
    runner = memory_factory()
    tools = [{"name": "g", "description": "", "parameters": {}}]
    _, messages = await run_all(runner, F, G[:-1], tools=tools)
    call = messages[-1]["toolCalls"][0]["id"] if answers_own_id else "call_0"
    result = {"id": "result", "role": "tool", "toolCallId": call, "content": "of g"}
    inputs = []

    async def agent(input: Any) -> Any:
        inputs.append(input)
        for event in text_message("m", "done"):
            yield event

    await collect(await runner.run(agent, make_input(run="r3", messages=[*messages, result])))
    assert calls_of(await runner.threads.messages("t1")) == CALLS
    # The agent knows the call by the id it gave it.
    assert [each.id for message in inputs[0].messages for each in getattr(message, "tool_calls", None) or ()] == [
        "call_0", "call_0",
    ]  # fmt: skip
    assert inputs[0].messages[-1].tool_call_id == "call_0"


@pytest.mark.fault("B6")
async def test_an_agents_late_result_answers_its_newest_call(memory_factory: Callable[..., AgentRunner]) -> None:
    runner = memory_factory()
    interrupt = {"type": "interrupt", "interrupts": [{"id": "i", "reason": "tool_call", "toolCallId": "call_0"}]}

    async def asking(input: Any) -> Any:
        for event in G[:-1]:
            yield event
        yield {"type": "RUN_FINISHED", "threadId": "t1", "runId": input.run_id, "outcome": interrupt}

    await collect(await runner.run(agent_with(*F), make_input(run="r1")))
    paused = await collect(await runner.run(asking, make_input(run="r2")))
    call = next(event["toolCallId"] for event in paused if event["type"] == "TOOL_CALL_START")
    assert paused[-1]["outcome"]["interrupts"][0]["toolCallId"] == call != "call_0"
    resume = [{"interruptId": "i", "status": "resolved"}]
    await collect(await runner.run(agent_with({**G[-1], "messageId": "x"}), make_input(run="r3", resume=resume)))
    assert calls_of(await runner.threads.messages("t1")) == CALLS


@pytest.mark.fault("B6")
async def test_a_call_that_a_resuming_agent_repeats_is_one_call(memory_factory: Callable[..., AgentRunner]) -> None:
    runner = memory_factory()
    await collect(await runner.run(agent_with(*G[:-1]), make_input(run="r1")))
    resume = [{"interruptId": "i", "status": "resolved"}]
    await collect(await runner.run(agent_with(*G), make_input(run="r2", resume=resume)))
    assert calls_of(await runner.threads.messages("t1")) == CALLS[1:]


OWN = {
    "before": ["c--own2", "c", "c"],
    "after": ["c", "c", "c--own2"],
    "between": ["c", "c--own2", "c", "c--own2", "c"],
}


@pytest.mark.fault("B6")
@pytest.mark.parametrize("is_one_run", [True, False], ids=["one run", "runs"])
@pytest.mark.parametrize("name", OWN)
async def test_an_agent_may_use_an_id_that_the_runner_would_give(
    memory_factory: Callable[..., AgentRunner], name: str, is_one_run: bool
) -> None:
    calls = [tool_call(call, "f", str(number), result=str(number)) for number, call in enumerate(OWN[name])]
    runs = [[event for call in calls for event in call]] if is_one_run else calls
    _, messages = await run_all(memory_factory(), *runs)
    assert calls_of(messages) == [("f", str(number), str(number)) for number in range(len(calls))]


@pytest.mark.fault("B6")
async def test_a_call_that_a_snapshot_has_removed_leaves_its_id_to_the_next(
    memory_factory: Callable[..., AgentRunner],
) -> None:
    users = [{"id": f"u{number}", "role": "user", "content": f"u{number}"} for number in range(2)]
    snapshot = {"type": "MESSAGES_SNAPSHOT", "messages": users}
    live, messages = await run_all(memory_factory(), F, [snapshot, *G, *F])
    assert calls_of(messages) == CALLS[::-1]
    starts = [event["toolCallId"] for event in live if event["type"] == "TOOL_CALL_START"]
    assert starts == ["call_0", "call_0", "call_0--own2"]


@pytest.mark.fault("B6")
@pytest.mark.parametrize("cut", [0, 2], ids=["whole", "cut"])
async def test_an_agent_that_repeats_its_history_changes_nothing(
    memory_factory: Callable[..., AgentRunner], cut: int
) -> None:
    runner = memory_factory()
    _, messages = await run_all(runner, F, G)
    history = [
        {"id": "call_0", "role": "assistant", "toolCalls": [{"id": "call_0", "type": "function", "function": {
            "name": name, "arguments": arguments}}]} if role == "assistant" else
        {"id": "call_0-result", "role": "tool", "toolCallId": "call_0", "content": result}
        for name, arguments, result in CALLS for role in ("assistant", "tool")
    ]  # fmt: skip
    for number, message in enumerate(history):
        message["id"] = [each["id"] for each in messages if each["role"] != "user"][number]
    users = [message for message in messages if message["role"] == "user"]
    snapshot = {"type": "MESSAGES_SNAPSHOT", "messages": [*users, *history[cut:]]}
    await collect(await runner.run(agent_with(snapshot), make_input(run="r3")))
    assert calls_of(await runner.threads.messages("t1")) == CALLS[cut // 2 :]


def message_of(call: dict[str, Any], arguments: str) -> dict[str, Any]:
    """Return the assistant's message with the call that an event starts."""
    function = {"name": call["toolCallName"], "arguments": arguments}
    return {"id": f"of {function}", "role": "assistant", "toolCalls": [
        {"id": call["toolCallId"], "type": "function", "function": function}]}  # fmt: skip


def result_of(result: dict[str, Any]) -> dict[str, Any]:
    return {"id": result["content"], "role": "tool", "toolCallId": result["toolCallId"], "content": result["content"]}


@pytest.mark.fault("B6")
@pytest.mark.parametrize("is_known", [True, False], ids=["recorded", "new"])
async def test_results_in_a_snapshot_go_to_the_calls_of_their_turn_in_order(
    memory_factory: Callable[..., AgentRunner], is_known: bool
) -> None:
    runner = memory_factory()
    events = [*F[:-1], *G[:-1], {**F[-1], "messageId": "of f"}, {**G[-1], "messageId": "of g"}]
    users = [{"id": f"u{number}", "role": "user", "content": ""} for number in range(2)]
    lost = {**F[0], "toolCallName": "h"}
    f, g, h = (message_of(call, arguments) for call, arguments in ((F[0], '{"a":1}'), (G[0], '{"b":2}'), (lost, "{}")))
    both = [f, g, result_of(F[-1]), result_of(G[-1])]
    # A call that was never answered is not taken for one of a later turn.
    history = [users[0], h, users[1], *both] if not is_known else [users[0], *both]
    snapshot = {"type": "MESSAGES_SNAPSHOT", "messages": history}
    _, messages = await run_all(runner, *([events] if is_known else []), [snapshot])
    assert calls_of(messages)[-2:] == CALLS
    assert calls_of(messages)[:-2] == ([] if is_known else [("h", "{}", None)])


@pytest.mark.fault("B6")
async def test_a_result_whose_call_a_snapshot_has_cut_off_keeps_its_call(
    memory_factory: Callable[..., AgentRunner],
) -> None:
    runner = memory_factory()
    _, messages = await run_all(runner, F, G)
    last = next(message for message in messages if message.get("content") == "of g")
    snapshot = {"type": "MESSAGES_SNAPSHOT", "messages": [result_of(G[-1])]}
    await collect(await runner.run(agent_with(snapshot), make_input(run="r3")))
    (result,) = await runner.threads.messages("t1")
    assert result["toolCallId"] == last["toolCallId"] == "call_0--own2"


COLLISIONS = {
    "reasoning, text": (reasoning("m", "thought") + text_message("m", "said"), ["reasoning", "assistant"]),
    "text, reasoning": (text_message("m", "said") + reasoning("m", "thought"), ["assistant", "reasoning"]),
    "activity, text": ([activity("m"), *text_message("m", "said")], ["activity", "assistant"]),
    "text, activity": ([*text_message("m", "said"), activity("m")], ["assistant", "activity"]),
    "result, text": (
        [*tool_call("c", "f", "{}"), {**F[-1], "toolCallId": "c", "messageId": "m"}, *text_message("m", "said")],
        ["assistant", "tool", "assistant"],
    ),
    "call, result": (
        [*tool_call("c", "f", "{}"), {**F[-1], "toolCallId": "c", "messageId": "c"}],
        ["assistant", "tool"],
    ),
    "text, call": (
        text_message("m", "said") + tool_call("m", "f", "{}", result="r"),
        ["assistant", "assistant", "tool"],
    ),
    "reasoning, call": (reasoning("m", "thought") + tool_call("m", "f", "{}"), ["reasoning", "assistant"]),
    "user, call": (tool_call("u0", "f", "{}"), ["assistant"]),
    "result, call chunk": (
        [
            *tool_call("c", "f", "{}"),
            {**F[-1], "toolCallId": "c", "messageId": "d"},
            *as_chunks(tool_call("d", "f", "{}", result="r")),
        ],
        ["assistant", "tool", "assistant", "tool"],
    ),
    "history": (
        [
            {
                "type": "MESSAGES_SNAPSHOT",
                "messages": [
                    {"id": "u0", "role": "user", "content": "u0"},
                    {"id": "m", "role": "reasoning", "content": "thought"},
                    {"id": "m", "role": "assistant", "content": "said"},
                    {"id": "m", "role": "activity", "activityType": "plan", "content": {}},
                ],
            }
        ],
        ["reasoning", "assistant", "activity"],
    ),
    "user, text": (text_message("u0", "said"), ["assistant"]),
    "reasoning, text, both open": (
        [
            {"type": "REASONING_MESSAGE_START", "messageId": "m", "role": "reasoning"},
            {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"},
            {"type": "REASONING_MESSAGE_CONTENT", "messageId": "m", "delta": "thought"},
            {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "said"},
            {"type": "REASONING_MESSAGE_END", "messageId": "m"},
            {"type": "TEXT_MESSAGE_END", "messageId": "m"},
        ],
        ["reasoning", "assistant"],
    ),
    "chunks": (
        [
            {"type": "REASONING_MESSAGE_CHUNK", "messageId": "m", "delta": "thought"},
            {"type": "TEXT_MESSAGE_CHUNK", "messageId": "m", "delta": "said"},
        ],
        ["reasoning", "assistant"],
    ),
}


@pytest.mark.fault("B5")
@pytest.mark.parametrize("name", COLLISIONS)
async def test_messages_of_one_id_stay_apart(memory_factory: Callable[..., AgentRunner], name: str) -> None:
    events, roles = COLLISIONS[name]
    _, messages = await run_all(memory_factory(), events)
    assert [message["role"] for message in messages] == ["user", *roles]
    contents = {message["role"]: message.get("content") for message in messages}
    assert contents.get("assistant") in (None, "said")
    assert contents.get("reasoning") in (None, "thought")
    assert contents["user"] == "u0"


@pytest.mark.fault("B5")
async def test_calls_with_ids_of_earlier_messages_have_messages_of_their_own(
    runner_factory: Callable[..., AgentRunner],
) -> None:
    call = [*tool_call("m", "f", "{}"), {**F[-1], "toolCallId": "m", "messageId": "m"}]
    _, messages = await run_all(runner_factory(), text_message("m", "said"), call, call)
    assert [message["role"] for message in messages if message["role"] != "user"] == [
        "assistant", "assistant", "tool", "assistant", "tool",
    ]  # fmt: skip


@pytest.mark.fault("B5")
async def test_messages_of_one_id_in_two_runs_stay_apart(runner_factory: Callable[..., AgentRunner]) -> None:
    runs = [reasoning("m", "thought"), text_message("m", "said"), reasoning("m", "?"), text_message("m", "!")]
    _, messages = await run_all(runner_factory(), *runs)
    contents = {message["role"]: message["content"] for message in messages}
    # The same kind of message under the same id is continued.
    assert contents["reasoning"] == "thought?"
    assert contents["assistant"] == "said!"


@pytest.mark.fault("B5")
async def test_everything_that_refers_to_a_message_follows_it(memory_factory: Callable[..., AgentRunner]) -> None:
    runner = memory_factory()
    secret = {"type": "REASONING_ENCRYPTED_VALUE", "subtype": "message", "entityId": "m", "encryptedValue": "s"}
    call = tool_call("c", "f", "{}", result="r")
    call[0]["parentMessageId"] = "m"
    _, messages = await run_all(runner, [*reasoning("m", "thought"), secret, *text_message("m", "said"), *call])
    _, thought, answer, result = messages
    assert thought["encryptedValue"] == "s"
    assert answer["toolCalls"][0]["id"] == result["toolCallId"] == "c"
    history = [{**thought, "id": "m"}, {**answer, "id": "m", "content": "said again"}, result]
    _, messages = await run_all(memory_factory(), [*reasoning("m", "thought"), *text_message("m", "said"), *call, {
        "type": "MESSAGES_SNAPSHOT", "messages": [messages[0], *history]}])  # fmt: skip
    assert [(message["role"], message["content"]) for message in messages if message["role"] != "tool"] == [
        ("user", "u0"), ("reasoning", "thought"), ("assistant", "said again"),
    ]  # fmt: skip


async def test_text_that_continues_a_message_keeps_its_id(memory_factory: Callable[..., AgentRunner]) -> None:
    live, messages = await run_all(
        memory_factory(), text_message("m", "a") + text_message("m", "b"), text_message("m", "c")
    )
    assert [message["content"] for message in messages if message["role"] == "assistant"] == ["abc"]
    assert {event["messageId"] for event in live if "messageId" in event} == {"m"}
    assert "TEXT_MESSAGE_CONTENT" in event_types(live)
