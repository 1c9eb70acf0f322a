"""A stream of server-sent events over ASGI: pieces in, chunks out, a comment when it is quiet."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from starlette.responses import Response

from agentrunner.errors import AgentRunnerError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.types import Receive, Scope, Send

    from agentrunner.server.limits import Limits

logger = logging.getLogger("agentrunner.server")

CHUNK = 64 * 1024
"""Bytes handed to the server at once: about what it may have to keep for a client that does not read."""
KEEP_ALIVE = b": keep-alive\n\n"
ABORT = "agentrunner.abort"
"""The ASGI extension that cuts a connection off: `server.uvicorn_server` has it."""
LEFT = "agentrunner.left"
"""The one that says how many bytes the client has yet to take of what was sent."""

HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache"),
    # nginx would collect the events otherwise.
    (b"x-accel-buffering", b"no"),
]


class EventStreamResponse(Response):
    """Sends pieces as they come. A client that leaves ends only this; one that takes nothing is dropped."""

    def __init__(self, pieces: AsyncGenerator[bytes, None], limits: Limits) -> None:
        super().__init__()
        self._pieces = pieces
        self._limits = limits
        self.raw_headers = list(HEADERS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the whole stream."""
        headers = list(self.raw_headers)
        if scope.get("http_version", "1.1") == "1.1":
            headers.append((b"connection", b"keep-alive"))
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
            await _Writer(self._pieces, self._limits, scope, receive, send).write()
        except AgentRunnerError as error:
            # The answer is left without its end: the client sees a broken connection, not the end of the run.
            logger.warning("a stream was broken off: %s", error)
        finally:
            await self._pieces.aclose()


class _Writer:
    def __init__(
        self, pieces: AsyncGenerator[bytes, None], limits: Limits, scope: Scope, receive: Receive, send: Send
    ) -> None:
        self._pieces = pieces
        self._limits = limits
        self._scope = scope
        self._receive = receive
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        # One piece at a time: a comment in the middle of a frame would break it.
        self._turn = asyncio.Lock()
        self._sent_at = self._loop.time()
        self._gone = False

    async def write(self) -> None:
        """Send until the pieces end or the client is gone."""
        watcher = self._loop.create_task(self._watch())
        timer = self._loop.create_task(self._mind_the_time())
        try:
            async for piece in self._pieces:
                async with self._turn:
                    for start in range(0, len(piece), CHUNK):
                        await self._send_chunk(piece if len(piece) <= CHUNK else piece[start : start + CHUNK])
            async with self._turn:
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        except asyncio.CancelledError:
            if not self._gone or self._task is None or self._task.uncancel():
                raise
        except OSError:
            # Newer servers say so in this way that the client is gone.
            self._gone = True
        finally:
            watcher.cancel()
            timer.cancel()

    async def _send_chunk(self, chunk: bytes) -> None:
        self._sent_at = self._loop.time()
        await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        self._sent_at = self._loop.time()

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._leave()

    def _leave(self) -> None:
        # Once: a second cancellation would not be taken for ours.
        if not self._gone and self._task is not None:
            self._task.cancel()
        self._gone = True

    def _drop(self) -> None:
        logger.info("a client took nothing for %g s and is dropped; it may resume", self._limits.stalled_seconds)
        abort = self._scope.get("extensions", {}).get(ABORT)
        if abort is not None:
            abort()
        self._leave()

    async def _mind_the_time(self) -> None:
        keep_alive, stalled = self._limits.keep_alive_seconds, self._limits.stalled_seconds
        bytes_left = self._scope.get("extensions", {}).get(LEFT, int)
        before = 0
        while True:
            writing = self._turn.locked()
            left = bytes_left()
            if writing and left < before:
                # It takes what it is sent, however slowly.
                self._sent_at = self._loop.time()
            before = left
            due = stalled if writing else keep_alive or stalled
            rest = self._sent_at + due - self._loop.time()
            if rest > 0:
                await asyncio.sleep(min(rest, stalled / 4))
            elif writing:
                self._drop()
                return
            elif keep_alive:
                try:
                    # The comment is held up as well by a client that takes nothing.
                    async with self._turn, asyncio.timeout(stalled):
                        await self._send_chunk(KEEP_ALIVE)
                except TimeoutError:
                    self._drop()
                    return
                except OSError:
                    # The client is gone, which the watcher is told as well.
                    return
            else:
                await asyncio.sleep(stalled / 4)
