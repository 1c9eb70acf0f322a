"""`connect(known=)`: a reader that comes back with its messages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agentrunner import fold
from conftest import collect, make_input, saying, text, tool_call

if TYPE_CHECKING:
    from agentrunner import AgentRunner

CALL = tool_call("c", "search", "{}")
RESULT = {"type": "TOOL_CALL_RESULT", "messageId": "x", "toolCallId": "c", "content": "found"}
OWN: dict[str, Any] = {"id": "own", "role": "user", "content": "and?"}


async def test_a_message_only_the_reader_has_stays_where_others_were_moved(runner: AgentRunner) -> None:
    # The result is put behind its call: whoever held the text already has it in another place.
    whole = await collect(await runner.run(saying(*CALL, *text("m", "hello"), RESULT), make_input("t", "r")))
    held = whole[: whole.index(RESULT)]
    known = [*fold(held).messages, OWN]
    data = b"".join([piece async for piece in (await runner.connect("t", known=known)).frames()])
    sent = [json.loads(line[6:]) for line in data.split(b"\n") if line.startswith(b"data: ")]
    ended = fold([*held, *sent]).messages
    assert [message["id"] for message in ended] == ["c", "x", "m", "own"]
    assert [message for message in ended if message != OWN] == fold(whole).messages
