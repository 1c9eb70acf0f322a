"""Events of two runs that the tests of the command line store and show."""

from __future__ import annotations

from typing import Any

INTERRUPTED_RUN: list[dict[str, Any]] = [
    {"type": "RUN_STARTED", "threadId": "t", "runId": "r1"},
    {"type": "STEP_STARTED", "stepName": "look"},
    {"type": "REASONING_START", "messageId": "think"},
    {"type": "REASONING_MESSAGE_START", "messageId": "think", "role": "reasoning"},
    {"type": "REASONING_MESSAGE_CONTENT", "messageId": "think", "delta": "let me see"},
    {"type": "REASONING_MESSAGE_END", "messageId": "think"},
    {"type": "REASONING_END", "messageId": "think"},
    {"type": "TOOL_CALL_START", "toolCallId": "c", "toolCallName": "weather"},
    {"type": "TOOL_CALL_ARGS", "toolCallId": "c", "delta": '{"city":'},
    {"type": "TOOL_CALL_ARGS", "toolCallId": "c", "delta": '"Lisbon"}'},
    {"type": "TOOL_CALL_END", "toolCallId": "c"},
    {"type": "TOOL_CALL_RESULT", "messageId": "res", "toolCallId": "c", "content": "sunny", "role": "tool"},
    {"type": "STEP_FINISHED", "stepName": "look"},
    {"type": "STATE_SNAPSHOT", "snapshot": {"city": "Lisbon"}},
    {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"},
    {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "It is \x1b[31msun"},
    {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "ny [bold]:smile:"},
    {"type": "TEXT_MESSAGE_END", "messageId": "m"},
    {"type": "FROM_THE_FUTURE", "what": "unknown"},
    {"type": "CUSTOM", "name": "note", "value": 1},
    {
        "type": "RUN_FINISHED",
        "threadId": "t",
        "runId": "r1",
        "outcome": {"type": "interrupt", "interrupts": [{"id": "i", "reason": "approval", "message": "book it?"}]},
    },
]
"""A run with an event of most kinds, which ends with an interrupt."""
FAILED_RUN = [
    {"type": "RUN_STARTED", "threadId": "t", "runId": "r2"},
    {"type": "RUN_ERROR", "message": "no luck", "code": "LUCK"},
]
"""A run that ends with an error."""
