"""Single-route requests: everything by `POST` of `{method, params, body}` (docs/spec/http.md §4.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import orjson

from agentrunner.server.responses import invalid_request, method_not_allowed, not_found
from agentrunner.server.routes import Route, match, methods_of

METHODS = (
    "agent/run",
    "agent/suggest",
    "agent/connect",
    "agent/stop",
    "info",
    "inspector/metadata",
    "inspector/learning",
    "transcribe",
    "resource/request",
)
MISPLACED = (
    'Received a single-route request envelope ({ method: "..." }) but this runtime is mounted in multi-route mode, so '
    "the request matched no route. Either drop useSingleEndpoint from the frontend provider so it negotiates the "
    'transport, or mount the runtime with mode: "single-route" to serve this envelope.'
)


@dataclass(frozen=True, slots=True)
class Opened:
    """What an envelope asks for: a route, with the method, query and body of the request it stands for."""

    route: Route
    method: str
    query: str
    body: bytes


def is_json(content_type: str) -> bool:
    """Say whether a body is said to be JSON."""
    return "application/json" in content_type


def load(body: bytes) -> Any:
    """Give a body's JSON value; `None` where it is no JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def load_object(body: bytes) -> dict[str, Any] | None:
    """Give the object a body holds, an empty one where there is no body; `None` for anything else."""
    given = load(body) if body.strip() else {}
    return given if isinstance(given, dict) else None


def open_envelope(content_type: str, body: bytes) -> Opened:
    """Read an envelope. Raises `ApiError`: 415, 400, 404, 405."""
    if not is_json(content_type):
        raise invalid_request(415, "Single-route endpoint expects JSON payloads")
    envelope = load(body)
    if not isinstance(envelope, dict):
        raise invalid_request(400, "Invalid JSON payload")
    method = envelope.get("method")
    if not method:
        raise invalid_request(400, "Missing method field")
    if not isinstance(method, str) or method not in METHODS:
        raise invalid_request(400, f"Unsupported method '{method}'")
    params = envelope.get("params")
    carried = envelope.get("body")
    if method == "resource/request":
        return _resource(params, carried)
    route = Route(
        method,
        _param(params, "agentId") if method.startswith("agent/") else "",
        _param(params, "threadId") if method == "agent/stop" else "",
    )
    if method == "agent/stop" and "body" not in envelope:
        return Opened(route, "POST", "", b"{}")
    if method in ("agent/run", "agent/suggest", "agent/connect", "agent/stop", "transcribe"):
        if carried is None:
            raise invalid_request(400, "Missing request body for JSON handler")
        return Opened(route, "POST", "", _json(carried))
    return Opened(route, "GET", "", b"")


def _resource(params: Any, carried: Any) -> Opened:
    """Bridge to the thread routes, and to nothing else."""
    path, method = _param(params, "path"), _param(params, "httpMethod").upper()
    if not path.startswith("/") or path.startswith(("//", "/\\")):
        raise invalid_request(400, "Resource path must be Runtime-relative")
    try:
        parts = urlsplit(path)
    except ValueError:
        raise invalid_request(400, "Resource path must be Runtime-relative") from None
    route = match(parts.path)
    if route is None or not route.name.startswith("threads/"):
        raise not_found()
    if method not in methods_of(route):
        raise method_not_allowed(methods_of(route))
    has_body = method != "GET" and carried is not None
    return Opened(route, method, parts.query, _json(carried) if has_body else b"")


def _param(params: Any, key: str) -> str:
    value = params.get(key) if isinstance(params, dict) else None
    if isinstance(value, str) and value.strip():
        return value
    raise invalid_request(400, f"Missing or invalid parameter '{key}'")


def _json(carried: Any) -> bytes:
    """Give a carried body as that of a request; a string is one already."""
    try:
        return carried.encode() if isinstance(carried, str) else orjson.dumps(carried)
    except TypeError:
        # It is nested deeper than orjson writes, which is deeper than anything is taken.
        raise invalid_request(400, "The body is nested too deep") from None
