"""Published clients are shown errors, and survive events they do not know."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentrunner.errors import AgentError
from support.copilotkit import BARE, Client, fine
from support.copilotkit_server import (
    each_kind,
    without_ids,
)
from support.events import run_finished, text_message, tool_call
from support.nodejs import needs_node

if TYPE_CHECKING:
    pass
pytestmark = needs_node


@each_kind
def test_an_error_of_the_agent_arrives_and_the_thread_goes_on(served, node, kind, thread):
    served.stage.play(thread, *text_message("m1", "Hel")[:2], AgentError("the model is out of tea"))
    client = Client(node, kind, served.url, thread)
    seen = client.run("hi")
    [[message, _]] = seen["runErrors"]
    assert message == "the model is out of tea"
    assert without_ids(*client.messages) == ["hi", "Hel"]
    assert "refused" not in client.run("again")
    assert without_ids(*client.messages) == ["hi", "Hel", "again", "Hello"]
    for other in {kind, *BARE}:
        fresh = Client(node, other, served.url, thread)
        seen = fresh.connect()
        assert fine(seen)
        assert seen["types"][-1] == "RUN_FINISHED"
        assert fresh.held == client.held


ODD = {
    "an outcome it does not know": [run_finished("", "", outcome={"type": "cancelled"})],
    "calls left open": [
        *tool_call("call", "ask", "{}"),
        run_finished("", "", outcome={"type": "success", "pendingToolCallIds": ["call"]}),
    ],
    "a kind it does not know": [
        {"type": "WEATHER_REPORT", "sunny": True}, *text_message("m1", "behind"),
        {"type": "SUBAGENT_STARTED", "subagentRunId": "s", "name": "helper", "input": {"of": "tomorrow"}},
        {"type": "SUBAGENT_FINISHED", "subagentRunId": "s"}, *text_message("m2", "behind it"),
    ],
    "null for what is left out": [
        {"type": "TEXT_MESSAGE_START", "messageId": "m1", "role": "assistant", "timestamp": None, "rawEvent": None},
        *text_message("m1", "behind")[1:],
        {"type": "TOOL_CALL_START", "toolCallId": "call", "toolCallName": "ask", "parentMessageId": None},
        *tool_call("call", "ask", "{}")[1:],
        {"type": "TOOL_CALL_RESULT", "toolCallId": "call", "messageId": "r", "content": "so", "role": None},
        {"type": "STATE_SNAPSHOT", "snapshot": {"null": None}, "timestamp": None},
        run_finished("", "", outcome=None, result=None),
    ],
}  # fmt: skip
"""Events that clients of 0.0.59 cannot read: without the server's help they drop everything after them."""


@pytest.mark.parametrize("odd", ODD)
@each_kind
def test_unknown_events_do_not_cut_a_client_off(served, node, kind, odd, thread):
    script = [{k: v for k, v in event.items() if k not in ("threadId", "runId")} for event in ODD[odd]]
    served.stage.play(thread, *text_message("before", "Hello"), *script)
    client = Client(node, kind, served.url, thread)
    seen = client.run("hi")
    assert fine(seen)
    assert seen["types"][-1] == "RUN_FINISHED"
    texts = [event["messageId"] for event in script if event["type"] == "TEXT_MESSAGE_START"]
    held = client.messages
    assert [message["id"] for message in held if message["role"] == "assistant" and "content" in message] == [
        "before", *texts,
    ]  # fmt: skip
    calls = [call["id"] for message in held for call in message.get("toolCalls", [])]
    assert calls == [event["toolCallId"] for event in script if event["type"] == "TOOL_CALL_START"]
    if odd.startswith("null"):
        assert client.view()["state"] == {"null": None}
    assert fine(client.run("again"))
    # The whole thread comes through a replay as well, with whatever stands behind it.
    fresh = Client(node, kind, served.url, thread)
    assert fine(fresh.connect())
    assert fresh.held == client.held
    assert without_ids(fresh.messages[-1]) == ["Hello"]
