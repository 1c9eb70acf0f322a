"""A service that speaks chat completions over real HTTP and says what a test tells it to."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from support.serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from starlette.requests import Request

KEY = "sk-test-0123456789abcdef"

END = object()
"""In an answer's script: the connection breaks here."""


@dataclass
class Answer:
    """A streamed answer: its chunks, in pieces of `cut` bytes where that is given."""

    chunks: Sequence[Any]
    cut: int | None = None
    line_end: str = "\n"
    done: bool = True
    pause_after: int | None = None
    """The chunk behind which it says nothing more until the client has gone."""


@dataclass
class Failure:
    """An answer that is an error."""

    status: int
    body: Any
    headers: dict[str, str] = field(default_factory=dict)


class Service:
    """What was asked, and what is answered: one answer after the other, the last one again and again."""

    def __init__(self, answers: Sequence[Answer | Failure | Callable[[dict[str, Any]], Answer | Failure]]) -> None:
        self.answers = list(answers)
        self.questions: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.closed = 0
        """How many streams a client left before their end."""
        self.url = ""

    async def complete(self, request: Request) -> Response:
        question = await request.json()
        answer = self.answers[min(len(self.questions), len(self.answers) - 1)]
        self.questions.append(question)
        self.headers.append(dict(request.headers))
        if callable(answer):
            answer = answer(question)
        if isinstance(answer, Failure):
            if isinstance(answer.body, str):
                return Response(answer.body, answer.status, answer.headers)
            return JSONResponse(answer.body, answer.status, answer.headers)
        return StreamingResponse(self._say(answer), media_type="text/event-stream")

    async def _say(self, answer: Answer) -> AsyncIterator[bytes]:
        try:
            for number, chunk in enumerate(answer.chunks):
                if chunk is END:
                    raise Broken
                data = chunk if isinstance(chunk, str) else json.dumps(chunk, ensure_ascii=False)
                for piece in _cut(f"data: {data}{answer.line_end * 2}".encode(), answer.cut):
                    yield piece
                    await asyncio.sleep(0)
                if answer.pause_after == number:
                    await asyncio.Event().wait()
            if answer.done:
                yield f"data: [DONE]{answer.line_end * 2}".encode()
        except (asyncio.CancelledError, GeneratorExit):
            self.closed += 1
            raise


class Broken(Exception):
    """Raised in the server to break a connection off."""


@contextlib.contextmanager
def service(*answers: Answer | Failure | Callable[[dict[str, Any]], Answer | Failure]) -> Iterator[Service]:
    """Serve these answers; give the service, whose `url` is the base URL for a client."""
    said = Service(answers)
    app = Starlette(routes=[Route("/v1/chat/completions", said.complete, methods=["POST"])])

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        # Uvicorn closes the connection when an app raises; that it did is what is wanted here.
        with contextlib.suppress(Broken):
            await app(scope, receive, send)
            return
        raise ConnectionAbortedError("the test breaks the connection off")

    with serving(broken) as url:
        said.url = f"{url}/v1"
        yield said


def _cut(data: bytes, size: int | None) -> Iterator[bytes]:
    for start in range(0, len(data), size or len(data)):
        yield data[start : start + (size or len(data))]


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """Give a chunk with one choice, or none where there is neither a delta nor a reason."""
    base = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "test", **more}
    if delta is None and finish is None:
        return base | {"choices": []}
    return base | {"choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}]}


def saying(text: str, *, finish: str = "stop", usage: dict[str, Any] | None = None) -> list[dict[str, Any]]:
    """Give the chunks of a text, word by word."""
    words = [chunk({"role": "assistant", "content": ""})]
    words += [chunk({"content": piece}) for piece in _words(text)]
    words.append(chunk({}, finish))
    if usage is not None:
        words.append(chunk(usage=usage))
    return words


def call(index: int | None, id: str | None, name: str | None, arguments: Any = None) -> dict[str, Any]:
    """Give a piece of a tool call, as it stands in a delta's `tool_calls`; what is `None` is left out."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    piece = {"index": index, "id": id, "type": "function" if id else None, "function": function}
    return {key: value for key, value in piece.items() if value is not None}


def calling(*calls: tuple[str, str, str], text: str = "") -> list[dict[str, Any]]:
    """Give the chunks of tool calls (id, name, arguments), side by side, the arguments in two pieces."""
    chunks = [chunk({"role": "assistant", "content": piece}) for piece in _words(text)]
    chunks += [chunk({"tool_calls": [call(number, key, name, "")]}) for number, (key, name, _) in enumerate(calls)]
    for half in (slice(None, 4), slice(4, None)):
        pieces = [call(number, None, None, arguments[half]) for number, (_, _, arguments) in enumerate(calls)]
        chunks.append(chunk({"tool_calls": pieces}))
    return [*chunks, chunk({}, "tool_calls")]


def _words(text: str) -> list[str]:
    return [word if number == 0 else f" {word}" for number, word in enumerate(text.split(" "))] if text else []
