"""The body of a request: reading it within the limits, and parsing JSON."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import orjson

from agentrunner.server.responses import ApiError

if TYPE_CHECKING:
    from starlette.requests import Request

    from agentrunner.server.limits import Limits


async def read_body(request: Request, limits: Limits) -> bytes:
    """Read a request's body. Raises `ApiError` if it is compressed or exceeds a limit."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.strip().lower() not in ("", "identity"):
        # A few compressed bytes can expand to gigabytes, and the size is known only after expanding them.
        raise ApiError(415, {"error": "Unsupported content encoding", "message": "Send the body uncompressed"})
    too_large = ApiError(
        413, {"error": "Request body too large", "message": f"A body has at most {limits.body_bytes} bytes"}
    )
    declared_length = request.headers.get("content-length", "")
    if (
        declared_length.isascii()
        and declared_length.isdigit()
        # Python refuses to parse numbers of thousands of digits.
        and (len(declared_length) > 18 or int(declared_length) > limits.body_bytes)
    ):
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for received in request.stream():
                body += received
                if len(body) > limits.body_bytes:
                    raise too_large
    except TimeoutError:
        # Close the connection, so that a slow sender cannot hold it open. HTTP/2 forbids this header.
        close = {"Connection": "close"} if request.scope.get("http_version", "1.1") == "1.1" else None
        raise ApiError(408, {"error": "Request body too slow"}, close) from None
    return bytes(body)


def is_json(content_type: str) -> bool:
    """Return whether the content type of a body is JSON."""
    return "application/json" in content_type


def load_json(body: bytes) -> Any:
    """Return the JSON value of a body; `None` if it is not JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def load_json_object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object of a body, `{}` for an empty body; `None` for anything else."""
    value = load_json(body) if body.strip() else {}
    return value if isinstance(value, dict) else None
