"""Queries about a runtime's tool calls in its store and messages."""

from __future__ import annotations

from typing import Any

import orjson

UNKNOWN_OUTCOME = "The outcome of this call is unknown"


def without_reasoning(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return messages without reasoning.

    Clients keep the reasoning of a response that broke off; the session does not.
    """
    return [message for message in messages if message["role"] != "reasoning"]


async def load_finished_calls(store: Any) -> list[tuple[str, str]]:
    """Return the kind and call id of each ledger record that has a result."""
    records = await store.records("tool", "t1", None, 100)
    return [(r.kind, r.key.split("/")[1]) for r in records if orjson.loads(r.value)["value"]["result"] is not None]
