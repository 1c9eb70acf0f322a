"""Turn a cursor into a list of sources, once, when a reader connects."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agentrunner._core import Superseded
from agentrunner.errors import CursorAhead, InvalidEvent, StoreCorrupt
from agentrunner.reading.failures import EarlierFailures
from agentrunner.reading.snapshot import snapshot_frames
from agentrunner.reading.sources import (
    PAGE_BYTES,
    CompactedRest,
    History,
    JournalRest,
    LastWord,
    LivePrefix,
    LiveTail,
    Snapshot,
    ThinnedHistory,
)
from agentrunner.reading.stream import EventStream

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agentrunner.reading.compacted_cache import CompactedCache
    from agentrunner.reading.sources import Source
    from agentrunner.running.live_run import LiveRun
    from agentrunner.stores import Store, ThreadGuard
    from agentrunner.types import Cursor

UNREADABLE = (InvalidEvent, StoreCorrupt)
"""Errors of frames that the core cannot read."""
START: Cursor = (0, None)
"""Cursor of a reader that has seen nothing."""


class ReadingPlan:
    """Chooses the sources for a reader of one thread, their ranges and their order."""

    def __init__(
        self,
        store: Store,
        cache: CompactedCache,
        thread_id: str,
        live: LiveRun | None,
        guard: ThreadGuard | None = None,
    ) -> None:
        self._store = store
        self._cache = cache
        self._thread_id = thread_id
        self._guard = guard
        """Guard for the thread that the reader joined, so that it never gets another thread's events."""
        self._live = live
        """The thread's live run; the caller counts as its reader until the plan is made."""

    def live_run(self, live: LiveRun, after: int) -> list[Source]:
        """Return the sources for a live run after a sequence number."""
        return [LiveTail(self._store, live, after), LastWord(live)]

    async def after_cursor(self, cursor: Cursor) -> list[Source] | None:
        """Return the sources for everything after a cursor.

        `None` means that a run has started or ended since the caller looked for a live one, so the caller must look
        again. Raises `CursorExpired` and `CursorAhead`.
        """
        seq, index = cursor
        live = self._live
        location = await self._store.locate(self._thread_id, cursor, guard=self._guard)
        sources: list[Source]
        is_in_live = live is not None and seq >= live.claim.first_seq
        if location.kind == "live" and live is not None and is_in_live:
            if await self._reaches(live, seq):
                rest = [] if index is None else [self._compacted_rest(live.claim.first_seq, seq, index + 1)]
                return [*rest, *self.live_run(live, seq)]
            return None
        if location.kind == "live" or is_in_live:
            return None
        if location.kind == "journal":
            first_seq, last_seq = location.first_seq, location.last_seq
            sources = [] if index is None else [self._compacted_rest(first_seq, seq, index + 1)]
            if index is None or seq < last_seq:
                sources.append(JournalRest(self._store, self._thread_id, seq, last_seq, self._guard))
            sources.append(await self._thinned_history((last_seq, None)))
        else:
            sources = [await self._thinned_history(cursor)]
        return [self._without_earlier_failures(sources, cursor), *self._from_live_prefix()]

    async def after_messages(self, known: Sequence[Mapping[str, Any]]) -> list[Source] | None:
        """Return the sources for a reader that has messages but no cursor.

        They are one snapshot, and then the live run. `None` means that the live run ended before its events in the
        snapshot were durable, so the caller must look again.
        """
        live = self._live
        history = [page async for page in EventStream([self._history(START)]).pages()]
        seq = None
        if live is not None:
            prefix, seq = await live.read_prefix()
            await live.wait_until_published(seq)
            if live.recorder.published < seq:
                return None
            history.append(prefix)
        # In a worker thread, because the snapshot of a long thread would block the event loop.
        frames = await asyncio.to_thread(snapshot_frames, history, known, seq)
        sources: list[Source] = [] if frames is None else [Snapshot(frames)]
        if live is not None and seq is not None:
            sources += self.live_run(live, seq)
        return sources

    async def as_of_now(self) -> list[Source]:
        """Return the sources for the thread as it is now, without following a live run."""
        sources: list[Source] = [self._history(START)]
        if self._live is not None:
            frames, seq = await self._live.read_prefix()
            await self._live.wait_until_published(seq)
            sources.append(Snapshot(frames))
        return sources

    def _history(self, after: Cursor) -> History:
        until = self._live.claim.first_seq if self._live is not None else None
        return History(self._store, self._cache, self._thread_id, after, until, self._guard)

    async def _thinned_history(self, after: Cursor) -> Source:
        """Return the stored runs after a cursor, without the snapshots that later ones replace."""
        history = self._history(after)
        # Most threads have no snapshots, and are read once.
        if not await self._store.known_ids(self._thread_id, [Superseded.ENTRY], guard=self._guard):
            return history
        superseded = Superseded()
        whole = self._history(START)
        try:
            while not whole.is_done:
                # In a worker thread, because this folds the whole thread.
                await asyncio.to_thread(superseded.push, await whole.read(PAGE_BYTES))
        except UNREADABLE:
            return history
        return ThinnedHistory(history, superseded) if superseded.finish() else history

    def _without_earlier_failures(self, sources: list[Source], after: Cursor) -> Source:
        """Return sources of stored runs that show only a failure that no run follows."""
        is_followed = self._live is not None
        return EarlierFailures(
            sources, self._store, self._thread_id, self._guard, is_from_start=after == START, is_followed=is_followed
        )

    def _from_live_prefix(self) -> list[Source]:
        live = self._live
        if live is None:
            return []
        tail = LiveTail(self._store, live, live.claim.first_seq - 1)
        return [LivePrefix(self._store, self._cache, live, tail), tail, LastWord(live)]

    def _compacted_rest(self, first_seq: int, seq: int, skip: int) -> Source:
        return CompactedRest(self._store, self._cache, self._thread_id, first_seq, seq, skip, self._guard)

    async def _reaches(self, live: LiveRun, seq: int) -> bool:
        """Wait until this process has published an event of a live run.

        Returns false if the run ended before that event. Raises `CursorAhead` if the run has not reached the event.
        """
        last_seq = live.recorder.last_seq
        if seq > last_seq and not live.is_driven:
            page = await self._store.journal(self._thread_id, seq - 1, None, 1, guard=self._guard)
            if len(page.frames):
                # The reader got this event from the process that runs the agent. This process will read it shortly.
                last_seq = seq
        await live.wait_until_published(min(seq, last_seq))
        if seq > live.recorder.published and not live.is_closed:
            raise CursorAhead(
                f"cursor {seq} is ahead of thread '{self._thread_id}', which is at {live.recorder.published}; "
                "connect again without a cursor"
            )
        return seq <= live.recorder.published
