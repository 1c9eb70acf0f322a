"""The stream of one reader, which holds a cursor and never a queue."""

from __future__ import annotations

import asyncio
import functools
import inspect
import weakref
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, ParamSpec, Self

from agentrunner.reading.sources import PAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
    from types import TracebackType

    from agentrunner._core import Event, Frames
    from agentrunner.reading.sources import Source
    from agentrunner.running.live_run import LiveRun

EVENT_PAGE_BYTES = 32 * 1024
"""Approximate bytes of a page for a reader that takes one event at a time.

Other tasks get their turn between two pages, so a larger page would delay them longer.
"""

P = ParamSpec("P")


class EventStream:
    """The events of a thread or a run.

    The stream ends when its run has ended and the thread is free again. The run never waits for a slow reader, and a
    slow reader misses nothing. A reader may leave at any time, which does not stop the run. `async with` and `aclose()`
    release the stream at once; otherwise it is released when Python collects it.

    Example::

        async with runner.connect("t1") as stream:
            async for event in stream:
                print(event.type, event.to_dict())

    """

    __slots__ = ("__weakref__", "_buffer", "_is_ready", "_live", "_sources")

    def __init__(self, sources: list[Source], live: LiveRun | None = None) -> None:
        self._sources = sources
        """Sources that are left to read, in order."""
        self._live = live
        """Live run that counts this stream as a reader until the stream is released."""
        self._buffer: list[Event] = []
        self._is_ready = False
        """Whether the last page was read without waiting."""
        if live is not None:
            live.join()

    def __del__(self) -> None:
        self._release()

    def __aiter__(self) -> AsyncIterator[Event]:
        return self._iterate()

    async def _iterate(self) -> AsyncIterator[Event]:
        while True:
            buffer, self._buffer = self._buffer, []
            for event in reversed(buffer):
                yield event
            frames = await self._read(EVENT_PAGE_BYTES)
            if frames is None:
                return
            for event in frames.events():
                yield event

    async def __anext__(self) -> Event:
        while not self._buffer:
            frames = await self._read(EVENT_PAGE_BYTES)
            if frames is None:
                raise StopAsyncIteration
            self._buffer = frames.events()[::-1]
        return self._buffer.pop()

    async def frames(self, *, legacy: bool = False) -> AsyncGenerator[bytes, None]:
        """Iterate over the stream as SSE frames, `id: <cursor>` and `data: <event>`.

        Args:
            legacy: Whether the client sent no `protocolVersion`. Events that `@ag-ui/client` 0.0.59 cannot read are
                then rewritten or left out.

        Yields:
            All frames that are new, as one `bytes` object of about 64 KiB or less.

        Raises:
            CursorExpired: The reader is so far behind that its next events are no longer kept.
            StoreError: The store could not be read.

        Example::

            async for data in stream.frames():
                response.write(data)

        """
        while (frames := await self._read(PAGE_BYTES)) is not None:
            data = frames.for_legacy_clients() if legacy else bytes(frames)
            # A reader that waits for its client must not keep these bytes alive.
            del frames
            if data:
                yield data
            del data

    async def pages(self) -> AsyncGenerator[Frames, None]:
        """Iterate over the stream as `Frames`; each page has everything that is new."""
        while (frames := await self._read(PAGE_BYTES)) is not None:
            page = [frames]
            # Popped, because a local would keep the page alive as long as the client stalls in the middle of it.
            del frames
            yield page.pop()

    pieces = pages
    """Older name of `pages`."""

    @property
    def is_replaying(self) -> bool:
        """Whether the next events existed already when the reader joined."""
        return bool(self._sources) and self._sources[0].is_replay

    replaying = is_replaying
    """Older name of `is_replaying`."""

    async def _read(self, page_bytes: int) -> Frames | None:
        """Return at least one frame and about `page_bytes` bytes, or `None` at the end."""
        if self._is_ready:
            # A reader that never has to wait would keep all other tasks from running.
            await asyncio.sleep(0)
        while self._sources:
            source = self._sources[0]
            frames = await source.read(page_bytes)
            if source.is_done and self._sources:
                del self._sources[0]
            if len(frames):
                self._is_ready = not source.has_waited
                return frames
        self._release()
        return None

    async def aclose(self) -> None:
        """End the stream and release its live run; a second call does nothing."""
        self._sources.clear()
        self._buffer.clear()
        self._release()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _release(self) -> None:
        live, self._live = self._live, None
        if live is not None:
            live.leave()


class OpeningStream(Coroutine[Any, Any, EventStream]):
    """A stream to be opened: iterate over it, enter it with `async with`, or await it.

    It is opened once; each other use raises `RuntimeError`. It is also the coroutine of the call that returned it, so
    `asyncio.create_task` accepts it, and Python warns if it is never used.
    """

    __slots__ = ("_entered", "_is_closed", "_opened", "_opening")

    def __init__(self, opening: Coroutine[Any, Any, EventStream]) -> None:
        self._opening = opening
        self._opened: weakref.ref[EventStream] | None = None
        """Stream that was opened, which the caller may drop before this object."""
        self._entered: EventStream | None = None
        """Stream of the `async with`, which nothing else may hold."""
        self._is_closed = False

    def __await__(self) -> Generator[Any, Any, EventStream]:
        self._check_unused()
        stream = yield from self._opening.__await__()
        self._opened = weakref.ref(stream)
        return stream

    async def __aiter__(self) -> AsyncIterator[Event]:
        async with self as stream:
            async for event in stream:
                yield event

    async def frames(self, *, legacy: bool = False) -> AsyncGenerator[bytes, None]:
        """Open the stream and iterate over its SSE frames, as `EventStream.frames` does."""
        async with self as stream:
            async for data in stream.frames(legacy=legacy):
                yield data
                # A reader that waits for its client must not keep these bytes alive.
                del data

    async def pages(self) -> AsyncGenerator[Frames, None]:
        """Open the stream and iterate over its pages, as `EventStream.pages` does."""
        async with self as stream:
            async for frames in stream.pages():
                yield frames
                # A reader that waits for the next page must not keep this one alive.
                del frames

    async def __aenter__(self) -> EventStream:
        self._entered = await self
        return self._entered

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the stream; if it was not opened yet, it never will be.

        Raises `RuntimeError` while another task opens the stream: cancel that task instead.
        """
        stream = self._opened() if self._opened is not None else None
        self._entered = None
        if stream is not None:
            await stream.aclose()
        elif inspect.getcoroutinestate(self._opening) in (inspect.CORO_RUNNING, inspect.CORO_SUSPENDED):
            raise RuntimeError("another task opens this stream now; cancel that task instead")
        else:
            self.close()

    def _check_unused(self) -> None:
        """Raise `RuntimeError` if the stream was opened or closed already."""
        if inspect.getcoroutinestate(self._opening) == inspect.CORO_CREATED:
            return
        if self._is_closed:
            raise RuntimeError("this stream was closed before it was opened; call `run`, `connect` or `snapshot` again")
        raise RuntimeError("this stream is already open; keep the EventStream that `await` or `async with` returned")

    def send(self, value: Any) -> Any:
        """Resume the coroutine, as `Coroutine.send` does."""
        if inspect.getcoroutinestate(self._opening) == inspect.CORO_CLOSED:
            self._check_unused()
        try:
            return self._opening.send(value)
        except StopIteration as end:
            self._opened = weakref.ref(end.value)
            raise

    def throw(self, *error: Any) -> Any:
        """Raise an error inside the coroutine, as `Coroutine.throw` does."""
        return self._opening.throw(*error)

    def close(self) -> None:
        """Close the coroutine, as `Coroutine.close` does."""
        self._is_closed = self._is_closed or inspect.getcoroutinestate(self._opening) == inspect.CORO_CREATED
        self._opening.close()


def opens_stream(function: Callable[P, Coroutine[Any, Any, EventStream]]) -> Callable[P, OpeningStream]:
    """Make a coroutine function return an `OpeningStream`, which need not be awaited first."""

    @functools.wraps(function)
    def open_stream(*args: P.args, **kwargs: P.kwargs) -> OpeningStream:
        return OpeningStream(function(*args, **kwargs))

    return open_stream
