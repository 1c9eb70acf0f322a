"""What a request asks for, and who asks: read from its path or from an envelope, in one place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.datastructures import QueryParams

from agentrunner.server.auth import principal_of
from agentrunner.server.cors import refuse_cross_site
from agentrunner.server.envelope import METHODS, MISPLACED, is_json, load, open_envelope
from agentrunner.server.limits import read_body
from agentrunner.server.responses import ApiError, method_not_allowed, not_found
from agentrunner.server.routes import Route, decoded, match, methods_of, within

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from agentrunner.server.app import Server
    from agentrunner.server.auth import Principal


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """One request, whichever way it came: by its path or in an envelope."""

    request: Request
    route: Route
    method: str
    query: QueryParams
    body: bytes
    principal: Principal | None
    headers: Mapping[str, str]
    """Those the agent gets to see."""
    bridged: bool
    """Whether it came in an envelope."""

    @property
    def scope(self) -> str | None:
        """Whose threads it makes."""
        return self.principal.scope if self.principal is not None else None

    @property
    def only_own(self) -> dict[str, Any]:
        """Give the argument that keeps a verb over many threads to those of the caller."""
        return {"scope": self.principal.scope} if self.principal is not None else {}


async def read_api_request(server: Server, request: Request) -> ApiRequest:
    """Find out what is asked for, and by whom. Raises `ApiError`."""
    path = within(_raw_path(request), server.base_path)
    if path is None:
        raise not_found()
    route = match(path) if server.mode != "single-route" else None
    if route is not None and request.method not in methods_of(route):
        raise method_not_allowed(methods_of(route))
    if route is None and request.method != "POST":
        raise method_not_allowed(("POST",)) if server.mode == "single-route" else not_found()
    refuse_cross_site(request, server.cors)
    principal = await principal_of(request, server.authenticate)
    headers = server.forward_headers.of(request.headers)
    body = await read_body(request, server.limits) if request.method not in ("GET", "HEAD") else b""
    content_type = request.headers.get("content-type", "")
    if route is None:
        plain = _plain(server, path, content_type, body)
        if plain is None:
            if server.mode != "multi-route":
                opened = open_envelope(content_type, body)
                query = QueryParams(opened.query)
                return ApiRequest(request, opened.route, opened.method, query, opened.body, principal, headers, True)
            raise _unmatched(content_type, body)
        route = plain
    return ApiRequest(request, route, request.method, request.query_params, body, principal, headers, False)


def _plain(server: Server, path: str, content_type: str, body: bytes) -> Route | None:
    """Read a plain AG-UI request: a `RunAgentInput` posted to the base, or to the agent's id under it."""
    if server.mode == "single-route":
        return None
    segments = [segment for segment in path.split("/") if segment]
    agent_id = decoded(segments[-1]) if len(segments) == 1 else None
    if agent_id in server.agents:
        return Route("agent/run", agent_id or "")
    if segments or not is_json(content_type):
        return None
    given = load(body)
    if not isinstance(given, dict) or "method" in given or "threadId" not in given:
        return None
    return Route("agent/run", "default" if "default" in server.agents else next(iter(server.agents), "default"))


def _unmatched(content_type: str, body: bytes) -> ApiError:
    given = load(body) if is_json(content_type) else None
    if isinstance(given, dict) and given.get("method") in METHODS:
        code = "single_route_envelope_against_multi_route_runtime"
        return ApiError(404, {"error": "Not found", "code": code, "message": MISPLACED})
    return not_found()


def _raw_path(request: Request) -> str:
    """Give the path below the mount as it was sent: an id may hold an encoded slash."""
    raw: bytes | None = request.scope.get("raw_path")
    path: str = quote(request.scope["path"]) if raw is None else raw.partition(b"?")[0].decode("latin-1")
    root = quote(request.scope.get("root_path", "").rstrip("/"))
    return path[len(root) :] if root and path.startswith(root) else path
