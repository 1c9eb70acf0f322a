"""One reader of a thread: a cursor, never a queue."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agentrunner import _core
from agentrunner.errors import CursorExpired
from agentrunner.reading.compacted_cache import SlicedRun

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from agentrunner._core import Event, Frames
    from agentrunner.reading.compacted_cache import CompactedCache, Key
    from agentrunner.running.live_run import LiveRun
    from agentrunner.stores import Cursor, Store

PAGE_BYTES = 64 * 1024
"""About how many bytes a reader is given at once: what a server may hold for each client, beside what it is sending."""
LONG_RUN_BYTES = PAGE_BYTES
"""A form of more bytes is handed out in parts."""
SHARED_PREFIX_EVENTS = 1000
"""Events by which the form of a live run may be behind, to be given to who joins then: the events follow it."""
SMALL_PAGE_BYTES = 32 * 1024
"""The same for a reader that takes event by event: other tasks get their turn between two pieces."""


class EventStream:
    """The events of a thread or run: `async for event in stream`, or `async for data in stream.frames()`.

    Ends when the run has ended and its thread is free again. Leaving it early costs nothing and does not stop the run.
    A slow reader is never waited for and misses nothing.
    """

    __slots__ = (
        "__weakref__",
        "_after",
        "_again",
        "_at_once",
        "_buffer",
        "_cache",
        "_first",
        "_journal",
        "_last",
        "_live",
        "_long",
        "_store",
        "_stored",
        "_thread_id",
        "_until",
    )

    def __init__(
        self,
        store: Store,
        cache: CompactedCache,
        thread_id: str,
        *,
        first: Frames | None = None,
        journal: tuple[int, int] | None = None,
        stored: Cursor | None = None,
        live: LiveRun | None = None,
        after: int | None = None,
        until: int | None = None,
        last: Frames | None = None,
    ) -> None:
        self._store = store
        self._cache = cache
        self._long: SlicedRun | None = None
        """What is being handed out in parts, before all else."""
        self._thread_id = thread_id
        self._first = first
        """Given before all else."""
        self._journal = journal
        """Raw frames to read first: behind which sequence number, and up to which."""
        self._again: tuple[int, int] | None = None
        """Before them, a compacted form to make again: up to which sequence number, from which frame on."""
        self._stored = stored
        """Where to read on in the history, until that is all read."""
        self._live = live
        self._after = after
        """Behind which raw event of the live run to go on; `None`: with its compacted form."""
        self._until = live.claim.first_seq if live is not None else until
        """The history is read of runs that begin before this sequence number."""
        self._last = last
        """Given after all else."""
        self._buffer: list[Event] = []
        self._at_once = False
        """Whether the last piece was there without waiting."""
        if live is not None:
            live.readers += 1

    def __del__(self) -> None:
        if self._live is not None:
            self._live.readers -= 1

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._events()

    async def _events(self) -> AsyncIterator[Event]:
        while True:
            buffer, self._buffer = self._buffer, []
            for event in reversed(buffer):
                yield event
            frames = await self._next(SMALL_PAGE_BYTES)
            if frames is None:
                return
            for event in frames.events():
                yield event

    async def __anext__(self) -> Event:
        while not self._buffer:
            frames = await self._next(SMALL_PAGE_BYTES)
            if frames is None:
                raise StopAsyncIteration
            self._buffer = frames.events()[::-1]
        return self._buffer.pop()

    async def frames(self, *, legacy: bool = False) -> AsyncGenerator[bytes, None]:
        """Yield SSE frames (`id: <cursor>`, `data: <event>`), everything new as one `bytes`.

        `legacy`: for a peer that names no `protocolVersion`, what `@ag-ui/client` 0.0.59 cannot read is mended or
        left out.
        """
        while (frames := await self._next(PAGE_BYTES)) is not None:
            data = frames.for_legacy_clients() if legacy else bytes(frames)
            # A reader that waits holds nothing.
            del frames
            if data:
                yield data
            del data

    async def pieces(self) -> AsyncGenerator[Frames, None]:
        """Yield the same as `Frames`."""
        while (frames := await self._next(PAGE_BYTES)) is not None:
            yield frames

    @property
    def replaying(self) -> bool:
        """Whether what comes next is there already: history, or what a live run had when it was joined."""
        return (
            self._long is not None
            or self._first is not None
            or self._journal is not None
            or self._stored is not None
            or (self._live is not None and self._after is None)
        )

    async def _next(self, piece: int) -> Frames | None:
        """Give the next frames, at least one, about `piece` bytes; `None` at the end."""
        if self._at_once:
            # What needs no waiting for would keep the loop from all other tasks.
            await asyncio.sleep(0)
        self._at_once = True
        while True:
            if self._long is not None:
                frames = await self._long.part(self._cache, piece)
                if self._long.read:
                    self._long = None
            elif self._first is not None:
                frames, self._first = self._first, None
            elif self._journal is not None:
                frames = await self._from_journal(*self._journal, piece)
            elif self._stored is not None:
                frames = await self._from_history(self._stored, piece)
            elif self._live is None:
                last, self._last = self._last, None
                return last
            elif self._after is None:
                frames = await self._prefix(self._live, piece)
            else:
                found, reached = self._live.recorder.read(self._after, piece)
                if found is not None:
                    self._after = reached
                    return found
                if reached is None:
                    frames = await self._from_live_journal(self._live, self._after, piece)
                elif self._live.closed:
                    self._last, self._live = self._live.failure, None
                    continue
                else:
                    await self._live.changed()
                    self._at_once = False
                    continue
            if len(frames):
                return frames

    async def _in_parts(self, key: Key, form: Frames, again: Callable[[], Awaitable[Frames]], piece: int) -> Frames:
        """Give a form, or of a long one its first part: the others come next."""
        if len(form) <= LONG_RUN_BYTES:
            return form
        self._cache.hold(key, form)
        self._long = SlicedRun(key, len(form), again)
        return await self._long.part(self._cache, piece)

    async def _from_history(self, after: Cursor, piece: int) -> Frames:
        async def again() -> Frames:
            return (await self._store.history(self._thread_id, after, self._until, piece)).frames

        page = await self._store.history(self._thread_id, after, self._until, piece)
        self._stored = page.next
        return await self._in_parts(
            (self._thread_id, "history", (after, self._until), piece), page.frames, again, piece
        )

    def resume(self, first: int, last: int, seq: int, skip: int) -> None:
        """Begin in the form of a run compacted up to `seq`, at its frame `skip`; its raw rest follows."""
        self._journal = (first - 1, last)
        self._again = (seq, skip)

    async def _from_journal(self, after: int, last: int, piece: int) -> Frames:
        """Give a finished run's raw frames; before them the rest of the compacted form a reader had begun."""
        if self._again is not None:
            seq, skip = self._again
            self._again = None
            self._journal = (seq, last) if seq < last else None

            async def again() -> Frames:
                return _core.recompact(await self._raw(after, seq, PAGE_BYTES), seq, skip)

            return await self._in_parts((self._thread_id, "rest", (after, skip), seq), await again(), again, piece)
        page = await self._store.journal(self._thread_id, after, last, piece)
        events = page.frames.events()
        reached = events[-1].seq if events else None
        self._journal = (reached, last) if reached is not None and reached < last else None
        return page.frames

    async def _raw(self, after: int, last: int, piece: int) -> list[Frames]:
        pages = []
        while after < last:
            page = await self._store.journal(self._thread_id, after, last, piece)
            events = page.frames.events()
            if not events or events[-1].seq is None:
                break
            pages.append(page.frames)
            after = events[-1].seq
        return pages

    async def _from_live_journal(self, live: LiveRun, after: int, piece: int) -> Frames:
        """Give frames that have left the memory of a live run."""
        # Bounded by what is published: a later run's frames may follow in the journal.
        page = await self._store.journal(self._thread_id, after, live.recorder.published, piece)
        events = page.frames.events()
        if not events:
            raise CursorExpired(
                f"thread '{self._thread_id}': the reader is so far behind that the raw events after {after} are "
                "gone; connect without a cursor"
            )
        self._after = events[-1].seq
        return page.frames

    async def _prefix(self, live: LiveRun, piece: int) -> Frames:
        first_seq = live.claim.first_seq
        held = self._cache.newest(self._thread_id, live.claim.run_id)
        if held is not None and live.recorder.last_seq - held[1] <= SHARED_PREFIX_EVENTS:
            frames, seq = held
        else:
            frames, seq = live.recorder.prefix(0)
        self._after = seq
        await live.published(seq)
        if live.recorder.published < seq:
            # The run ended without getting this far: what is durable is read instead.
            self._after = first_seq - 1
            return _core.Frames(b"")

        async def again() -> Frames:
            return _core.recompact(await self._raw(first_seq - 1, seq, PAGE_BYTES), seq, 0)

        return await self._in_parts((self._thread_id, "live", live.claim.run_id, seq), frames, again, piece)
