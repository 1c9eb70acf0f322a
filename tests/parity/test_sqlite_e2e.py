"""The 8 end-to-end tests the reference has for both its runners, on both our stores."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from agentrunner import fold
from support.agents import Gate, agent_with, scripted_agent
from support.events import event_types, run_finished, run_started, text_message, tool_call
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from agentrunner import AgentRunner


async def replay(runner: AgentRunner, thread: str = "t1") -> list[dict[str, Any]]:
    """Return the messages that a client new to the thread ends with."""
    return fold(await collect(await runner.connect(thread))).messages


def mark(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message as it is stored if only the client claims it."""
    return {**message, "metadata": {"agentrunner.source": "client"}}


def user(id_: str, content: str | None = None) -> dict[str, Any]:
    return {"id": id_, "role": "user", "content": content or id_}


async def test_replays_sanitized_message_history_on_connect(runner: AgentRunner) -> None:
    events = await collect(await runner.run(agent_with(), make_input(messages=["existing"])))
    assert events[0]["input"]["messages"] == [user("existing")]
    assert await replay(runner) == [user("existing")]


async def test_merges_new_message_ids_without_duplicating_history(runner: AgentRunner) -> None:
    await collect(await runner.run(agent_with(), make_input(run="r1", messages=["existing"])))
    events = await collect(await runner.run(agent_with(), make_input(run="r2", messages=["existing", "new"])))
    assert events[0]["input"]["messages"] == [user("new")]
    assert await replay(runner) == [user("existing"), user("new")]


async def test_hydrates_a_brand_new_client_via_connect(runner: AgentRunner) -> None:
    await collect(await runner.run(agent_with(), make_input(messages=["existing"])))
    assert await runner.threads.messages("t1") == await replay(runner) == [user("existing")]


async def test_preserves_agent_emitted_tool_events_alongside_heterogeneous_inputs(runner: AgentRunner) -> None:
    call = {"id": "c0", "type": "function", "function": {"name": "calc", "arguments": json.dumps({"a": 1})}}
    messages = [
        {"id": "system", "role": "system", "content": "be kind"},
        {"id": "developer", "role": "developer", "content": "be brief"},
        user("user"),
        {"id": "assistant", "role": "assistant", "content": "on it", "toolCalls": [call]},
        {"id": "tool", "role": "tool", "content": "1", "toolCallId": "c0"},
    ]
    agent = agent_with(*tool_call("c1", "search", '{"q":', '"x"}', result="found"))
    events = await collect(await runner.run(agent, make_input(messages=messages)))
    messages = [message if message["role"] == "user" else mark(message) for message in messages]
    assert events[0]["input"]["messages"] == messages
    assert event_types(events).count("TOOL_CALL_RESULT") == 1
    emitted = {"id": "c1", "type": "function", "function": {"name": "search", "arguments": '{"q":"x"}'}}
    assert await replay(runner) == [
        *messages,
        {"id": "c1", "role": "assistant", "toolCalls": [emitted]},
        {"id": "c1-result", "role": "tool", "toolCallId": "c1", "content": "found"},
    ]


async def test_deduplicates_input_history_while_emitting_each_agent_message_once(runner: AgentRunner) -> None:
    history: list[Any] = [{"id": "system", "role": "system", "content": "be kind"}]
    for turn in range(3):
        new = [*map(mark, history), user("u0")] if turn == 0 else [user(f"u{turn}")]
        history.append(user(f"u{turn}"))
        call, *rest = tool_call(f"c{turn}", "search", "{}", result="ok")
        agent = agent_with(*text_message(f"a{turn}", f"answer {turn}"), {**call, "parentMessageId": f"a{turn}"}, *rest)
        events = await collect(await runner.run(agent, make_input(run=f"r{turn}", messages=history)))
        assert events[0]["input"]["messages"] == new
        history = await replay(runner)
    assert len({message["id"] for message in history}) == len(history)
    assert Counter(message["role"] for message in history) == {"system": 1, "user": 3, "assistant": 3, "tool": 3}


async def test_forwards_the_agent_specified_payload_without_sanitizing(runner: AgentRunner) -> None:
    await collect(await runner.run(agent_with(), make_input(run="r0", messages=["known"])))
    own = run_started(input=make_input(messages=["known", user("custom-user", "mine")], extra={"kept": 1}))
    agent = scripted_agent([own, *text_message("m1", "ok"), run_finished()])
    events = await collect(await runner.run(agent, make_input(messages=["known", "asked"])))
    assert events[0] == own
    assert event_types(events).count("RUN_FINISHED") == 1
    assert user("custom-user", "mine") in await replay(runner)


async def test_streams_in_flight_events_to_live_subscribers_and_persists_final_history(runner: AgentRunner) -> None:
    gate = Gate(text_message("assistant-live", "Hello"), [])
    stream = await runner.run(gate, make_input(messages=["initial"]))
    await gate.reached.wait()
    reader = await runner.connect("t1")
    gate.open()
    events = await collect(stream)
    assert await collect(reader) == events
    assert await collect(await runner.connect("t1")) == events
    assert [message["id"] for message in await replay(runner)] == ["initial", "assistant-live"]


async def test_propagates_run_error_while_retaining_input_history(runner: AgentRunner) -> None:
    error = {"type": "RUN_ERROR", "message": "model overloaded", "code": "OVERLOADED"}
    events = await collect(await runner.run(scripted_agent([run_started(), error]), make_input(messages=["asked"])))
    assert events[-1] == error
    replayed = await collect(await runner.connect("t1"))
    assert [event for event in replayed if event["type"] == "RUN_ERROR"] == [error]
    assert fold(replayed).messages == [user("asked")]
