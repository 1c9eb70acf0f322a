"""A run that has every kind of event, and every field that AG-UI 1.0 describes."""

from __future__ import annotations

from random import Random
from typing import Any

SUBAGENT = "sub"


def whole_run(thread: str, run: str, seed: float) -> list[dict[str, Any]]:
    """Return the events of a valid run, with one of its possible ends."""
    random = Random(seed)  # noqa: S311 - the same seed gives the same run
    shared = {"timestamp": 1700000000123, "rawEvent": {"native": [None]}, "metadata": {"key": None}}
    middle = [*_content(), *_reasoning(), *_state(), *_messages()]
    subagent = [
        {"type": "SUBAGENT_STARTED", "subagentRunId": SUBAGENT, "name": "n", "description": "d",
         "parentMessageId": "m"},
        {"type": "SUBAGENT_FINISHED", "subagentRunId": SUBAGENT, "result": 1,
         "outcome": {"type": "suspended", "interruptIds": ["i"]}},
        {"type": "SUBAGENT_STARTED", "subagentRunId": "sub2", "name": "n", "parentSubagentRunId": SUBAGENT,
         "parentToolCallId": "c"},
        {"type": "SUBAGENT_ERROR", "subagentRunId": "sub2", "message": "m", "code": "E"},
    ]  # fmt: skip
    step = {"stepName": "s"}
    started = {"type": "RUN_STARTED", "threadId": thread, "runId": run, "protocolVersion": "1.0", "parentRunId": "p"}
    if random.random() < 0.5:
        started["input"] = _input(thread, run)
    events = [
        started, {"type": "STEP_STARTED", **step}, *subagent, *middle, {"type": "STEP_FINISHED", **step},
        {"type": "CUSTOM", "name": "n", "value": {"a": None}}, {"type": "RAW", "event": {"a": 1}, "source": "s"},
        _end(thread, run, random),
    ]  # fmt: skip
    return [event | {key: value for key, value in shared.items() if random.random() < 0.3} for event in events]


def _content() -> list[dict[str, Any]]:
    part = {"type": "text", "text": "found", "id": "p", "metadata": {}}
    image = {
        "type": "image",
        "source": {"type": "data", "value": "AA==", "mimeType": "image/png"},
        "metadata": {"n": 1},
    }
    return [
        {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant", "name": "n"},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "Hello "},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "world"},
        {"type": "TEXT_MESSAGE_END", "messageId": "m"},
        {"type": "TOOL_CALL_START", "toolCallId": "c", "toolCallName": "look", "parentMessageId": "m"},
        {"type": "TOOL_CALL_ARGS", "toolCallId": "c", "delta": '{"q":'},
        {"type": "TOOL_CALL_ARGS", "toolCallId": "c", "delta": "1}"},
        {"type": "TOOL_CALL_END", "toolCallId": "c"},
        {"type": "TOOL_CALL_RESULT", "messageId": "r", "toolCallId": "c", "content": "seen", "role": "tool"},
        {"type": "TEXT_MESSAGE_CHUNK", "messageId": "m2", "role": "user", "name": "n", "delta": "chunk"},
        {"type": "TEXT_MESSAGE_CHUNK", "delta": " two"},
        {"type": "TOOL_CALL_CHUNK", "toolCallId": "c2", "toolCallName": "look", "parentMessageId": "m", "delta": "{}"},
        {"type": "TOOL_CALL_RESULT", "messageId": "r2", "toolCallId": "c2", "content": [part, image]},
    ]


def _reasoning() -> list[dict[str, Any]]:
    return [
        {"type": "REASONING_START", "messageId": "span"},
        {"type": "REASONING_MESSAGE_START", "messageId": "think", "role": "reasoning"},
        {"type": "REASONING_MESSAGE_CONTENT", "messageId": "think", "delta": "hm"},
        {"type": "REASONING_MESSAGE_END", "messageId": "think"},
        {"type": "REASONING_ENCRYPTED_VALUE", "subtype": "message", "entityId": "think", "encryptedValue": "e"},
        {"type": "REASONING_END", "messageId": "span"},
        {"type": "REASONING_MESSAGE_CHUNK", "messageId": "think2", "delta": "so"},
    ]


def _state() -> list[dict[str, Any]]:
    operations = [
        {"op": "add", "path": "/list", "value": [1]},
        {"op": "copy", "from": "/list", "path": "/copy"},
        {"op": "move", "from": "/copy", "path": "/moved"},
        {"op": "test", "path": "/moved/0", "value": 1},
        {"op": "replace", "path": "/count", "value": None},
        {"op": "remove", "path": "/moved"},
    ]
    activity = {"messageId": "act", "activityType": "PLAN"}
    return [
        {"type": "STATE_SNAPSHOT", "snapshot": {"count": 1}},
        {"type": "STATE_DELTA", "delta": operations},
        {"type": "ACTIVITY_SNAPSHOT", **activity, "content": {"steps": []}, "replace": True},
        {"type": "ACTIVITY_DELTA", **activity, "patch": [{"op": "add", "path": "/steps/-", "value": "one"}]},
    ]


def _messages() -> list[dict[str, Any]]:
    call = {"id": "old", "type": "function", "function": {"name": "f", "arguments": "{}"}, "encryptedValue": "e"}
    media = [
        {"type": "text", "text": "look"},
        {
            "type": "document",
            "source": {"type": "url", "value": "https://x.test/a", "mimeType": "text/plain"},
            "id": "d",
        },
        {"type": "audio", "source": {"type": "file", "value": "f", "provider": "p"}},
    ]
    messages = [
        {"id": "dev", "role": "developer", "content": "d", "name": "n", "encryptedValue": "e", "metadata": {}},
        {"id": "sys", "role": "system", "content": "s"},
        {"id": "ask", "role": "user", "content": media, "name": "n"},
        {"id": "say", "role": "assistant", "content": "a", "toolCalls": [call], "subagentRunId": "sub"},
        {"id": "res", "role": "tool", "toolCallId": "old", "content": "ok", "error": "e"},
        {"id": "plan", "role": "activity", "activityType": "PLAN", "content": {"a": 1}},
        {"id": "why", "role": "reasoning", "content": "r", "encryptedValue": "e"},
    ]
    return [{"type": "MESSAGES_SNAPSHOT", "messages": messages}]


def _input(thread: str, run: str) -> dict[str, Any]:
    return {
        "threadId": thread, "runId": run, "protocolVersion": "1.0", "parentRunId": "p", "state": {"a": 1},
        "messages": [{"id": "u2", "role": "user", "content": "from the agent"}],
        "tools": [{"name": "t", "description": "d", "parameters": {}, "metadata": {}}],
        "context": [{"description": "d", "value": "v"}], "forwardedProps": {"a": 1},
        "resume": [{"interruptId": "i", "status": "resolved", "payload": 1, "metadata": {}}],
    }  # fmt: skip


def _end(thread: str, run: str, random: Random) -> dict[str, Any]:
    usage = [{
        "provider": "p", "model": "m", "inputTokens": 1, "outputTokens": 2, "totalTokens": 3, "reasoningTokens": 0,
        "cachedInputTokens": 0, "cacheWriteInputTokens": 0,
    }]  # fmt: skip
    interrupt = {
        "id": "i", "reason": "confirmation", "message": "m", "toolCallId": "c", "responseSchema": {},
        "expiresAt": "2100-01-01T00:00:00Z", "metadata": {}, "subagentRunId": "sub",
    }  # fmt: skip
    if random.random() < 0.2:
        return {"type": "RUN_ERROR", "message": "failed", "code": "E", "usage": usage}
    outcome = random.choice([
        {"type": "success", "pendingToolCallIds": ["c"]},
        {"type": "interrupt", "interrupts": [interrupt, interrupt | {"id": "i2"}]},
        {"type": "cancelled"},
    ])  # fmt: skip
    ids = {"threadId": thread, "runId": run}
    return {"type": "RUN_FINISHED", **ids, "result": {"a": 1}, "outcome": outcome, "usage": usage}
