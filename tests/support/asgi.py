"""An ASGI client for tests, which reads responses chunk by chunk and can disconnect."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote

from agentrunner.server import create_app

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from agentrunner import AgentRunner


@dataclass(frozen=True)
class Answer:
    """A complete response."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json", self
        return json.loads(self.body)

    def events(self) -> list[dict[str, Any]]:
        """Return the events of a stream."""
        return [event for _, event in self.frames()]

    def frames(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the cursor and event of each frame of a stream; a missing cursor is empty."""
        assert self.status == 200, self
        assert self.headers["content-type"] == "text/event-stream", self
        return frames_of(self.body)


def frames_of(body: bytes) -> list[tuple[str, dict[str, Any]]]:
    """Read server-sent events as strictly as the clients do.

    Lines end with LF, and a frame is one event or a comment.
    """
    assert b"\r" not in body
    assert not body or body.endswith(b"\n\n"), body[-100:]
    frames = []
    for block in body.split(b"\n\n")[:-1]:
        if block.startswith(b":"):
            continue
        *head, data = block.split(b"\n")
        assert data.startswith(b"data: "), block
        assert len(head) <= 1, block
        assert all(line.startswith(b"id: ") for line in head), block
        frames.append((head[0][4:].decode() if head else "", json.loads(data[6:])))
    return frames


class Exchange:
    """A request in progress: `async with client.open(...) as exchange`.

    Leaving the block disconnects the client.
    """

    def __init__(self, app: Any, scope: dict[str, Any], pieces: Sequence[bytes], *, whole: bool) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._app = app
        self._scope = scope
        self._pieces = list(pieces)
        self._whole = whole
        self._chunks: list[bytes] = []
        self._received = b""
        self._ended = False
        self._changed = asyncio.Event()
        self._left = asyncio.Event()
        self._taking = asyncio.Event()
        self._taking.set()

    async def __aenter__(self) -> Self:
        self._task = asyncio.ensure_future(self._app(self._scope, self._receive, self._send))
        self._task.add_done_callback(lambda _: self._changed.set())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()
        if error is not None:
            self._task.cancel()
            with contextlib.suppress(BaseException):
                await self._task
        else:
            await self._task

    async def wait_until_begun(self) -> None:
        """Wait for the status and the headers."""
        while not self.status and not self._task.done():
            await self._change()
        if not self.status:
            await self._task
            raise AssertionError("the app gave no answer")

    async def chunk(self) -> bytes:
        """Wait for the next chunk, which is empty at the end."""
        while not self._chunks:
            if self._ended or self._task.done():
                if not self._ended:
                    await self._task
                return b""
            await self._change()
        chunk = self._chunks.pop(0)
        self._received += chunk
        return chunk

    async def until(self, part: bytes) -> bytes:
        """Read until some bytes were sent, and return everything read."""
        while part not in self._received:
            assert await self.chunk(), f"{part!r} did not come: {self._received!r}"
        return self._received

    async def answer(self) -> Answer:
        """Read to the end."""
        await self.wait_until_begun()
        while await self.chunk():
            pass
        assert self._ended, "the answer was cut off"
        return Answer(self.status, self.headers, self._received)

    def leave(self) -> None:
        """Close the connection."""
        self._left.set()
        self._taking.set()

    def stall(self) -> None:
        """Stop reading."""
        self._taking.clear()

    def take(self) -> None:
        """Read again."""
        self._taking.set()

    async def wait_until_dropped(self) -> None:
        """Wait until the app has ended although the client is still connected."""
        await asyncio.shield(self._task)

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _receive(self) -> dict[str, Any]:
        if self._pieces:
            piece = self._pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(self._pieces) or not self._whole}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        await self._taking.wait()
        # A server would refuse these messages; here they must not go unnoticed.
        if message["type"] == "http.response.start":
            assert not self.status, "the answer was begun twice"
            self.status = message["status"]
            for name, value in message["headers"]:
                assert name == name.lower()
                text = value.decode("latin-1")
                key = name.decode("latin-1")
                self.headers[key] = f"{self.headers[key]}, {text}" if key in self.headers else text
        else:
            assert message["type"] == "http.response.body"
            assert self.status, "a body without a beginning"
            assert not self._ended, "more after the end"
            if chunk := message.get("body", b""):
                self._chunks.append(chunk)
            self._ended = not message.get("more_body", False)
        self._changed.set()


class Client:
    """Sends requests to an app in this process."""

    def __init__(self, app: Any, **scope: Any) -> None:
        self.app = app
        self._scope = scope

    def open(
        self,
        method: str,
        target: str,
        content: Any = None,
        *,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        pieces: Sequence[bytes] | None = None,
        whole: bool = True,
    ) -> Exchange:
        """Begin a request.

        `content`: bytes as they are, anything else as JSON; either is said to be JSON unless the headers say otherwise.
        `pieces`: a body that comes in these; with `whole=False` more of it is promised and never comes.
        """
        path, _, query = target.partition("?")
        header_pairs = [
            (name.lower(), value) for name, value in (headers.items() if hasattr(headers, "items") else headers)
        ]
        body = content if isinstance(content, bytes) else b"" if content is None else json.dumps(content).encode()
        if content is not None and "content-type" not in dict(header_pairs):
            header_pairs.append(("content-type", "application/json"))
        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "http_version": "1.1",
            "method": method, "scheme": "http", "server": ("test", 80), "client": ("test", 1), "root_path": "",
            "path": unquote(path), "raw_path": path.encode("latin-1"), "query_string": query.encode("latin-1"),
            "headers": [(b"host", b"test"), *((n.encode("latin-1"), v.encode("latin-1")) for n, v in header_pairs)],
            "extensions": {}, **self._scope,
        }  # fmt: skip
        return Exchange(self.app, scope, [body] if pieces is None else pieces, whole=whole)

    async def send(self, method: str, target: str, content: Any = None, **options: Any) -> Answer:
        """Send a request and return its complete response."""
        async with self.open(method, target, content, **options) as exchange:
            return await exchange.answer()

    async def get(self, target: str, **options: Any) -> Answer:
        return await self.send("GET", target, **options)

    async def post(self, target: str, content: Any = None, **options: Any) -> Answer:
        return await self.send("POST", target, content, **options)


def client_of(runner: AgentRunner, agents: Mapping[str, Any], **options: Any) -> Client:
    """Return a client of an app made with these options."""
    return Client(create_app(runner, agents, **options))
