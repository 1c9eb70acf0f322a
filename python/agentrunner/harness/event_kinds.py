"""What an agent's events are about, found out without writing or reading what is not asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import orjson

from agentrunner._codec import decode, encode
from agentrunner.errors import InvalidEvent

OTHER = 0
OUTPUT = 1
REASONING = 2
RESULT = 3
"""Of a tool."""
FINISHED = 4
FAILED = 5
"""What an event is about, plain numbers: they are compared for each event."""

KINDS = {
    "TEXT_MESSAGE_CONTENT": OUTPUT,
    "TEXT_MESSAGE_CHUNK": OUTPUT,
    "REASONING_MESSAGE_CONTENT": REASONING,
    "REASONING_MESSAGE_CHUNK": REASONING,
    "TOOL_CALL_RESULT": RESULT,
    "RUN_FINISHED": FINISHED,
    "RUN_ERROR": FAILED,
}
_BYTES = {kind.encode(): about for kind, about in KINDS.items()}
_FIRST = b'{"type":"'


@cache
def models() -> dict[type, int]:
    """Give what the models of the protocol are about: their class says it, which is cheaper than their field."""
    from ag_ui import core

    found: dict[type, int] = {}
    for name in dir(core):
        model = getattr(core, name)
        kind = getattr(model, "model_fields", {}).get("type") if isinstance(model, type) else None
        if name.endswith("Event") and kind is not None and isinstance(kind.default, str):
            found[model] = about(kind.default)
    return found


def about(kind: object) -> int:
    """Say what events of a kind are about."""
    return KINDS.get(kind, OTHER) if isinstance(kind, str) else OTHER


def classify(event: Any) -> int:
    """Say what an event is about that is no model; of what is no event, that it is nothing."""
    if isinstance(event, Mapping):
        return about(event.get("type"))
    if isinstance(event, bytes) and event.startswith(_FIRST):
        kind = event[9 : event.find(b'"', 9)]
        if b"\\" not in kind:
            return _BYTES.get(kind, OTHER)
    if isinstance(event, (bytes, bytearray, memoryview, str)):
        try:
            value = orjson.loads(event)
        except orjson.JSONDecodeError:
            return OTHER
        return about(value.get("type")) if isinstance(value, dict) else OTHER
    return about(getattr(event, "type", None))


def as_dict(event: Any) -> dict[str, Any]:
    """Give an event as a dict of the wire's field names; an empty one for what is no event: it will be refused."""
    if type(event) is dict:
        return event
    try:
        value = decode(encode(event))
    except (InvalidEvent, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def delta_of(event: Any) -> str:
    """Give the delta of a content event; empty where it has none."""
    delta = event.get("delta") if isinstance(event, dict) else getattr(event, "delta", None)
    if delta is None and isinstance(event, (bytes, bytearray, memoryview, str)):
        delta = as_dict(event).get("delta")
    return delta if isinstance(delta, str) else ""


def message_of(event: Any) -> str | None:
    """Give the id of the message a content event belongs to."""
    message = as_dict(event).get("messageId")
    return message if isinstance(message, str) else None


def result_text(event: Mapping[str, Any]) -> str:
    """Give what a TOOL_CALL_RESULT says, as text."""
    content = event.get("content")
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def tool_error(event: Mapping[str, Any]) -> str | None:
    """Give what a TOOL_CALL_RESULT says went wrong; `None` if the tool did what it was to.

    It did not if the event, or its metadata, has an `error` or `isError`, or its text is a JSON object with one of
    these, or begins with `Error`.
    """
    text = result_text(event)
    metadata = event.get("metadata")
    said: list[Any] = [event, metadata]
    if text.lstrip().startswith("{"):
        with contextlib.suppress(orjson.JSONDecodeError):
            said.append(orjson.loads(text))
    for value in said:
        if isinstance(value, dict) and (error := value.get("error") or value.get("isError")):
            return error if isinstance(error, str) and not text else text or str(error)
    return text if text.startswith("Error") else None


def interrupts_of(event: Any) -> list[dict[str, Any]]:
    """Give the interrupts a RUN_FINISHED ends with, each once."""
    outcome = as_dict(event).get("outcome")
    if not isinstance(outcome, dict) or outcome.get("type") != "interrupt":
        return []
    given = outcome.get("interrupts")
    found = {each["id"]: each for each in given or () if isinstance(each, dict) and isinstance(each.get("id"), str)}
    return list(found.values())
