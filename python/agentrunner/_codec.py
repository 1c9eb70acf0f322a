"""Convert events between Python values and JSON."""

from __future__ import annotations

import json
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


_AS_PYDANTIC = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
"""Options that make orjson reject the types that it writes differently from pydantic."""
_SURROGATE_ESCAPE = b"\\ud"


def encode(event: EventLike) -> bytes:
    """Return the JSON of an event or of a run's input.

    Optional fields of `ag_ui` models that are `None` are left out. NaN and infinities become `null`, and values of
    other types are written as pydantic writes them.

    Raises `InvalidEvent`, with the value's path, for a value that has no JSON form.
    """
    if isinstance(event, bytes):
        return event
    if isinstance(event, str):
        try:
            return event.encode()
        except UnicodeEncodeError:
            from agentrunner._plain import escape_surrogates

            return escape_surrogates(event)
    if isinstance(event, (Event, bytearray, memoryview)):
        return bytes(event)
    if isinstance(event, Mapping):
        return dump(event, "event")
    try:
        return dump_model(event)
    except (TypeError, ValueError, AttributeError):
        # Checked only now, so that valid events do not pay for it.
        if isinstance(event, type) or not hasattr(event, "model_dump_json"):
            name = f"the class {event.__name__}" if isinstance(event, type) else type(event).__name__
            raise InvalidEvent(f"an event must be a dict, an `ag_ui` model, or JSON text, not {name}") from None
        return _dump_plain(event, "event")


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
        return dump_model(model, exclude)
    except (TypeError, ValueError):
        return _dump_plain(model.model_dump(by_alias=True, exclude=exclude), "input")


def dump_model(model: Any, exclude: set[str] | None = None) -> bytes:
    """Return the JSON of a model as pydantic writes it, or raise what pydantic raises."""
    # Without `exclude_none`: `ag_ui` leaves out optional fields by itself, and a snapshot may be `None`.
    text: str = model.model_dump_json(by_alias=True, exclude=exclude)
    return text.encode()


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


def dump(value: object, name: str = "value") -> bytes:
    """Return the JSON of a value, as `encode` writes it in an event.

    Errors call the value `name`. Lone surrogates and long integers are written unchanged. Raises `InvalidEvent`.
    """
    try:
        return orjson.dumps(value, option=_AS_PYDANTIC)
    except TypeError:
        return _dump_plain(value, name)


def _dump_plain(value: object, name: str) -> bytes:
    # Imported on first use: pydantic takes longer to load than the rest of the package.
    from agentrunner._plain import dump_plain

    return dump_plain(value, name)


def to_dict(data: bytes) -> dict[str, Any]:
    """Return an event as a dict."""
    value: dict[str, Any] = decode(data)
    return value


def to_model(data: bytes) -> BaseModel:
    """Return an event as its `ag_ui.core` model.

    Raises `pydantic.ValidationError` for an unknown kind.
    """
    try:
        model: BaseModel = _adapter().validate_json(data)
    except ValueError:
        if _SURROGATE_ESCAPE not in data.lower():
            raise
        # pydantic reads lone surrogates only from Python values.
        model = _adapter().validate_python(decode(data))
    return model


@cache
def _adapter() -> Any:
    from ag_ui.core import Event as AguiEvent
    from pydantic import TypeAdapter

    return TypeAdapter(AguiEvent)
