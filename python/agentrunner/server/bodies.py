"""The body of a request: reading it within the limits, and parsing JSON."""

from __future__ import annotations

import asyncio
import json
import math
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from agentrunner import _core
from agentrunner.server.responses import ApiError

if TYPE_CHECKING:
    from starlette.requests import Request

    from agentrunner.server.limits import Limits

UNTHREADED_BYTES = 64 * 1024
"""Longest body that is counted on the event loop; a longer one is counted in a worker thread."""
PARSER_DEPTH = 1024
"""Levels that orjson parses; it refuses deeper text without building more values."""
_SURROGATE_ESCAPES = (b"\\ud", b"\\uD")
"""Beginning of an escaped surrogate; browsers send lone ones."""
_INTEGER_CHARS = 20
"""Characters of the longest integer of 64 bits."""


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


async def limit_values(body: bytes, limits: Limits) -> None:
    """Raise `ApiError` (413) if parsing a body as JSON would build too many values.

    Nothing may parse a body before this: a parser blocks the event loop, even in a worker thread.
    """
    count = partial(_core.count_values, body, PARSER_DEPTH)
    values = await asyncio.to_thread(count) if len(body) > UNTHREADED_BYTES else count()
    if values > limits.body_values:
        message = f"A body has at most {limits.body_values} JSON values"
        raise ApiError(413, {"error": "Request body too large", "message": message})


async def give_way(body: bytes) -> None:
    """Yield to other tasks after parsing a long body."""
    if len(body) > UNTHREADED_BYTES:
        await asyncio.sleep(0)


def is_json(content_type: str) -> bool:
    """Return whether the content type of a body is JSON."""
    # Ignore parameters: browsers send `text/plain; x=application/json` without a preflight.
    return content_type.partition(";")[0].strip().lower() == "application/json"


def refuse_other_types(request: Request) -> None:
    """Raise `ApiError` (415) for a body that is not JSON.

    A form of another site's page can send other types without a preflight.
    """
    headers = request.headers
    content_type = headers.get("content-type")
    has_body = headers.get("content-length", "0") != "0" or "transfer-encoding" in headers
    if (content_type is None and not has_body) or is_json(content_type or ""):
        return
    message = "Send the body as application/json"
    raise ApiError(415, {"error": "Unsupported content type", "message": message})


async def load_json(body: bytes) -> Any:
    """Return the JSON value of a body; `None` if it is not JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return await load_halves(body)


async def load_json_object(body: bytes) -> dict[str, Any] | None:
    """Return the JSON object of a body, `{}` for an empty body; `None` for anything else."""
    value = await load_json(body) if body.strip() else {}
    return value if isinstance(value, dict) else None


async def load_halves(body: bytes) -> Any:
    """Return a JSON value with lone surrogates, which orjson refuses; `None` if invalid."""
    if not any(escape in body for escape in _SURROGATE_ESCAPES):
        return None
    parse = partial(_parse_halves, body)
    return await asyncio.to_thread(parse) if len(body) > UNTHREADED_BYTES else parse()


def _parse_halves(body: bytes) -> Any:
    # The standard library parses deeper than orjson, and `limit_values` did not count deeper values.
    if _core.count_values(body, PARSER_DEPTH) != _core.count_values(body, len(body)):
        return None
    try:
        # Decode first: the standard library also accepts UTF-16, which `limit_values` cannot count.
        return json.loads(
            body.decode(), parse_int=_parse_number, parse_float=_parse_number, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError):
        return None


def _parse_number(text: str) -> int | float:
    # As orjson does: the time to read a long integer grows with the square of its digits.
    if len(text) <= _INTEGER_CHARS and text.lstrip("-").isdigit():
        return int(text)
    number = float(text)
    if math.isinf(number):
        raise ValueError("the number is too large")
    return number


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
