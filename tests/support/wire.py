"""A server in the test's loop, and clients that stall, leave or send partial requests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn

from agentrunner.server.uvicorn_server import UvicornServer, build_protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from starlette.applications import Starlette


def client(app: Any, **headers: str) -> httpx.AsyncClient:
    """A client of the app in this process, which raises the app's exceptions."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost", headers=headers)


class _Quiet(UvicornServer):
    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Leave the signals to pytest."""
        yield


@contextlib.asynccontextmanager
async def serve_app(
    app: Starlette, *, send_buffer: int | None = None, **protocol_options: Any
) -> AsyncIterator[tuple[str, int]]:
    """Serve an app as `agentrunner serve` does, and yield its address.

    `app.state.connections` has the open connections.

    `send_buffer`: size of a connection's send buffer in the kernel. `protocol_options`: of `build_protocol`.
    """

    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listening:
        if send_buffer is not None:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        config = uvicorn.Config(
            app, http=build_protocol(app, **protocol_options), lifespan="on", ws="none", access_log=False,
            log_config=None, timeout_graceful_shutdown=5,
        )  # fmt: skip
        server = _Quiet(config, app)
        task = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            await until(lambda: server.started or task.done())
            app.state.connections = server.server_state.connections
            yield listening.getsockname()
        finally:
            server.should_exit = True
            await task


async def until(condition: Callable[[], Any]) -> None:
    """Wait until a condition holds; the test's own time limit ends the wait."""
    while not condition():
        await asyncio.sleep(0.005)


@dataclass
class Reply:
    """A complete HTTP response."""

    status: int
    headers: dict[str, str]
    body: bytes = b""

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Wire:
    """One HTTP/1.1 connection, which keeps the received body in `seen`."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    seen: bytearray = field(default_factory=bytearray)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> None:
        """Send a request; a body other than bytes is sent as JSON."""
        await self.send(request(method, path, body, **headers))

    async def head(self) -> Reply:
        """Read the status line and headers of a response."""
        raw = await self.reader.readuntil(b"\r\n\r\n")
        status, *lines = raw.decode("latin-1").split("\r\n")
        pairs = (line.split(": ", 1) for line in lines if line)
        return Reply(int(status.split(" ")[1]), {name.lower(): value for name, value in pairs})

    async def piece(self) -> bytes:
        """Read a chunk of a chunked body; it is empty at the end."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        data = await self.reader.readexactly(size + 2)
        assert data.endswith(b"\r\n")
        self.seen += data[:-2]
        return data[:-2]

    async def rest(self) -> bytes:
        """Read a chunked body to its end, and return all of it."""
        while await self.piece():
            pass
        return bytes(self.seen)

    async def answer(self) -> Reply:
        """Read a complete response."""
        reply = await self.head()
        if "content-length" in reply.headers:
            reply.body = await self.reader.readexactly(int(reply.headers["content-length"]))
        elif reply.headers.get("transfer-encoding") == "chunked":
            reply.body = await self.rest()
        return reply

    async def until_seen(self, wanted: bytes) -> None:
        while wanted not in self.seen:
            assert await self.piece(), f"the body ended without {wanted!r}"

    async def wait_until_closed(self) -> bool:
        """Wait until the other side has closed the connection, by any means."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(1 << 16):
                pass
        return True

    def vanish(self) -> None:
        """Disconnect with a reset."""
        self.writer.transport.abort()


def request(method: str, path: str, body: Any = None, **headers: str) -> bytes:
    """Return the bytes of a request."""
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    defaults = {"host": "localhost", "content-type": "application/json", "content-length": str(len(data))}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in (defaults | headers).items()]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""]).encode() + data


@contextlib.asynccontextmanager
async def open_wire(address: tuple[str, int], *, receive_buffer: int | None = None) -> AsyncIterator[Wire]:
    """Open a connection; with a small `receive_buffer` it stalls soon unless the test reads."""
    sock = socket.socket()
    sock.setblocking(False)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    await asyncio.get_running_loop().sock_connect(sock, address)
    # The stream's own buffer is small too, so that unread bytes stay in the kernel.
    reader, writer = await asyncio.open_connection(sock=sock, limit=1 << 12 if receive_buffer else 1 << 16)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
