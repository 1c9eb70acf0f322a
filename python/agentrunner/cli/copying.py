"""Threads brought from a store to another, and compared."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

import orjson

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

PAGE = 1 << 20
"""Bytes of runs in memory at a time, and in one step of the destination; a larger run is alone."""
LISTED = 500
FARTHEST = 1 << 62


class Refused(Exception):
    """Raised when the destination has something that is not the source's; it is left as it is."""


@dataclass(slots=True)
class Compared:
    """One thread in both stores."""

    runs: int
    """How many runs of the source can be read."""
    unread: int
    """How many cannot."""
    difference: str | None


async def thread_ids(store: Store) -> list[str]:
    """Give all threads, the least recently updated first: what runs meanwhile is then met as late as possible."""
    found: list[str] = []
    before = None
    while page := await store.threads(LISTED, before, True, None, ANY_SCOPE):
        found += (thread.thread_id for thread in page)
        before = (page[-1].updated_at, page[-1].thread_id)
    return found[::-1]


async def copy_thread(source: Store, target: Store, thread_id: str, on_page: OnPage) -> None:
    """Bring to the destination what it lacks of a thread. Raises `Refused`."""
    try:
        thread = replace(await source.thread(thread_id), running=False)
    except ThreadNotFound:
        # Deleted since it was listed.
        return
    there = await summary_of(target, thread_id)
    if there == thread:
        return
    if there is not None and there.running:
        raise Refused("it has a live run there")
    last = await _last_shared(source, target, thread_id)
    try:
        put = False
        async for page in _chain(source, thread_id, last):
            await target.put(thread, page)
            on_page(page)
            put = True
        if not put and there is not None:
            await target.put(thread, [])
    except ThreadAlreadyRunning:
        raise Refused("it has a live run there") from None
    except (RunAlreadyExists, InvalidInput) as error:
        raise Refused(str(error)) from None


async def compare_thread(source: Store, target: Store, thread_id: str, on_page: OnPage) -> Compared:
    """Read a thread back from both stores and say where they differ."""
    thread, there = await summary_of(source, thread_id), await summary_of(target, thread_id)
    if thread is None:
        return Compared(0, 0, "it is no longer in the source" if there is not None else None)
    found, after = _Checksum(), 0
    while page := await target.runs(thread_id, after, PAGE):
        after = page[-1].last_seq
        for run in page:
            found.add(run)
    wanted, so_far = _Checksum(), _Checksum().hex
    async for page in _chain(source, thread_id, None):
        on_page(page)
        for run in page:
            wanted.add(run)
            if wanted.runs == found.runs:
                so_far = wanted.hex
    unread = max(thread.runs - wanted.runs, 0)
    if wanted.hex == found.hex:
        same = there is None or replace(there, runs=thread.runs, running=thread.running) == thread
        difference = None if same else "its name, agent, scope, mark or times differ"
    elif so_far == found.hex:
        difference = f"it has {found.runs} of {wanted.runs} runs"
    else:
        difference = f"its runs differ, {found.runs} for {wanted.runs}"
    return Compared(wanted.runs, unread, difference)


class _Checksum:
    """A SHA-256 over runs in order, with all that is kept of them."""

    def __init__(self) -> None:
        self.runs = 0
        self._hash = hashlib.sha256()

    def add(self, run: StoredRun) -> None:
        bodies = run.input.encode(), run.events
        # The lengths are told before what is told, so that no two lists of runs say the same.
        head = [run.run_id, run.parent_run_id, run.first_seq, run.last_seq, run.created_at, *map(len, bodies)]
        for part in (orjson.dumps(head), *bodies):
            self._hash.update(part)
        self.runs += 1

    @property
    def hex(self) -> str:
        return self._hash.hexdigest()


async def _chain(store: Store, thread_id: str, last: StoredRun | None) -> AsyncIterator[list[StoredRun]]:
    """Give the runs behind one, a page at a time, as a chain without gaps.

    Where a run cannot be read, or its parent is missing, the next is linked to the one before, and no run ends before
    the one before it: what every store makes of runs that are put.
    """
    while page := await store.runs(thread_id, last.last_seq if last is not None else 0, PAGE):
        for n, run in enumerate(page):
            if last is None:
                page[n] = last = run._replace(parent_run_id=None)
            else:
                at = max(run.created_at, last.created_at)
                page[n] = last = run._replace(parent_run_id=last.run_id, created_at=at)
        yield page


async def _last_shared(source: Store, target: Store, thread_id: str) -> StoredRun | None:
    """Give the destination's last run of a thread, which is the source's too. Raises `Refused`."""
    head = await _head(target, thread_id)
    if head == 0:
        return None
    theirs, ours = await target.runs(thread_id, head - 1, 1), await source.runs(thread_id, head - 1, 1)
    if not (theirs and ours and _place(theirs[0]) == _place(ours[0])):
        raise Refused("it has gone its own way there")
    return theirs[0]


def _place(run: StoredRun) -> tuple[str, int, int]:
    return run.run_id, run.first_seq, run.last_seq


async def _head(store: Store, thread_id: str) -> int:
    """Give the thread's last sequence number by halving: of a number a store says whether it is ahead of that."""

    async def ahead(seq: int) -> bool:
        try:
            await store.locate(thread_id, (seq, None))
        except CursorAhead:
            return True
        except CursorError:
            pass
        return False

    below, above = 0, 1
    while above < FARTHEST and not await ahead(above):
        below, above = above, above * 2
    while above - below > 1:
        middle = (below + above) // 2
        if await ahead(middle):
            above = middle
        else:
            below = middle
    return below


async def summary_of(store: Store, thread_id: str) -> ThreadSummary | None:
    """Give a thread, `None` if there is none."""
    try:
        return await store.thread(thread_id)
    except ThreadNotFound:
        return None
