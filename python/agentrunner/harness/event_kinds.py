"""Classify an agent's events, parsing no more of them than necessary."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import orjson

from agentrunner import _core
from agentrunner._codec import decode, encode
from agentrunner.errors import InvalidEvent

OTHER = 0
OUTPUT = 1
REASONING = 2
TOOL_RESULT = 3
FINISHED = 4
FAILED = 5
"""Kinds of events: plain numbers, because every event of every run is compared with them."""

KINDS = {
    "TEXT_MESSAGE_CONTENT": OUTPUT,
    "TEXT_MESSAGE_CHUNK": OUTPUT,
    "REASONING_MESSAGE_CONTENT": REASONING,
    "REASONING_MESSAGE_CHUNK": REASONING,
    # The runner records it as a REASONING_MESSAGE_CONTENT.
    "THINKING_TEXT_MESSAGE_CONTENT": REASONING,
    "TOOL_CALL_RESULT": TOOL_RESULT,
    "RUN_FINISHED": FINISHED,
    "RUN_ERROR": FAILED,
}
_KINDS_AS_BYTES = {name.encode(): kind for name, kind in KINDS.items()}
_TYPE_FIRST = b'{"type":"'


@cache
def model_kinds() -> dict[type, int]:
    """Return the kinds of `ag_ui` models by class, which is faster to read than a field."""
    from ag_ui import core

    kinds: dict[type, int] = {}
    for name in dir(core):
        model = getattr(core, name)
        type_field = getattr(model, "model_fields", {}).get("type") if isinstance(model, type) else None
        if name.endswith("Event") and type_field is not None and isinstance(type_field.default, str):
            kinds[model] = kind_of(type_field.default)
    return kinds


def kind_of(event_type: object) -> int:
    """Return the kind of the events with an AG-UI type."""
    return KINDS.get(event_type, OTHER) if isinstance(event_type, str) else OTHER


def classify(event: Any) -> int:
    """Return the kind of an event that is not a model; `OTHER` for anything but an event."""
    if isinstance(event, Mapping):
        return kind_of(event.get("type"))
    if isinstance(event, bytes) and event.startswith(_TYPE_FIRST):
        event_type = event[len(_TYPE_FIRST) : event.find(b'"', len(_TYPE_FIRST))]
        if b"\\" not in event_type:
            return _KINDS_AS_BYTES.get(event_type, OTHER)
    if isinstance(event, (bytes, bytearray, memoryview, str)):
        try:
            value = orjson.loads(event)
        except orjson.JSONDecodeError:
            return OTHER
        return kind_of(value.get("type")) if isinstance(value, dict) else OTHER
    return kind_of(getattr(event, "type", None))


def as_dict(event: Any) -> dict[str, Any]:
    """Return an event as a dict of AG-UI's field names; an empty one for a non-event."""
    if type(event) is dict:
        return event
    try:
        value = decode(encode(event))
    except (InvalidEvent, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def delta_of(event: Any) -> str:
    """Return the delta of a content event; an empty string if it has none."""
    delta = event.get("delta") if isinstance(event, dict) else getattr(event, "delta", None)
    if delta is None and isinstance(event, (bytes, bytearray, memoryview, str)):
        delta = as_dict(event).get("delta")
    return delta if isinstance(delta, str) else ""


def message_id_of(event: Any) -> str | None:
    """Return the id of the message that a content event belongs to."""
    message_id = as_dict(event).get("messageId")
    return message_id if isinstance(message_id, str) else None


def result_text(event: Mapping[str, Any]) -> str:
    """Return the content of a TOOL_CALL_RESULT as text."""
    content = event.get("content")
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        return "".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else ""


def tool_error(event: Mapping[str, Any]) -> str | None:
    """Return the error in a TOOL_CALL_RESULT; `None` if the tool succeeded.

    The tool failed if the event, or its metadata, has an `error` or `isError`, or if its text is a JSON object with one
    of these, or begins with `Error`.
    """
    text = result_text(event)
    values: list[Any] = [event, event.get("metadata")]
    if text.lstrip().startswith("{"):
        with contextlib.suppress(orjson.JSONDecodeError):
            values.append(orjson.loads(text))
    for value in values:
        if isinstance(value, dict) and (error := value.get("error") or value.get("isError")):
            return error if isinstance(error, str) and not text else text or str(error)
    return text if text.startswith("Error") else None


def outcome_of(event: Any) -> dict[str, Any]:
    """Return the outcome of a RUN_FINISHED; an empty dict if it has none that can be read."""
    outcome = as_dict(event).get("outcome")
    return outcome if isinstance(outcome, dict) else {}


def interrupts_of(event: Any) -> list[dict[str, Any]]:
    """Return the interrupts with which a RUN_FINISHED ends the run, each id once.

    There are none in an event that the recorder will refuse, because no client sees them.
    """
    if outcome_of(event).get("type") != "interrupt":
        return []
    try:
        outcome = decode(_core.conform(encode(event)))["outcome"]
    except ValueError:
        return []
    return list({each["id"]: each for each in outcome["interrupts"]}.values())
