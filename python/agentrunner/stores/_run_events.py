"""The events of stored runs: compacted when a run ends, read when it is replayed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agentrunner import _core
from agentrunner.errors import InvalidEvent, StoreCorrupt, StoreValueTooLarge

if TYPE_CHECKING:
    from agentrunner._core import Claim, Frames, Recorder

INLINE_EVENTS = 10_000
"""Number of events up to which a run is compacted on the event loop."""
INLINE_ENTRIES_BYTES = 128 << 10
"""Size of a run's compacted events in bytes up to which its entries are made on the event loop."""
UNREADABLE = (InvalidEvent, StoreCorrupt)
"""Errors that the core raises for events that it cannot read."""


def check_run_size(claim: Claim, recorder: Recorder, max_bytes: int) -> None:
    """Raise `StoreValueTooLarge` if a run may be larger than the store can keep."""
    if recorder.compacted_bytes > max_bytes:
        raise StoreValueTooLarge(
            f"run '{claim.run_id}' has about {recorder.compacted_bytes} bytes of events, the store can keep {max_bytes}"
        )


async def compact_run(recorder: Recorder) -> bytes:
    """Return the run's compacted events as a JSON array."""
    if recorder.recorded <= INLINE_EVENTS:
        return recorder.compacted()
    # A long run takes longer than the other tasks of the event loop should wait.
    return await asyncio.to_thread(recorder.compacted)


async def list_message_ids(recorder: Recorder) -> list[str]:
    """Return the entries that the run adds to its thread, as `Recorder.message_ids` does."""
    if recorder.compacted_bytes <= INLINE_ENTRIES_BYTES:
        return recorder.message_ids
    return await asyncio.to_thread(lambda: recorder.message_ids)


def read_run(events: bytes, last_seq: int, skip: int = 0) -> Frames | None:
    """Return a stored run's frames after the first `skip`, or `None` if they are unreadable."""
    try:
        return _core.run_frames(events, last_seq, skip)
    except UNREADABLE:
        return None


def is_readable(events: bytes) -> bool:
    """Return whether a stored run's events can be read."""
    return read_run(events, 0) is not None
