"""One reader of a thread: a cursor, never a queue."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agentrunner import _core
from agentrunner.errors import CursorExpired

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from agentrunner._core import Event, Frames
    from agentrunner.live import LiveRun
    from agentrunner.stores import Cursor, Store

PIECE = 128 * 1024
"""About how many bytes a reader is given at once: what a server may hold for each client that is slow."""
SMALL_PIECE = 32 * 1024
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
        "_first",
        "_journal",
        "_last",
        "_live",
        "_store",
        "_stored",
        "_thread_id",
        "_until",
    )

    def __init__(
        self,
        store: Store,
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
            frames = await self._next(SMALL_PIECE)
            if frames is None:
                return
            for event in frames.events():
                yield event

    async def __anext__(self) -> Event:
        while not self._buffer:
            frames = await self._next(SMALL_PIECE)
            if frames is None:
                raise StopAsyncIteration
            self._buffer = frames.events()[::-1]
        return self._buffer.pop()

    async def frames(self, *, legacy: bool = False) -> AsyncGenerator[bytes, None]:
        """Yield SSE frames (`id: <cursor>`, `data: <event>`), everything new as one `bytes`.

        `legacy`: for a peer that names no `protocolVersion`, what `@ag-ui/client` 0.0.59 cannot read is mended or
        left out.
        """
        while (frames := await self._next(PIECE)) is not None:
            data = frames.legacy() if legacy else bytes(frames)
            # A reader that waits holds nothing.
            del frames
            if data:
                yield data
            del data

    async def pieces(self) -> AsyncIterator[Frames]:
        """Yield the same as `Frames`."""
        while (frames := await self._next(PIECE)) is not None:
            yield frames

    @property
    def replaying(self) -> bool:
        """Whether what comes next is there already: history, or what a live run had when it was joined."""
        return (
            self._first is not None
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
            if self._first is not None:
                frames, self._first = self._first, None
            elif self._journal is not None:
                frames = await self._from_journal(*self._journal, piece)
            elif self._stored is not None:
                frames = await self._from_history(self._stored, piece)
            elif self._live is None:
                last, self._last = self._last, None
                return last
            elif self._after is None:
                frames = await self._prefix(self._live)
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

    async def _from_history(self, after: Cursor, piece: int) -> Frames:
        page = await self._store.history(self._thread_id, after, self._until, piece)
        self._stored = page.next
        return page.frames

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
            return _core.recompacted(await self._raw(after, seq, piece), seq, skip)
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

    async def _prefix(self, live: LiveRun) -> Frames:
        frames, seq = live.recorder.prefix(0)
        self._after = seq
        await live.published(seq)
        if live.recorder.published < seq:
            # The run ended without getting this far: what is durable is read instead.
            self._after = live.claim.first_seq - 1
            return _core.Frames(b"")
        return frames
