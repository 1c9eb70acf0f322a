"""Convert events between Python values and JSON."""

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
    """Return the JSON of an event or of a run's input.

    Optional fields of `ag_ui` models that are `None` are left out.

    Raises `InvalidEvent` for a value that JSON cannot express: NaN, infinity, or a `str` that is not valid UTF-8.
    """
    if isinstance(event, bytes):
        return event
    try:
        if isinstance(event, str):
            return event.encode()
        if isinstance(event, (Event, bytearray, memoryview)):
            return bytes(event)
        if not isinstance(event, Mapping):
            return _dump_model(event, None)
        return _require_finite(_dump(event), lambda: event)
    except (TypeError, ValueError, AttributeError) as error:
        # Checked only now, so that valid events do not pay for it.
        if not isinstance(event, (str, Mapping)) and (isinstance(event, type) or not hasattr(event, "model_dump_json")):
            name = f"the class {event.__name__}" if isinstance(event, type) else type(event).__name__
            raise InvalidEvent(f"an event must be a dict, an `ag_ui` model, or JSON text, not {name}") from None
        raise InvalidEvent(f"the event cannot be written as JSON: {error}") from error


def read_cursor(text: str) -> Cursor:
    """Return the position for a cursor's text. Raises `InvalidCursor`."""
    if not isinstance(text, str):
        raise InvalidCursor(f"a cursor must be a str, not {type(text).__name__}")
    try:
        return _core.parse_cursor(text)
    except UnicodeEncodeError as error:
        raise InvalidCursor(f"a cursor consists of digits: {error}") from None


def encode_fields(model: BaseModel, exclude: set[str]) -> bytes:
    """Return the JSON of a model without some of its fields. Raises `InvalidEvent`."""
    try:
        return _dump_model(model, exclude)
    except (TypeError, ValueError) as error:
        raise InvalidEvent(f"the input cannot be written as JSON: {error}") from error


def _dump_model(model: Any, exclude: set[str] | None) -> bytes:
    # Without `exclude_none`: `ag_ui` leaves out optional fields by itself, and a snapshot may be `None`.
    text: str = model.model_dump_json(by_alias=True, exclude=exclude)
    return _require_finite(text.encode(), lambda: model.model_dump(by_alias=True, exclude=exclude))


def _dump(value: object) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        # orjson refuses integers over 64 bits. The standard library writes them, and raises for all other bad values.
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _require_finite(data: bytes, value: Any) -> bytes:
    """Return the JSON if the value has no NaN or infinity, otherwise raise `InvalidEvent`."""
    # Both encoders write NaN and infinity as `null`, so the value is only searched if its JSON has a `null`.
    if b"null" in data and not _is_finite(value()):
        raise InvalidEvent("the event cannot be written as JSON: it contains NaN or an infinity")
    return data


def _is_finite(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(_is_finite(item) for item in value.values())
    if isinstance(value, (list, tuple)):
        return all(_is_finite(item) for item in value)
    return True


_AS_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_LONG_NUMBER = b"0" * 19
"""Digits of the shortest integer that may not fit into 64 bits; orjson turns such an integer into a float."""


def decode(data: bytes) -> Any:
    """Return the Python value of a JSON text that is known to be valid."""
    try:
        if _LONG_NUMBER not in data.translate(_AS_ZEROS):
            return orjson.loads(data)
    except orjson.JSONDecodeError:
        # orjson refuses lone surrogates and very large numbers; the standard library reads both.
        pass
    return json.loads(data, parse_int=_integer)


def _integer(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        # The number has more digits than `sys.set_int_max_str_digits` allows.
        return float(text)


def dump(value: object) -> bytes:
    """Return the JSON of a value that `decode` returned.

    Lone surrogates and long integers are written unchanged; infinities become `null`.
    """
    try:
        return orjson.dumps(value)
    except TypeError:
        plain = value if _is_finite(value) else json.loads(json.dumps(value), parse_constant=lambda _: None)
        return json.dumps(plain, allow_nan=False, separators=(",", ":")).encode()


def to_dict(data: bytes) -> dict[str, Any]:
    """Return an event as a dict."""
    value: dict[str, Any] = decode(data)
    return value


def to_model(data: bytes) -> BaseModel:
    """Return an event as its `ag_ui.core` model.

    Raises `pydantic.ValidationError` for an unknown kind.
    """
    model: BaseModel = _adapter().validate_json(data)
    return model


@cache
def _adapter() -> Any:
    from ag_ui.core import Event as AguiEvent
    from pydantic import TypeAdapter

    return TypeAdapter(AguiEvent)
