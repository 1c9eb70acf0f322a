"""HTTP clients of campaigns: responses frame by frame, and whether they were cut off."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATIENCE = 60.0
"""Seconds after which a client abandons a server that sends nothing."""


class CutOff(Exception):
    """The connection ended before the response did."""


class Answer:
    """A response that is being read."""

    def __init__(self, reader: asyncio.StreamReader, status: int, headers: dict[str, str]) -> None:
        self._reader = reader
        self.status = status
        self.headers = headers

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives. Raises `CutOff`."""
        if "content-length" in self.headers:
            yield await self._exactly(int(self.headers["content-length"]))
            return
        while size := int(await self._line(), 16):
            yield (await self._exactly(size + 2))[:-2]
        await self._exactly(2)

    async def frames(self) -> AsyncIterator[bytes]:
        """Yield a stream's complete frames with their final empty lines, without comments.

        Raises `CutOff`.
        """
        rest = b""
        async for piece in self.pieces():
            *frames, rest = (rest + piece).split(b"\n\n")
            for frame in frames:
                if not frame.startswith(b":"):
                    yield frame + b"\n\n"

    async def json(self) -> Any:
        """Read the body as JSON. Raises `CutOff`."""
        return json.loads(b"".join([piece async for piece in self.pieces()]))

    async def _line(self) -> bytes:
        try:
            return await self._reader.readuntil(b"\r\n")
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            raise CutOff(str(error)) from None

    async def _exactly(self, size: int) -> bytes:
        try:
            return await self._reader.readexactly(size)
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            raise CutOff(str(error)) from None


def request(method: str, path: str, body: Any = None, **headers: str) -> bytes:
    """Return the bytes of a request with a JSON body."""
    data = b"" if body is None else json.dumps(body).encode()
    defaults = {"host": "localhost", "content-type": "application/json", "content-length": str(len(data))}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in (defaults | headers).items()]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode() + data


@contextlib.asynccontextmanager
async def send_request(port: int, method: str, path: str, body: Any = None, **headers: str) -> AsyncIterator[Answer]:
    """Send a request on a new connection and yield the response, then close. Raises `CutOff`."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    except OSError as error:
        raise CutOff(str(error)) from None
    try:
        try:
            writer.write(request(method, path, body, **headers))
            await writer.drain()
            async with asyncio.timeout(PATIENCE):
                raw = await reader.readuntil(b"\r\n\r\n")
        except (OSError, asyncio.IncompleteReadError) as error:
            raise CutOff(str(error)) from None
        status, *lines = raw.decode("latin-1").split("\r\n")
        pairs = (line.split(": ", 1) for line in lines if line)
        yield Answer(reader, int(status.split(" ")[1]), {name.lower(): value for name, value in pairs})
    finally:
        writer.transport.abort()


async def request_json(port: int, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
    """Send a request, and return the response's status and JSON. Raises `CutOff`."""
    async with send_request(port, method, path, body, **headers) as answer:
        return answer.status, await answer.json()


def run_input(thread: str, run: str, **fields: Any) -> dict[str, Any]:
    """Return a run's input as a current client sends it."""
    return {
        "threadId": thread, "runId": run, "state": {}, "messages": [], "tools": [], "context": [],
        "forwardedProps": {}, "protocolVersion": "1.0", **fields,
    }  # fmt: skip


def cursor_of(frame: bytes) -> str:
    """Return a frame's cursor, empty if it has none."""
    return frame[4 : frame.index(b"\n")].decode() if frame.startswith(b"id: ") else ""


def event_of(frame: bytes) -> dict[str, Any]:
    """Return a frame's event."""
    event: dict[str, Any] = json.loads(frame[frame.index(b"data: ") + 6 :])
    return event
