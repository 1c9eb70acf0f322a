"""Events with one field damaged: missing, null, or of each other JSON type, at any depth."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

MISSING = object()
VALUES: tuple[Any, ...] = (MISSING, None, True, 5, -1.5, "x", [], {}, [5], {"a": 1}, [None], [{}])
"""What a field becomes."""
Path = tuple[Any, ...]


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of every field and item in a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from places(item, (*path, key))


def damage(event: dict[str, Any], path: Path, value: Any) -> dict[str, Any]:
    """Return a copy of an event with another value at a path."""
    damaged = copy.deepcopy(event)
    container: Any = damaged
    for key in path[:-1]:
        container = container[key]
    if value is MISSING:
        del container[path[-1]]
    else:
        container[path[-1]] = copy.deepcopy(value)
    return damaged


def damaged_events(event: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the event with each of its fields damaged in each way."""
    for path in places(event):
        for value in VALUES:
            yield damage(event, path, value)
