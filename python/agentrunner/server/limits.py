"""What a request may be, and how its body is read."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentrunner.server.responses import ApiError

if TYPE_CHECKING:
    from starlette.requests import Request

MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of the server. Nesting (128 levels) and the length of ids are those of the runner."""

    body_bytes: int = 8 * MIB
    """Of a request's body: a long chat's messages travel in it. 413 past it."""
    body_seconds: float = 30.0
    """How long a body may take to arrive. 408 past it."""
    keep_alive_seconds: float = 15.0
    """After this much silence a stream gets a comment, so that proxies leave it open; 0: never."""
    stalled_seconds: float = 30.0
    """A client that takes nothing for so long is dropped; it may resume."""

    def __post_init__(self) -> None:
        for name in ("body_bytes", "body_seconds", "stalled_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)!r}")
        # The original's bound, which is that of a JavaScript timer.
        if not 0 <= self.keep_alive_seconds <= (2**31 - 1) / 1000:
            raise ValueError(f"keep_alive_seconds must be from 0 to 2147483.647, not {self.keep_alive_seconds!r}")


async def read_body(request: Request, limits: Limits) -> bytes:
    """Read a request's body. Refuses (raises `ApiError`) what is compressed, too large or too slow."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.strip().lower() not in ("", "identity"):
        # What a few bytes unfold to is known only when it is too late.
        raise ApiError(415, {"error": "Unsupported content encoding", "message": "Send the body uncompressed"})
    too_large = ApiError(
        413, {"error": "Request body too large", "message": f"A body has at most {limits.body_bytes} bytes"}
    )
    said = request.headers.get("content-length", "")
    if said.isascii() and said.isdigit() and (len(said) > 18 or int(said) > limits.body_bytes):
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for piece in request.stream():
                body += piece
                if len(body) > limits.body_bytes:
                    raise too_large
    except TimeoutError:
        # Who dribbles on is not listened to. (HTTP/2 has no such header.)
        close = {"Connection": "close"} if request.scope.get("http_version", "1.1") == "1.1" else None
        raise ApiError(408, {"error": "Request body too slow"}, close) from None
    return bytes(body)
