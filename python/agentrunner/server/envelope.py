"""Single-route requests: envelopes `{method, params, body}` that one `POST` route takes.

The rules are in docs/spec/http.md §4.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agentrunner._codec import dump, encode
from agentrunner.errors import InvalidEvent
from agentrunner.server.bodies import is_json, load_json
from agentrunner.server.responses import InvalidEnvelope, UnknownPath, WrongMethod

if TYPE_CHECKING:
    from agentrunner.server.routing import ApiRoute, RouteTable

MISPLACED_ENVELOPE = (
    'Received a single-route request envelope ({ method: "..." }) but this runtime is mounted in multi-route mode, so '
    "the request matched no route. Either drop useSingleEndpoint from the frontend provider so it negotiates the "
    'transport, or mount the runtime with mode: "single-route" to serve this envelope.'
)


@dataclass(frozen=True, slots=True)
class EnvelopeRequest:
    """The request that an envelope stands for."""

    route: ApiRoute
    agent_id: str
    thread_id: str
    query: str
    body: bytes


async def read_envelope(routes: RouteTable, content_type: str, body: bytes) -> EnvelopeRequest:
    """Read an envelope. Raises `ApiError` with status 400, 404, 405 or 415."""
    if not is_json(content_type):
        raise InvalidEnvelope(415, "Single-route endpoint expects JSON payloads")
    envelope = await load_json(body)
    if not isinstance(envelope, dict):
        raise InvalidEnvelope(400, "Invalid JSON payload")
    method = envelope.get("method")
    if not method:
        raise InvalidEnvelope(400, "Missing method field")
    if not isinstance(method, str) or method not in routes.envelope_methods:
        raise InvalidEnvelope(400, f"Unsupported method '{method}'")
    params = envelope.get("params")
    inner_body = envelope.get("body")
    if method == "resource/request":
        return _read_thread_request(routes, params, inner_body)
    route = routes.find(method)
    agent_id = _read_param(params, "agentId") if "{agentId}" in route.path else ""
    thread_id = _read_param(params, "threadId") if "{threadId}" in route.path else ""
    if route.method == "GET":
        return EnvelopeRequest(route, agent_id, thread_id, "", b"")
    if method == "agent/stop" and "body" not in envelope:
        inner_body = {}
    if inner_body is None:
        raise InvalidEnvelope(400, "Missing request body for JSON handler")
    return EnvelopeRequest(route, agent_id, thread_id, "", _encode_body(inner_body))


def _read_thread_request(routes: RouteTable, params: Any, inner_body: Any) -> EnvelopeRequest:
    """Read a `resource/request`, which reaches the thread routes and no others."""
    path, method = _read_param(params, "path"), _read_param(params, "httpMethod").upper()
    # Two slashes begin the address of another host.
    if not path.startswith("/") or path.startswith(("//", "/\\")):
        raise InvalidEnvelope(400, "Resource path must be Runtime-relative")
    try:
        url = urlsplit(path)
    except ValueError:
        raise InvalidEnvelope(400, "Resource path must be Runtime-relative") from None
    match = routes.match(url.path)
    if match is None or not match.rows[0].is_thread_route:
        raise UnknownPath
    route = match.find_row(method)
    if route is None:
        raise WrongMethod(match.methods)
    has_body = method != "GET" and inner_body is not None
    body = _encode_body(inner_body) if has_body else b""
    return EnvelopeRequest(route, match.agent_id, match.thread_id, url.query, body)


def _read_param(params: Any, key: str) -> str:
    value = params.get(key) if isinstance(params, dict) else None
    if isinstance(value, str) and value.strip():
        return value
    raise InvalidEnvelope(400, f"Missing or invalid parameter '{key}'")


def _encode_body(inner_body: Any) -> bytes:
    """Return the body in an envelope as the bytes of a request; a string is JSON already."""
    try:
        return encode(inner_body) if isinstance(inner_body, str) else dump(inner_body)
    except InvalidEvent:
        # orjson refuses values that are nested far deeper than the runner accepts.
        raise InvalidEnvelope(400, "The body is nested too deep") from None
