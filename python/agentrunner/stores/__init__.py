"""The store protocol, and one module or folder for each backend."""

from __future__ import annotations

# All types that the protocol's methods take and return, so that authors of stores find them in one place.
from agentrunner._core import Batch, Claim, Frames, Recorder
from agentrunner.stores.protocol import Store
from agentrunner.stores.types import (
    Backup,
    Change,
    CursorLocation,
    HistoryPage,
    JournalPage,
    Record,
    StoredRun,
    StoreReport,
    ThreadGuard,
)
from agentrunner.types import Cursor

# Former names, for stores that were written for 0.1.
Place = CursorLocation
Report = StoreReport

__all__ = [
    "Backup",
    "Batch",
    "Change",
    "Claim",
    "Cursor",
    "CursorLocation",
    "Frames",
    "HistoryPage",
    "JournalPage",
    "Place",
    "Record",
    "Recorder",
    "Report",
    "Store",
    "StoreReport",
    "StoredRun",
    "ThreadGuard",
]
