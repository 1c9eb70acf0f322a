"""Deeply nested input."""

from __future__ import annotations

from typing import Any


def make_nested(depth: int) -> dict[str, Any]:
    """Return an event of this many levels, including its own object."""
    value: Any = 1
    for _ in range(depth - 1):
        value = [value]
    return {"type": "CUSTOM", "name": "deep", "value": value}
