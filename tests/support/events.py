"""AG-UI events as dicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agentrunner import Event


def event_types(events: Iterable[Any]) -> list[str]:
    """Return the types of events, which are dicts or `Event`s."""
    return [event["type"] if isinstance(event, dict) else event.type for event in events]


def event_dicts(events: Iterable[Event]) -> list[dict[str, Any]]:
    """Return `Event`s as dicts."""
    return [event.to_dict() for event in events]


def run_started(thread: str = "t1", run: str = "r1", **fields: Any) -> dict[str, Any]:
    return {"type": "RUN_STARTED", "threadId": thread, "runId": run, **fields}


def run_finished(thread: str = "t1", run: str = "r1", **fields: Any) -> dict[str, Any]:
    return {"type": "RUN_FINISHED", "threadId": thread, "runId": run, **fields}


def text_message(message: str, *deltas: str, role: str = "assistant") -> list[dict[str, Any]]:
    """Return the events of a text message."""
    return [
        {"type": "TEXT_MESSAGE_START", "messageId": message, "role": role},
        *({"type": "TEXT_MESSAGE_CONTENT", "messageId": message, "delta": delta} for delta in deltas),
        {"type": "TEXT_MESSAGE_END", "messageId": message},
    ]


def tool_call(call: str, name: str, *args: str, result: str | None = None) -> list[dict[str, Any]]:
    """Return the events of a tool call, and of its `result` in the message `<call>-result`."""
    events: list[dict[str, Any]] = [
        {"type": "TOOL_CALL_START", "toolCallId": call, "toolCallName": name},
        *({"type": "TOOL_CALL_ARGS", "toolCallId": call, "delta": delta} for delta in args),
        {"type": "TOOL_CALL_END", "toolCallId": call},
    ]
    if result is not None:
        message = f"{call}-result"
        events.append(
            {"type": "TOOL_CALL_RESULT", "toolCallId": call, "messageId": message, "role": "tool", "content": result}
        )
    return events
