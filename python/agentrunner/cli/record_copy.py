"""Copy records from one store to another, and compare both."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrunner.cli.thread_copy import DIVERGED, CopyRefused, find_summary
from agentrunner.errors import RecordConflict
from agentrunner.stores import Change

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from agentrunner.stores import Record, Store

RECORD_PAGE_SIZE = 100
"""Records read, and written to the destination, at a time."""
STEP_VALUE_BYTES = 1 << 20
"""Bytes of values written to the destination at a time; a larger value is written alone."""


async def threads_with_records(store: Store, listed: Collection[str]) -> list[str]:
    """Return the threads that have records but are not in `listed`.

    These threads have no run yet. The empty id stands for the records that belong to no thread.
    """
    seen = set(listed)
    ids: list[str] = []
    async for record in _iterate_records(store, None):
        if record.thread_id not in seen:
            seen.add(record.thread_id)
            ids.append(record.thread_id)
    return ids


async def copy_records(source: Store, target: Store, thread_id: str) -> int:
    """Make a thread's records equal to the source's, and return how many were written.

    With the empty id, copy only the records that the destination lacks: its other records without a thread belong to
    its own processes. Raises `CopyRefused`.
    """
    if (
        thread_id
        and await find_summary(source, thread_id) is None
        and await find_summary(target, thread_id) is not None
    ):
        raise CopyRefused(DIVERGED)
    changes: list[Change] = []
    size = count = 0
    async for change in _differences(source, target, thread_id):
        is_full = size + len(change.value or b"") > STEP_VALUE_BYTES or len(changes) == RECORD_PAGE_SIZE
        if changes and is_full:
            await _write(target, changes)
            changes, size = [], 0
        changes.append(change)
        size += len(change.value or b"")
        count += 1
    if changes:
        await _write(target, changes)
    return count


async def compare_records(source: Store, target: Store, thread_id: str) -> tuple[int, int]:
    """Return how many records of a thread the source has, and how many differ."""
    differing = 0
    async for _ in _differences(source, target, thread_id):
        differing += 1
    total = 0
    async for _ in _iterate_records(source, thread_id):
        total += 1
    return total, differing


async def _write(target: Store, changes: list[Change]) -> None:
    try:
        await target.write(changes)
    except RecordConflict as conflict:
        name = f"{conflict.kind} '{conflict.key}'"
        raise CopyRefused(
            f"its record {name} belongs to another thread at the destination, or changed during the copy"
        ) from None


async def _differences(source: Store, target: Store, thread_id: str) -> AsyncIterator[Change]:
    """Iterate, in order, over the changes that make the destination equal to the source."""
    originals, copies = _iterate_records(source, thread_id), _iterate_records(target, thread_id)
    copy = await anext(copies, None)
    async for original in originals:
        while copy is not None and copy[:2] < original[:2]:
            if thread_id:
                yield _removal(copy)
            copy = await anext(copies, None)
        if copy is None or copy[:2] > original[:2]:
            yield Change(original.kind, original.key, thread_id, original.value, 0)
            continue
        if thread_id and original.value != copy.value:
            yield Change(original.kind, original.key, thread_id, original.value, copy.version)
        copy = await anext(copies, None)
    while thread_id and copy is not None:
        yield _removal(copy)
        copy = await anext(copies, None)


def _removal(record: Record) -> Change:
    return Change(record.kind, record.key, record.thread_id, None, record.version)


async def _iterate_records(store: Store, thread_id: str | None) -> AsyncIterator[Record]:
    after: tuple[str, str] | None = None
    while page := await store.records(None, thread_id, after, RECORD_PAGE_SIZE):
        for record in page:
            yield record
        after = (page[-1].kind, page[-1].key)
