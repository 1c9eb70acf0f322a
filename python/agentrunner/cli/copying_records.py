"""Records brought from a store to another, and compared."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrunner.cli.copying import Refused, summary_of
from agentrunner.errors import RecordConflict
from agentrunner.stores import Change

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from agentrunner.stores import Record, Store

PAGE = 100
"""Records in memory at a time."""
BYTES = 1 << 20
"""Of values in one step of the destination; a larger one is alone."""


async def threads_of_records(store: Store, known: Collection[str]) -> list[str]:
    """Give the threads that have records and are not known: they have no run, or are nobody's."""
    seen = set(known)
    found: list[str] = []
    async for record in _records(store, None):
        if record.thread_id not in seen:
            seen.add(record.thread_id)
            found.append(record.thread_id)
    return found


async def copy_records(source: Store, target: Store, thread_id: str) -> int:
    """Make a thread's records at the destination what they are at the source; give how many were written.

    Of nobody's records those that are not there: what is there is of its processes. Raises `Refused`.
    """
    if thread_id and await summary_of(source, thread_id) is None and await summary_of(target, thread_id) is not None:
        raise Refused("it has gone its own way there")
    changes: list[Change] = []
    size = count = 0
    async for change in _differences(source, target, thread_id):
        if changes and (size + len(change.value or b"") > BYTES or len(changes) == PAGE):
            await _write(target, changes)
            changes, size = [], 0
        changes.append(change)
        size += len(change.value or b"")
        count += 1
    if changes:
        await _write(target, changes)
    return count


async def compare_records(source: Store, target: Store, thread_id: str) -> tuple[int, int]:
    """Read a thread's records back from both stores; give how many the source has, and how many differ."""
    differing = 0
    async for _ in _differences(source, target, thread_id):
        differing += 1
    total = 0
    async for _ in _records(source, thread_id):
        total += 1
    return total, differing


async def _write(target: Store, changes: list[Change]) -> None:
    try:
        await target.write(changes)
    except RecordConflict as conflict:
        raise Refused(f"its {conflict.kind} '{conflict.key}' is another's there, or changes meanwhile") from None


async def _differences(source: Store, target: Store, thread_id: str) -> AsyncIterator[Change]:
    """Give what has to be done at the destination, in order."""
    ours, theirs = _records(source, thread_id), _records(target, thread_id)
    their = await anext(theirs, None)
    async for our in ours:
        while their is not None and their[:2] < our[:2]:
            if thread_id:
                yield _removal(their)
            their = await anext(theirs, None)
        if their is None or their[:2] > our[:2]:
            yield Change(our.kind, our.key, thread_id, our.value, 0)
            continue
        if thread_id and our.value != their.value:
            yield Change(our.kind, our.key, thread_id, our.value, their.version)
        their = await anext(theirs, None)
    while thread_id and their is not None:
        yield _removal(their)
        their = await anext(theirs, None)


def _removal(record: Record) -> Change:
    return Change(record.kind, record.key, record.thread_id, None, record.version)


async def _records(store: Store, thread_id: str | None) -> AsyncIterator[Record]:
    after: tuple[str, str] | None = None
    while page := await store.records(None, thread_id, after, PAGE):
        for record in page:
            yield record
        after = (page[-1].kind, page[-1].key)
