"""Events between Python and JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

import orjson

from agentrunner import _core
from agentrunner._core import Event
from agentrunner.errors import InvalidCursor, InvalidEvent

if TYPE_CHECKING:
    from pydantic import BaseModel

    from agentrunner.types import Cursor, EventLike


def encode(event: EventLike) -> bytes:
    """Give the JSON of an event (or of a run's input): of a model or dict without its `None` fields.

    Raises `InvalidEvent` for a value JSON has no word for: NaN, infinity, a `str` that cannot be UTF-8.
    """
    if isinstance(event, bytes):
        return event
    try:
        if isinstance(event, str):
            return event.encode()
        if isinstance(event, (Event, bytearray, memoryview)):
            return bytes(event)
        if not isinstance(event, Mapping):
            # `ag_ui` leaves optional fields that are None out; `exclude_none` would also take a snapshot that is None.
            text: str = event.model_dump_json(by_alias=True)
            return _checked(text.encode(), lambda: event.model_dump(by_alias=True))
        return _checked(_dump(event), lambda: event)
    except (TypeError, ValueError, AttributeError) as error:
        raise InvalidEvent(f"an event cannot be written as JSON: {error}") from error


def read_cursor(text: str) -> Cursor:
    """Give a cursor's place. Raises `InvalidCursor`."""
    try:
        return _core.parse_cursor(text)
    except UnicodeEncodeError as error:
        raise InvalidCursor(f"a cursor is digits: {error}") from None


def _dump(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        # Integers over 64 bits, which the standard library writes; what it cannot write either is refused.
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _checked(written: bytes, value: Any) -> bytes:
    """Refuse NaN and infinities: both writers make `null` of them, so only where that stands the value is searched."""
    if b"null" in written and not _finite(value()):
        raise InvalidEvent("an event cannot be written as JSON: NaN and infinities have no place in it")
    return written


def _finite(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(_finite(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return all(_finite(item) for item in value)
    return True


_AS_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_LONG_NUMBER = b"0" * 19
"""What may be an integer over 64 bits, of which orjson makes a float."""


def decode(data: bytes) -> Any:
    """Give the Python value of a JSON text known to be valid."""
    try:
        if _LONG_NUMBER not in data.translate(_AS_ZEROS):
            return orjson.loads(data)
    except orjson.JSONDecodeError:
        # Lone surrogates and numbers orjson refuses are kept by the standard library.
        pass
    return json.loads(data, parse_int=_integer)


def _integer(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        # Longer than `sys.set_int_max_str_digits` allows.
        return float(text)


def dump(value: object) -> bytes:
    """Give the JSON of what `decode` gave: lone surrogates and long integers as they were, `null` for infinities."""
    try:
        return orjson.dumps(value)
    except TypeError:
        plain = value if _finite(value) else json.loads(json.dumps(value), parse_constant=lambda _: None)
        return json.dumps(plain, allow_nan=False, separators=(",", ":")).encode()


def to_dict(data: bytes) -> dict[str, Any]:
    """Give an event as a dict."""
    value: dict[str, Any] = decode(data)
    return value


def to_model(data: bytes) -> BaseModel:
    """Give an event as its `ag_ui.core` model; of an unknown kind as a `BaseEvent`-less plain model is refused."""
    model: BaseModel = _adapter().validate_json(data)
    return model


@cache
def _adapter() -> Any:
    from ag_ui.core import Event as AguiEvent
    from pydantic import TypeAdapter

    return TypeAdapter(AguiEvent)
