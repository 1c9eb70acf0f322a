"""The sources that a stream reads in turn: stored runs, journals, a live run, an error."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from agentrunner import _core
from agentrunner._core import Frames
from agentrunner.errors import CursorExpired
from agentrunner.reading.compacted_cache import SlicedRun

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agentrunner._core import Claim, Superseded
    from agentrunner.reading.compacted_cache import CompactedCache, Key
    from agentrunner.running.live_run import LiveRun
    from agentrunner.stores import Store, ThreadGuard
    from agentrunner.types import Cursor

PAGE_BYTES = 64 * 1024
"""Approximate number of bytes that a reader gets at once.

A server may hold this much for each client, in addition to the bytes that it is sending.
"""
LONG_RUN_BYTES = PAGE_BYTES
"""Size in bytes above which a compacted run is handed out in slices."""
SHARED_PREFIX_EVENTS = 1000
"""Number of events that a live run's cached compaction may lack for a new reader to share it.

The reader gets those events afterwards, uncompacted.
"""
REBUILD_PAGE_BYTES = 1 << 20
"""Approximate number of bytes of raw frames that are read at once to compact a run again."""
NO_FRAMES = Frames(b"")


class Source(Protocol):
    """A source of frames, which a stream reads until `is_done` is true."""

    is_done: bool
    """Whether the source has no more frames."""
    is_replay: bool
    """Whether its frames existed when the reader joined, unlike the later frames of a live run."""
    has_waited: bool
    """Whether the last `read` had to wait for an event."""

    async def read(self, page_bytes: int) -> Frames:
        """Return the next frames, about `page_bytes` bytes of them, or none."""
        ...


class _Replay:
    """A source whose frames exist already and are handed out in slices if they are long."""

    __slots__ = ("_cache", "_guard", "_sliced", "_store", "_thread_id", "is_done")

    is_replay = True
    has_waited = False

    def __init__(self, store: Store, cache: CompactedCache, thread_id: str, guard: ThreadGuard | None) -> None:
        self._store = store
        self._cache = cache
        self._thread_id = thread_id
        self._guard = guard
        self._sliced: SlicedRun | None = None
        self.is_done = False

    async def read(self, page_bytes: int) -> Frames:
        if self._sliced is not None:
            frames = await self._sliced.read(self._cache, page_bytes)
            if self._sliced.is_read:
                self._sliced = None
                self.is_done = self._is_exhausted()
            return frames
        frames = await self._read_page(page_bytes)
        self.is_done = self._sliced is None and self._is_exhausted()
        return frames

    async def _read_page(self, page_bytes: int) -> Frames:
        raise NotImplementedError

    def _is_exhausted(self) -> bool:
        """Return whether no page follows the one that was read last."""
        return True

    async def _slice(
        self, key: Key, frames: Frames, rebuild: Callable[[], Awaitable[Frames]], size: int, offset: int = 0
    ) -> Frames:
        """Return the frames from an offset on, or only their first slice if they are long.

        The next calls of `read` return the other slices.
        """
        if len(frames) - offset <= LONG_RUN_BYTES:
            return frames if offset == 0 else frames.page(offset, len(frames))[0]
        if self._cache.get(key) is not frames:
            self._cache.put(key, frames)
        sliced = SlicedRun(key, len(frames), rebuild, offset)
        first = await sliced.read(self._cache, size)
        if not sliced.is_read:
            self._sliced = sliced
        return first


class Snapshot:
    """Frames that were made for this reader."""

    __slots__ = ("_frames", "is_done")

    is_replay = True
    has_waited = False

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self.is_done = False

    async def read(self, page_bytes: int) -> Frames:
        """Return all the frames."""
        self.is_done = True
        return self._frames


class History(_Replay):
    """A thread's stored runs after a cursor, compacted.

    With `until`, only the runs that begin before that sequence number.
    """

    __slots__ = ("_next", "_until")

    def __init__(
        self,
        store: Store,
        cache: CompactedCache,
        thread_id: str,
        after: Cursor,
        until: int | None = None,
        guard: ThreadGuard | None = None,
    ) -> None:
        super().__init__(store, cache, thread_id, guard)
        self._next: Cursor | None = after
        self._until = until

    async def _read_page(self, page_bytes: int) -> Frames:
        after = self._next
        if after is None:
            return NO_FRAMES

        async def rebuild() -> Frames:
            page = await self._store.history(self._thread_id, after, self._until, page_bytes, guard=self._guard)
            return page.frames

        page = await self._store.history(self._thread_id, after, self._until, page_bytes, guard=self._guard)
        self._next = page.next
        key = (self._thread_id, "history", (self._guard, after, self._until), page_bytes)
        return await self._slice(key, page.frames, rebuild, page_bytes)

    def _is_exhausted(self) -> bool:
        return self._next is None


class ThinnedHistory:
    """A thread's stored runs without the snapshots that later ones replace."""

    __slots__ = ("_history", "_superseded", "is_done")

    is_replay = True
    has_waited = False

    def __init__(self, history: History, superseded: Superseded) -> None:
        self._history = history
        self._superseded = superseded
        self.is_done = False

    async def read(self, page_bytes: int) -> Frames:
        """Return the next frames, about `page_bytes` bytes of them, or none."""
        frames = self._superseded.leave_out(await self._history.read(page_bytes))
        self.is_done = self._history.is_done
        return frames


class CompactedRest(_Replay):
    """The rest of a compacted run that a reader has begun.

    The run is compacted up to `seq`; its first `skip` frames are left out.
    """

    __slots__ = ("_first_seq", "_seq", "_skip")

    def __init__(
        self,
        store: Store,
        cache: CompactedCache,
        thread_id: str,
        first_seq: int,
        seq: int,
        skip: int,
        guard: ThreadGuard | None = None,
    ) -> None:
        super().__init__(store, cache, thread_id, guard)
        self._first_seq = first_seq
        self._seq = seq
        self._skip = skip

    async def _read_page(self, page_bytes: int) -> Frames:
        async def rebuild() -> Frames:
            return await recompact(self._store, self._thread_id, self._first_seq - 1, self._seq, self._guard)

        # The whole run, so that readers share it wherever in it they resume.
        key = (self._thread_id, "rest", (self._guard, self._first_seq - 1), self._seq)
        frames = await self._cache.get_or_build(key, rebuild)
        offset = await asyncio.to_thread(frames.offset, self._skip)
        return await self._slice(key, frames, rebuild, page_bytes, offset)


class JournalRest:
    """The raw frames of a finished run after a sequence number, up to the run's last."""

    __slots__ = ("_after", "_guard", "_last_seq", "_store", "_thread_id", "is_done")

    is_replay = True
    has_waited = False

    def __init__(
        self, store: Store, thread_id: str, after: int, last_seq: int, guard: ThreadGuard | None = None
    ) -> None:
        self._guard = guard
        self._store = store
        self._thread_id = thread_id
        self._after = after
        self._last_seq = last_seq
        self.is_done = False

    async def read(self, page_bytes: int) -> Frames:
        """Return the next frames, about `page_bytes` bytes of them."""
        page = await self._store.journal(self._thread_id, self._after, self._last_seq, page_bytes, guard=self._guard)
        page_seq = page.frames.last_seq
        if page_seq is None or page_seq >= self._last_seq:
            self.is_done = True
        else:
            self._after = page_seq
        return page.frames


class LiveTail:
    """The raw frames of a live run after a sequence number, as they are published."""

    __slots__ = ("_live", "_recorder", "_store", "after", "has_waited", "is_done")

    is_replay = False

    def __init__(self, store: Store, live: LiveRun, after: int) -> None:
        self._store = store
        self._live = live
        self._recorder = live.recorder
        self.after = after
        """Sequence number of the last event that was read."""
        self.is_done = False
        self.has_waited = False

    async def read(self, page_bytes: int) -> Frames:
        """Return the next frames, about `page_bytes` bytes; wait for them while the run is live."""
        self.has_waited = False
        while True:
            frames, last_seq = self._recorder.read(self.after, page_bytes)
            if last_seq is None:
                return await self._read_journal(page_bytes)
            if frames is not None:
                self.after = last_seq
                return frames
            if self._live.is_closed:
                self.is_done = True
                return NO_FRAMES
            await self._live.wait_for_change()
            self.has_waited = True

    async def _read_journal(self, page_bytes: int) -> Frames:
        """Return frames that the live run no longer has in memory."""
        thread_id = self._live.claim.thread_id
        # Read only up to the last published event: the frames after it may belong to a later run.
        page = await self._store.journal(
            thread_id, self.after, self._recorder.published, page_bytes, guard=self._live.guard
        )
        last_seq = page.frames.last_seq
        if last_seq is None:
            raise CursorExpired(
                f"thread '{thread_id}': the reader is so far behind that the raw events after {self.after} are "
                "gone; connect again without a cursor"
            )
        self.after = last_seq
        return page.frames


class LivePrefix(_Replay):
    """The events that a live run had when the reader joined, compacted.

    It sets where the tail of the run begins.
    """

    __slots__ = ("_live", "_tail")

    def __init__(self, store: Store, cache: CompactedCache, live: LiveRun, tail: LiveTail) -> None:
        super().__init__(store, cache, live.claim.thread_id, live.guard)
        self._live = live
        self._tail = tail

    async def _read_page(self, page_bytes: int) -> Frames:
        live, claim = self._live, self._live.claim
        shared = self._cache.find_newest_of_live_run(claim.thread_id, _name_live_run(claim))
        if shared is not None and live.recorder.last_seq - shared[1] <= SHARED_PREFIX_EVENTS:
            frames, seq = shared
        else:
            frames, seq = await self._cache.share(("prefix", _name_live_run(claim)), live.read_prefix)
        self._tail.after = seq
        await live.wait_until_published(seq)
        if live.recorder.published < seq:
            # The run ended before these events were durable, so the tail reads the durable ones.
            self._tail.after = claim.first_seq - 1
            return NO_FRAMES

        async def rebuild() -> Frames:
            return await recompact(self._store, claim.thread_id, claim.first_seq - 1, seq, self._guard)

        return await self._slice((claim.thread_id, "live", _name_live_run(claim), seq), frames, rebuild, page_bytes)


class LastWord:
    """The error that ends a live run for its readers if the run's end could not be stored."""

    __slots__ = ("_live", "is_done")

    is_replay = False
    has_waited = False

    def __init__(self, live: LiveRun) -> None:
        self._live = live
        self.is_done = False

    async def read(self, page_bytes: int) -> Frames:
        """Return the error's frame, or no frame if the run's end was stored."""
        self.is_done = True
        return self._live.last_word or NO_FRAMES


def _name_live_run(claim: Claim) -> tuple[int, str]:
    """Return the cache key of a live run, which no later thread with the same id has."""
    return claim.incarnation, claim.run_id


async def recompact(store: Store, thread_id: str, after: int, seq: int, guard: ThreadGuard | None) -> Frames:
    """Return a run's compacted frames, built from its raw frames up to `seq`.

    Only one page of raw frames is in memory at a time, and none is read on the event loop.
    """
    recompactor = _core.Recompactor(seq)
    while after < seq:
        page = await store.journal(thread_id, after, seq, REBUILD_PAGE_BYTES, guard=guard)
        last_seq = page.frames.last_seq
        if last_seq is None:
            break
        await asyncio.to_thread(recompactor.push, page.frames)
        after = last_seq
    return await asyncio.to_thread(recompactor.frames)
