"""A fake provider of chat completions over real HTTP, which sends a test's responses."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from support.serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from starlette.requests import Request

KEY = "sk-test-0123456789abcdef"

DISCONNECT = object()
"""In a response's chunks: the provider closes the connection here."""


@dataclass
class ChatResponse:
    """A streamed response: its chunks, sent `split_bytes` at a time or one by one."""

    chunks: Sequence[Any]
    split_bytes: int | None = None
    line_end: str = "\n"
    sends_done: bool = True
    pause_after: int | None = None
    """Number of the chunk after which the provider waits until the client disconnects."""


@dataclass
class ErrorResponse:
    """A response with an error status."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


AnyResponse: TypeAlias = ChatResponse | ErrorResponse


class FakeProvider:
    """The requests it received and the responses it sends in turn; the last one repeats."""

    def __init__(self, responses: Sequence[AnyResponse | Callable[[dict[str, Any]], AnyResponse]]) -> None:
        self.responses = list(responses)
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.disconnects = 0
        """Number of streams a client left before their end."""
        self.url = ""

    async def complete(self, request: Request) -> Response:
        body = await request.json()
        response = self.responses[min(len(self.requests), len(self.responses) - 1)]
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        if callable(response):
            response = response(body)
        if isinstance(response, ErrorResponse):
            if isinstance(response.body, str):
                return Response(response.body, response.status, response.headers)
            return JSONResponse(response.body, response.status, response.headers)
        return StreamingResponse(self._stream(response), media_type="text/event-stream")

    async def _stream(self, response: ChatResponse) -> AsyncIterator[bytes]:
        try:
            for number, chunk in enumerate(response.chunks):
                if chunk is DISCONNECT:
                    raise Disconnect
                data = chunk if isinstance(chunk, str) else json.dumps(chunk, ensure_ascii=False)
                for part in _split(f"data: {data}{response.line_end * 2}".encode(), response.split_bytes):
                    yield part
                    await asyncio.sleep(0)
                if response.pause_after == number:
                    await asyncio.Event().wait()
            if response.sends_done:
                yield f"data: [DONE]{response.line_end * 2}".encode()
        except (asyncio.CancelledError, GeneratorExit):
            self.disconnects += 1
            raise


class Disconnect(Exception):
    """Raised in the server to close a connection."""


@contextlib.contextmanager
def fake_provider(*responses: AnyResponse | Callable[[dict[str, Any]], AnyResponse]) -> Iterator[FakeProvider]:
    """Serve these responses, and yield the provider, whose `url` is the base URL for a client."""
    provider = FakeProvider(responses)
    app = Starlette(routes=[Route("/v1/chat/completions", provider.complete, methods=["POST"])])

    async def disconnecting_app(scope: Any, receive: Any, send: Any) -> None:
        # Uvicorn closes the connection when an app raises, which is what the test wants.
        with contextlib.suppress(Disconnect):
            await app(scope, receive, send)
            return
        raise ConnectionAbortedError("the test closes the connection")

    with serving(disconnecting_app) as url:
        provider.url = f"{url}/v1"
        yield provider


def _split(data: bytes, size: int | None) -> Iterator[bytes]:
    for start in range(0, len(data), size or len(data)):
        yield data[start : start + (size or len(data))]


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """Return a chunk with one choice, or without choices if both arguments are `None`."""
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "test", **more}
    if delta is None and finish is None:
        return base | {"choices": []}
    return base | {"choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}]}


def text_chunks(text: str, *, finish: str = "stop", usage: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """Return the chunks of a text, one per word."""
    chunks = [chunk({"role": "assistant", "content": ""})]
    chunks += [chunk({"content": word}) for word in _split_words(text)]
    chunks.append(chunk({}, finish))
    if usage is not None:
        chunks.append(chunk(usage=usage))
    return chunks


def call_delta(index: int | None, id: str | None, name: str | None, arguments: Any = None) -> dict[str, Any]:
    """Return a delta's part of a tool call, without the fields that are `None`."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    fields = {"index": index, "id": id, "type": "function" if id else None, "function": function}
    return {key: value for key, value in fields.items() if value is not None}


def call_chunks(*calls: tuple[str, str, str], text: str = "") -> list[dict[str, Any]]:
    """Return the chunks of interleaved tool calls (id, name, arguments).

    Each call's arguments come in two parts.
    """
    chunks = [chunk({"role": "assistant", "content": word}) for word in _split_words(text)]
    chunks += [
        chunk({"tool_calls": [call_delta(number, key, name, "")]}) for number, (key, name, _) in enumerate(calls)
    ]
    for half in (slice(None, 4), slice(4, None)):
        deltas = [call_delta(number, None, None, arguments[half]) for number, (_, _, arguments) in enumerate(calls)]
        chunks.append(chunk({"tool_calls": deltas}))
    return [*chunks, chunk({}, "tool_calls")]


def _split_words(text: str) -> list[str]:
    return [word if number == 0 else f" {word}" for number, word in enumerate(text.split(" "))] if text else []
