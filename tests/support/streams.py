"""Reading event streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentrunner import EventStream


async def collect(stream: EventStream) -> list[dict[str, Any]]:
    """Read a stream to its end, as dicts."""
    return [event.to_dict() async for event in stream]
