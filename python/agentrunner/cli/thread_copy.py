"""Copy threads from one store to another, and compare both."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import orjson

from agentrunner._counts import format_count
from agentrunner.errors import (
    CursorAhead,
    CursorError,
    InvalidInput,
    RunAlreadyExists,
    ThreadAlreadyRunning,
    ThreadNotFound,
)
from agentrunner.types import ANY_SCOPE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agentrunner.stores import Store, StoredRun
    from agentrunner.types import ThreadSummary

    OnPage: TypeAlias = Callable[[list[StoredRun]], None]

RUN_PAGE_BYTES = 1 << 20
"""Bytes of runs read, and written to the destination, at a time; a larger run is a page by itself."""
THREAD_PAGE_SIZE = 500
"""Threads listed at a time."""
MAX_SEQ = 1 << 62
"""Highest sequence number that `_last_seq` looks for."""
DIVERGED = "the destination's thread has diverged from the source's"
LIVE_AT_DESTINATION = "it has a live run at the destination"


class CopyRefused(Exception):
    """Raised when the destination has data the source lacks; it is left unchanged."""


@dataclass(slots=True)
class ThreadComparison:
    """One thread in both stores."""

    runs: int
    """Number of the source's runs that can be read."""
    unread: int
    """Number of the source's runs that cannot be read."""
    difference: str | None
    """Description of how they differ; `None` if they are equal."""


async def thread_ids(store: Store) -> list[str]:
    """Return the ids of all threads, the least recently updated first.

    A thread that is in use during the copy is then copied last, when most of its changes are made.
    """
    ids: list[str] = []
    before = None
    while page := await store.threads(THREAD_PAGE_SIZE, before, True, None, ANY_SCOPE):
        ids += (thread.thread_id for thread in page)
        before = (page[-1].updated_at, page[-1].thread_id)
    return ids[::-1]


async def copy_thread(source: Store, target: Store, thread_id: str, on_page: OnPage, scope: str | None = None) -> None:
    """Copy the runs and the summary of a thread that the destination lacks.

    With `scope`, the copy belongs to this scope. Raises `CopyRefused`.
    """
    try:
        thread = _in_scope(replace(await source.thread(thread_id), running=False), scope)
    except ThreadNotFound:
        # It was deleted after the threads were listed.
        return
    target_thread = await find_summary(target, thread_id)
    if target_thread == thread:
        return
    if target_thread is not None and target_thread.running:
        raise CopyRefused(LIVE_AT_DESTINATION)
    last = await _last_shared_run(source, target, thread_id)
    try:
        has_written = False
        async for page in _linked_runs(source, thread_id, last):
            await target.put(thread, page)
            on_page(page)
            has_written = True
        if not has_written and target_thread is not None:
            await target.put(thread, [])
    except ThreadAlreadyRunning:
        raise CopyRefused(LIVE_AT_DESTINATION) from None
    except (RunAlreadyExists, InvalidInput) as error:
        raise CopyRefused(str(error)) from None


def _in_scope(thread: ThreadSummary, scope: str | None) -> ThreadSummary:
    return thread if scope is None else replace(thread, scope=scope)


async def compare_thread(
    source: Store, target: Store, thread_id: str, on_page: OnPage, scope: str | None = None
) -> ThreadComparison:
    """Read a thread from both stores and return how they differ; the copy may be in `scope`."""
    thread, copy = await find_summary(source, thread_id), await find_summary(target, thread_id)
    if thread is None:
        return ThreadComparison(0, 0, "it is no longer in the source" if copy is not None else None)
    copy_checksum, after = _Checksum(), 0
    while page := await target.runs(thread_id, after, RUN_PAGE_BYTES):
        after = page[-1].last_seq
        for run in page:
            copy_checksum.add(run)
    # A copy is incomplete, not different, if its checksum is that of the same number of the source's first runs.
    source_checksum, prefix_hex = _Checksum(), _Checksum().hex
    async for page in _linked_runs(source, thread_id, None):
        on_page(page)
        for run in page:
            source_checksum.add(run)
            if source_checksum.runs == copy_checksum.runs:
                prefix_hex = source_checksum.hex
    unread = max(thread.runs - source_checksum.runs, 0)
    if source_checksum.hex == copy_checksum.hex:
        is_same = copy is None or replace(copy, runs=thread.runs, running=thread.running) == _in_scope(thread, scope)
        difference = None if is_same else "its name, agent, scope, archive mark or times differ"
    elif prefix_hex == copy_checksum.hex:
        difference = f"it has {copy_checksum.runs:,} of {format_count(source_checksum.runs, 'run')}"
    else:
        difference = f"its runs differ: {copy_checksum.runs} at the destination, {source_checksum.runs} in the source"
    return ThreadComparison(source_checksum.runs, unread, difference)


class _Checksum:
    """A SHA-256 over runs in order, with all data that a store keeps of them."""

    def __init__(self) -> None:
        self.runs = 0
        self._hash = hashlib.sha256()

    def add(self, run: StoredRun) -> None:
        bodies = run.input.encode(), run.events
        # The lengths come first: without them, two different lists of runs could hash the same bytes.
        head = [run.run_id, run.parent_run_id, run.first_seq, run.last_seq, run.created_at, *map(len, bodies)]
        for data in (orjson.dumps(head), *bodies):
            self._hash.update(data)
        self.runs += 1

    @property
    def hex(self) -> str:
        return self._hash.hexdigest()


async def _linked_runs(store: Store, thread_id: str, last: StoredRun | None) -> AsyncIterator[list[StoredRun]]:
    """Iterate over pages of the runs after `last`, as a chain without gaps.

    If a run cannot be read or its parent is missing, the next run is linked to the run before it. No run ends before
    its parent. Every store does the same with runs that are put into it.
    """
    while page := await store.runs(thread_id, last.last_seq if last is not None else 0, RUN_PAGE_BYTES):
        for n, run in enumerate(page):
            if last is None:
                page[n] = last = run._replace(parent_run_id=None)
            else:
                created_at = max(run.created_at, last.created_at)
                page[n] = last = run._replace(parent_run_id=last.run_id, created_at=created_at)
        yield page


async def _last_shared_run(source: Store, target: Store, thread_id: str) -> StoredRun | None:
    """Return the destination's last run of a thread.

    Raises `CopyRefused` if the source does not have that run.
    """
    last_seq = await _last_seq(target, thread_id)
    if last_seq == 0:
        return None
    copies = await target.runs(thread_id, last_seq - 1, 1)
    originals = await source.runs(thread_id, last_seq - 1, 1)
    if not (copies and originals and _identity(copies[0]) == _identity(originals[0])):
        raise CopyRefused(DIVERGED)
    return copies[0]


def _identity(run: StoredRun) -> tuple[str, int, int]:
    return run.run_id, run.first_seq, run.last_seq


async def _last_seq(store: Store, thread_id: str) -> int:
    """Return a thread's last sequence number, found by binary search.

    No method of a store returns this number, but `locate` tells whether a number is beyond the thread's end.
    """

    async def is_ahead(seq: int) -> bool:
        try:
            await store.locate(thread_id, (seq, None))
        except CursorAhead:
            return True
        except CursorError:
            pass
        return False

    low, high = 0, 1
    while high < MAX_SEQ and not await is_ahead(high):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        if await is_ahead(middle):
            high = middle
        else:
            low = middle
    return low


async def find_summary(store: Store, thread_id: str) -> ThreadSummary | None:
    """Return a thread's summary, or `None` if the store has no such thread."""
    try:
        return await store.thread(thread_id)
    except ThreadNotFound:
        return None
