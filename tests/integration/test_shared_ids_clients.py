"""Both generations of clients hold all messages and calls of subagents with shared ids."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentrunner import InMemoryAgentRunner
from agentrunner._core import Frames
from support.asgi import client_of
from support.compared_runs import calls_of
from support.events import run_finished, run_started, text_message, tool_call
from support.inputs import make_input
from support.nodejs import ask, install, needs_node

pytestmark = needs_node


@pytest.fixture(scope="module", autouse=True)
def _packages() -> None:
    install()


def streams_of(owner: str) -> list[list[dict[str, Any]]]:
    call = tool_call("c", f"tool of {owner}", "{}", result=f"result of {owner}")
    call[0]["parentMessageId"] = "m"
    reasoning = [
        {"type": "REASONING_START", "messageId": "m"},
        {"type": "REASONING_MESSAGE_START", "messageId": "m", "role": "reasoning"},
        {"type": "REASONING_MESSAGE_CONTENT", "messageId": "m", "delta": f"thought of {owner}"},
        {"type": "REASONING_MESSAGE_END", "messageId": "m"},
        {"type": "REASONING_END", "messageId": "m"},
    ]
    events = [*reasoning, *text_message("m", f"text of {owner}"), *call]
    return [[{**event, "subagentRunId": owner}] for event in events]


SHARED = [
    run_started(),
    *({"type": "SUBAGENT_STARTED", "subagentRunId": name, "name": name} for name in ("s1", "s2")),
    *(event for pair in zip(streams_of("s1"), streams_of("s2"), strict=True) for events in pair for event in events),
    # A second result, which no client may hold.
    {"type": "TOOL_CALL_RESULT", "toolCallId": "c", "messageId": "again", "content": "again", "subagentRunId": "s2"},
    *({"type": "SUBAGENT_FINISHED", "subagentRunId": name} for name in ("s1", "s2")),
    run_finished(),
]
FUNCTION = {"name": "f", "arguments": "{}"}
SNAPSHOT = {
    "type": "MESSAGES_SNAPSHOT",
    "messages": [
        {"id": "u", "role": "user", "content": "hi"},
        {"id": "m", "role": "assistant", "toolCalls": [{"id": "c", "type": "function", "function": FUNCTION}]},
    ],
}


class Script:
    """An agent that yields these events."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self.events = events

    async def run(self, input: Any) -> Any:
        for event in self.events:
            yield event


async def read(events: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what both clients hold of a run with these events, live and in a replay."""
    async with InMemoryAgentRunner() as runner:
        client = client_of(runner, {"default": Script(events)})
        current = {"protocolVersion": "1.0"}
        live = await client.post("/agent/default/run", make_input() | current)
        replay = await client.post("/agent/default/connect", make_input() | current)
        replay_legacy = await client.post("/agent/default/connect", make_input())
    bodies = {
        "live": live.body,
        "live_legacy": bytes(Frames(live.body).for_legacy_clients()),
        "replay": replay.body,
        "replay_legacy": replay_legacy.body,
    }
    line = json.dumps({name: body.decode() for name, body in bodies.items()}).encode()
    held: dict[str, Any] = ask("read_streams.mjs", [line])[0]
    return held


@pytest.mark.fault("B5")
@pytest.mark.fault("B6")
async def test_both_clients_hold_the_messages_and_calls_of_both_subagents() -> None:
    held = await read(SHARED)
    for client in ("new", "old"):
        early, late = held[client]
        assert "refused" not in early
        assert early == late
        texts = [message.get("content") for message in early["messages"]]
        for owner in ("s1", "s2"):
            assert texts.count(f"thought of {owner}") == texts.count(f"text of {owner}") == 1
        calls = [("tool of s1", "{}", "result of s1"), ("tool of s2", "{}", "result of s2")]
        assert calls_of(early["messages"]) == calls
        ids = [message["id"] for message in early["messages"]]
        assert len(set(ids)) == len(ids)


@pytest.mark.fault("B9")
async def test_both_clients_hold_a_result_of_a_call_that_only_a_snapshot_has() -> None:
    held = await read([run_started(), SNAPSHOT, {"type": "RUN_ERROR", "message": "it failed"}])
    for client in ("new", "old"):
        early, late = held[client]
        assert early == late
        ((_, _, result),) = calls_of(early["messages"])
        assert result is not None
        assert json.loads(result)["reason"] == "run_failed"
