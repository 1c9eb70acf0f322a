"""Stores: the protocol, the types its verbs take and return, and one module a backend."""

from __future__ import annotations

# For authors of stores, who find all a verb takes and returns in one place.
from agentrunner._core import Batch, Claim, Frames, Recorder
from agentrunner.stores.protocol import Store
from agentrunner.stores.types import (
    Change,
    Cursor,
    HistoryPage,
    JournalPage,
    Place,
    Record,
    Report,
    StoredRun,
)

__all__ = [
    "Batch",
    "Change",
    "Claim",
    "Cursor",
    "Frames",
    "HistoryPage",
    "JournalPage",
    "Place",
    "Record",
    "Recorder",
    "Report",
    "Store",
    "StoredRun",
]
