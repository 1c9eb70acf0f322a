"""Look up which of many ids a claimed run's thread has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrunner.stores.types import ThreadGuard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentrunner._core import Claim
    from agentrunner.stores import Store

LOOKUP_IDS = 1000
"""Number of message ids that are looked up at once."""


async def look_up(store: Store, claim: Claim, ids: Sequence[str]) -> dict[str, int]:
    """Return those of the ids that the thread of a claim has, as `Store.known_ids` does."""
    guard = ThreadGuard.of(claim)
    known_ids: dict[str, int] = {}
    for start in range(0, len(ids), LOOKUP_IDS):
        known_ids |= await store.known_ids(claim.thread_id, list(ids[start : start + LOOKUP_IDS]), guard=guard)
    return known_ids
