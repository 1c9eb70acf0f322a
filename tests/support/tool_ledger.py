"""What a runtime's store and messages say of its tool calls."""

from __future__ import annotations

from typing import Any

import orjson

UNKNOWN = "The outcome of this call is unknown"


def spoken(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give messages without reasoning: that of an answer that broke off stays with the clients that were shown it."""
    return [message for message in messages if message["role"] != "reasoning"]


async def ended_calls(store: Any) -> list[tuple[str, str]]:
    """Give the calls the ledger has a result of."""
    records = await store.records("tool", "t1", None, 100)
    return [(r.kind, r.key.split("/")[1]) for r in records if orjson.loads(r.value)["value"]["result"] is not None]
