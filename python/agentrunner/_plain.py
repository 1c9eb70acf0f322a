"""Convert Python values to those that JSON has, as pydantic does."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError, to_jsonable_python

from agentrunner._text import replace_halves
from agentrunner.errors import InvalidEvent

MAX_NODES = 100_000
"""Most values that are searched for the one that has no JSON form."""
MAX_LEVELS = 200
"""Most levels that are searched, about as many as pydantic serializes."""
_SURROGATES = re.compile("[\ud800-\udfff]")
_OWN_CODE = re.compile(r"^(Error calling function `[^`]*`: \w+).*", re.DOTALL)
"""Start of pydantic's message about an error in a serializer, up to the error's text."""


class NoJsonForm(TypeError):
    """Raised for a value of a type that neither pydantic nor this module can convert."""


def dump_plain(value: object, name: str) -> bytes:
    """Return the JSON of a value as pydantic writes it; NaN and infinities become `null`.

    `name` is what errors call the value. Raises `InvalidEvent` if a part has no JSON form, and names the part.
    """
    plain = _to_plain(value, name)
    try:
        text = _write_json(plain)
    except ValueError:
        # pydantic leaves NaN and infinities in models to each model's own configuration.
        text = _write_json(_replace_non_finite(plain))
    return escape_surrogates(text)


def _write_json(plain: Any) -> str:
    return json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _replace_non_finite(value: Any) -> Any:
    """Return a JSON value with `None` for NaN and infinities."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _replace_non_finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_replace_non_finite(item) for item in value]
    return value


def escape_surrogates(text: str) -> bytes:
    """Return JSON text as UTF-8, with lone surrogates as escapes."""
    # This handler writes escapes as JSON has them, and text has halves of surrogates only inside strings.
    return text.encode("utf-8", "backslashreplace")


def replace_surrogates(value: Any) -> Any:
    """Return a JSON value with each lone surrogate replaced by U+FFFD."""
    if isinstance(value, str):
        return value if value.isascii() or _SURROGATES.search(value) is None else replace_halves(value)
    if isinstance(value, dict):
        return {replace_surrogates(key): replace_surrogates(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [replace_surrogates(item) for item in value]
    return value


def _to_plain(value: object, name: str) -> Any:
    try:
        try:
            return _convert(value)
        except ValueError as error:
            if "surrogates not allowed" not in str(error):
                raise
            # pydantic accepts lone surrogates in text, but not in keys.
            return _convert_around_keys(value)
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        path, reason = _find_culprit(value) or ("", _describe(error))
        about = f"`{path}`: " if path else ""
        raise InvalidEvent(f"the {name} cannot be written as JSON: {about}{reason}") from error


def _convert(value: object) -> Any:
    return to_jsonable_python(value, by_alias=True, inf_nan_mode="null", fallback=_convert_unknown)


def _convert_around_keys(value: object) -> Any:
    """Return a value whose parts pydantic has converted, except keys that are text."""
    if isinstance(value, BaseModel):
        value = value.model_dump(by_alias=True)
    if isinstance(value, Mapping):
        return {
            key if isinstance(key, str) else next(iter(_convert({key: None}))): _convert_around_keys(item)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_convert_around_keys(item) for item in value]
    return value if isinstance(value, str) else _convert(value)


def _convert_unknown(value: Any) -> Any:
    """Return a value of a type that pydantic does not know as one that it knows."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    # numpy's scalars and arrays; the package need not be installed.
    if type(value).__module__.partition(".")[0] == "numpy" and hasattr(value, "tolist"):
        return value.tolist()
    raise NoJsonForm(f"a value of type {type(value).__name__} has no JSON form")


def _describe(error: Exception) -> str:
    """Return why a value cannot be converted.

    The readers of a run see the reason. It leaves out the text of an exception of the value's own code, which may
    contain anything.
    """
    text = str(error)
    if isinstance(error, (NoJsonForm, UnicodeError, RecursionError)) or text.startswith("Circular reference"):
        return text
    if isinstance(error, PydanticSerializationError):
        return _OWN_CODE.sub(r"\1", text)
    return f"its conversion raised {type(error).__name__}"


def _find_culprit(value: object) -> tuple[str, str] | None:
    """Return the path of the first part that has no JSON form, and the reason, if found."""
    parents: dict[int, None] = {}
    # Each entry is a value and its path; `None` for the path marks the end of a value's parts.
    stack: list[tuple[object, str | None]] = [(value, "")]
    for _ in range(MAX_NODES):
        if not stack:
            return None
        part, path = stack.pop()
        if path is None:
            del parents[id(part)]
            continue
        if id(part) in parents:
            return path, "it contains itself"
        parts = list(_iterate_parts(part, path))
        if parts and len(parents) >= MAX_LEVELS:
            return path[:MAX_LEVELS], f"it is nested over {MAX_LEVELS} levels deep"
        if parts:
            parents[id(part)] = None
            stack.append((part, None))
            stack.extend(reversed(parts))
        elif (reason := _find_reason(part)) is not None:
            return path, reason
    return None


def _iterate_parts(value: object, path: str) -> Iterator[tuple[object, str]]:
    if isinstance(value, BaseModel):
        value = {**dict(value), **(value.model_extra or {})}
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield item, f"{path}.{key}" if path else str(key)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for number, item in enumerate(value):
            yield item, f"{path}[{number}]"


def _find_reason(value: object) -> str | None:
    try:
        _convert(value)
    except Exception as error:  # noqa: BLE001 - a type's own serializer may raise anything
        return _describe(error)
    return None
