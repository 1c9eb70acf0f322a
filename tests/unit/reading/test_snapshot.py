"""`connect(known=)`: a reader that reconnects with its messages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agentrunner import fold
from support.agents import agent_with
from support.events import text_message, tool_call
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from agentrunner import AgentRunner

CALL = tool_call("c", "search", "{}")
RESULT = {"type": "TOOL_CALL_RESULT", "messageId": "x", "toolCallId": "c", "content": "found"}
OWN: dict[str, Any] = {"id": "own", "role": "user", "content": "and?"}


async def test_a_message_that_only_the_reader_has_keeps_its_place(runner: AgentRunner) -> None:
    # The snapshot puts the result after its call; a reader that had the text before has it in another place.
    whole = await collect(
        await runner.run(agent_with(*CALL, *text_message("m", "hello"), RESULT), make_input("t", "r"))
    )
    held = whole[: whole.index(RESULT)]
    known = [*fold(held).messages, OWN]
    data = b"".join([piece async for piece in (await runner.connect("t", known=known)).frames()])
    sent = [json.loads(line[6:]) for line in data.split(b"\n") if line.startswith(b"data: ")]
    ended = fold([*held, *sent]).messages
    assert [message["id"] for message in ended] == ["c", "x", "m", "own"]
    assert [message for message in ended if message != OWN] == fold(whole).messages


async def taken_up(runner: AgentRunner, known: list[Any]) -> list[dict[str, Any]]:
    return fold(await collect(await runner.connect("t", known=known))).messages


async def test_a_snapshot_can_be_read_event_by_event(runner: AgentRunner) -> None:
    await collect(await runner.run(agent_with(*text_message("m", "hello")), make_input("t", "r", ["hi"])))
    events = [event async for event in await runner.connect("t", known=[OWN])]
    assert [event.type for event in events] == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]
    # Only the last event has a cursor, so a reader that got a part of the snapshot starts again.
    assert [event.cursor is None for event in events] == [True, True, False]
    assert [event async for event in await runner.connect("t", events[-1].cursor)] == []


async def test_nothing_comes_between_a_call_and_its_result(runner: AgentRunner) -> None:
    await collect(await runner.run(agent_with(*CALL, RESULT, *text_message("m", "hello")), make_input("t", "r")))
    known = [{"id": "c", "role": "assistant"}, OWN]
    assert [message["id"] for message in await taken_up(runner, known)] == ["c", "x", "own", "m"]


async def test_a_message_the_thread_has_dropped_is_not_brought_back(runner: AgentRunner) -> None:
    shorter = {"type": "MESSAGES_SNAPSHOT", "messages": [{"id": "sum", "role": "assistant", "content": "in short"}]}
    await collect(await runner.run(agent_with(*text_message("m", "hello"), shorter), make_input("t", "r", ["hi"])))
    known = [{"id": "hi", "role": "user", "content": "hi"}, {"id": "m", "role": "assistant", "content": "hello"}, OWN]
    assert [message["id"] for message in await taken_up(runner, known)] == ["own", "sum"]
