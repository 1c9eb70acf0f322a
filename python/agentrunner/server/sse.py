"""A response of server-sent events: frames as they arrive, and comments in between."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from starlette.responses import Response

from agentrunner._core import Frames
from agentrunner.errors import AgentRunnerError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import Receive, Scope, Send

    from agentrunner.server.limits import Limits

logger = logging.getLogger("agentrunner.server")

CHUNK_BYTES = 64 * 1024
"""Most bytes passed to the ASGI server at once; the server buffers them if the client stalls."""
KEEP_ALIVE_COMMENT = b": keep-alive\n\n"
ABORT_EXTENSION = "agentrunner.abort"
"""ASGI extension of `server.uvicorn_server`: a function that cuts the connection."""
UNSENT_BYTES_EXTENSION = "agentrunner.unsent_bytes"
"""ASGI extension of `server.uvicorn_server`: a function that counts the unread bytes."""
OPEN_STREAMS = "agentrunner.open_streams"
"""Key of the ASGI scope with the set of the app's open streams."""

HEADERS = [
    (b"content-type", b"text/event-stream"),
    # Without `no-transform`, proxies that compress hold the events back until the stream ends.
    (b"cache-control", b"no-cache, no-transform"),
    # Without this header nginx buffers the events.
    (b"x-accel-buffering", b"no"),
]


async def stream_nothing() -> AsyncGenerator[Frames, None]:
    """Yield no frames, for an empty stream."""
    return
    yield Frames(b"")


async def _rewrite(page: Frames) -> bytes:
    """Return a page's frames for clients that predate AG-UI 1.0."""
    if len(page) <= CHUNK_BYTES:
        return page.for_legacy_clients()
    # A long text with many escapes takes a few hundred milliseconds.
    return await asyncio.to_thread(page.for_legacy_clients)


class EventStreamResponse(Response):
    """A response that sends frames as they arrive, and drops a client that stops reading.

    When a client disconnects, only the response ends, not the run. With `legacy` the frames are rewritten for clients
    older than AG-UI 1.0.
    """

    def __init__(self, pages: AsyncGenerator[Frames, None], limits: Limits, *, legacy: bool = False) -> None:
        super().__init__()
        self._pages = pages
        self._limits = limits
        self._legacy = legacy
        self.raw_headers = list(HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the whole stream."""
        headers = list(self.raw_headers)
        if scope.get("http_version", "1.1") == "1.1":
            headers.append((b"connection", b"keep-alive"))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
            writer = StreamWriter(self._pages, self._limits, self._legacy, scope, receive, send)
            open_streams: set[StreamWriter] = scope.get(OPEN_STREAMS, set())
            open_streams.add(writer)
            try:
                await writer.write()
            finally:
                open_streams.discard(writer)
        except AgentRunnerError as error:
            # Leave the response unfinished: the client must see a broken connection, not the end of the run.
            logger.warning("a stream is cut off: %s", error)
        finally:
            await self._pages.aclose()


class StreamWriter:
    """Writes one stream to its client."""

    def __init__(
        self,
        pages: AsyncGenerator[Frames, None],
        limits: Limits,
        legacy: bool,
        scope: Scope,
        receive: Receive,
        send: Send,
    ) -> None:
        self._pages = pages
        self._limits = limits
        self._legacy = legacy
        self._scope = scope
        self._receive = receive
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        # Hold this while a page is sent: a comment in the middle of a frame would break the frame.
        self._turn = asyncio.Lock()
        self._last_progress = self._loop.time()
        self._is_gone = False

    async def write(self) -> None:
        """Send until the frames end or the client is gone."""
        watcher = self._loop.create_task(self._watch_for_disconnect())
        timer = self._loop.create_task(self._watch_progress())
        try:
            async for page in self._pages:
                data = await _rewrite(page) if self._legacy else bytes(page)
                # While it waits for the next page, a reader must not keep this one in memory.
                del page
                async with self._turn:
                    for start in range(0, len(data), CHUNK_BYTES):
                        await self._send_chunk(data if len(data) <= CHUNK_BYTES else data[start : start + CHUNK_BYTES])
                del data
            async with self._turn:
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        except asyncio.CancelledError:
            if not self._is_gone or self._task is None or self._task.uncancel():
                raise
        except OSError:
            # Newer ASGI servers raise this when the client is gone.
            self._is_gone = True
        finally:
            watcher.cancel()
            timer.cancel()

    async def _send_chunk(self, chunk: bytes) -> None:
        self._last_progress = self._loop.time()
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        self._last_progress = self._loop.time()

    async def _watch_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._cancel_write()

    def _cancel_write(self) -> None:
        # Cancel only once: `write` absorbs one cancellation, and a second would reach the ASGI server.
        if not self._is_gone and self._task is not None:
            self._task.cancel()
        self._is_gone = True

    def _drop_client(self) -> None:
        logger.info("a client read nothing for %g s and is disconnected; it may resume", self._limits.stalled_seconds)
        self.cut()

    def cut(self) -> None:
        """Leave the stream unfinished, so that the client sees a broken connection and resumes."""
        abort = self._scope.get("extensions", {}).get(ABORT_EXTENSION)
        if abort is not None:
            abort()
        self._cancel_write()

    async def _watch_progress(self) -> None:
        """Send comments while the stream is silent; drop the client if it reads nothing."""
        keep_alive, stalled = self._limits.keep_alive_seconds, self._limits.stalled_seconds
        count_unsent = self._scope.get("extensions", {}).get(UNSENT_BYTES_EXTENSION, int)
        previous = 0
        while True:
            is_writing = self._turn.locked()
            unsent = count_unsent()
            if is_writing and unsent < previous:
                # The client is reading, even if slowly.
                self._last_progress = self._loop.time()
            previous = unsent
            due = stalled if is_writing else keep_alive or stalled
            remaining = self._last_progress + due - self._loop.time()
            if remaining > 0:
                await asyncio.sleep(min(remaining, stalled / 4))
            elif is_writing:
                self._drop_client()
                return
            elif keep_alive:
                try:
                    # A client that reads nothing blocks the comment too.
                    async with self._turn, asyncio.timeout(stalled):
                        await self._send_chunk(KEEP_ALIVE_COMMENT)
                except TimeoutError:
                    self._drop_client()
                    return
                except OSError:
                    # The client is gone; `_watch_for_disconnect` sees it as well.
                    return
            else:
                await asyncio.sleep(stalled / 4)
