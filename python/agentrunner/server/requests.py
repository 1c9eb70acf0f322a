"""The reading of requests: route, ids, body and user, from a path or from an envelope."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.datastructures import QueryParams

from agentrunner.server.auth import authenticate_request
from agentrunner.server.bodies import give_way, is_json, limit_values, load_json, read_body, refuse_other_types
from agentrunner.server.cors import SAFE_METHODS, refuse_cross_site
from agentrunner.server.envelope import MISPLACED_ENVELOPE, read_envelope
from agentrunner.server.responses import ApiError, UnknownPath, WrongMethod
from agentrunner.server.routing import decode_segment, split_path, strip_base_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from agentrunner.server.auth import Principal
    from agentrunner.server.context import AppContext
    from agentrunner.server.routing import ApiRoute


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A request as handlers see it, whether it came by its path or in an envelope."""

    http: Request
    """Starlette's request, for its headers and its connection."""
    route: ApiRoute
    agent_id: str
    """Id of the agent; empty on routes without one."""
    thread_id: str
    """Id of the thread; empty on routes without one in their path."""
    query: QueryParams
    body: bytes
    principal: Principal | None
    """User who sent it; `None` without authentication."""
    forwarded_headers: Mapping[str, str]
    """Headers that the agent may see."""
    arrived_at: float
    """Time when its head had arrived, on the monotonic clock."""
    is_enveloped: bool
    """Whether it came in a single-route envelope."""

    def drop_body(self) -> None:
        """Remove the body from memory after it was read."""
        object.__setattr__(self, "body", b"")

    @property
    def scope(self) -> str | None:
        """Scope of the threads that the request creates."""
        return self.principal.scope if self.principal is not None else None

    @property
    def scope_filter(self) -> dict[str, Any]:
        """Keyword argument that limits an operation to the caller's threads."""
        return {"scope": self.principal.scope} if self.principal is not None else {}


async def read_api_request(context: AppContext, http: Request) -> ApiRequest:
    """Find a request's route and user, and read its body. Raises `ApiError`."""
    arrived_at = time.monotonic()
    path = strip_base_path(_read_raw_path(http), context.base_path)
    if path is None:
        raise UnknownPath
    match = context.routes.match(path) if context.mode != "single-route" else None
    row = match.find_row(http.method) if match is not None else None
    if match is not None and row is None:
        raise WrongMethod(match.methods)
    if match is None and http.method != "POST":
        raise WrongMethod(("POST",)) if context.mode == "single-route" else UnknownPath()
    # Check the caller before reading the body: a refused caller must not make the server read megabytes.
    refuse_cross_site(http, context.cors)
    principal = await authenticate_request(http, context.authenticate)
    headers = context.forward_headers.select(http.headers)
    content_type = http.headers.get("content-type", "")
    if row is not None and row.method not in SAFE_METHODS and row.name != "transcribe":
        refuse_other_types(http)
    body = await read_body(http, context.limits) if http.method not in ("GET", "HEAD") else b""
    if not content_type.lower().startswith("multipart/"):
        await limit_values(body, context.limits)
    if match is not None and row is not None:
        return ApiRequest(
            http, row, match.agent_id, match.thread_id, http.query_params, body, principal, headers, arrived_at,
            is_enveloped=False,
        )  # fmt: skip
    agent_id = await _find_plain_agent(context, path, content_type, body)
    await give_way(body)
    if agent_id is not None:
        refuse_other_types(http)
        run = context.routes.find("agent/run")
        return ApiRequest(
            http, run, agent_id, "", http.query_params, body, principal, headers, arrived_at, is_enveloped=False
        )
    if context.mode == "multi-route":
        raise await _explain_unknown_path(context, content_type, body)
    inner = await read_envelope(context.routes, content_type, body)
    await give_way(body)
    return ApiRequest(
        http, inner.route, inner.agent_id, inner.thread_id, QueryParams(inner.query), inner.body, principal, headers,
        arrived_at, is_enveloped=True,
    )  # fmt: skip


async def _find_plain_agent(context: AppContext, path: str, content_type: str, body: bytes) -> str | None:
    """Return the agent's id for a plain AG-UI request; `None` for any other request.

    A plain request is a `RunAgentInput` posted to the base path, or to the agent's id below it.
    """
    if context.mode == "single-route":
        return None
    segments = split_path(path)
    agent_id = decode_segment(segments[-1]) if len(segments) == 1 else None
    if agent_id in context.agents:
        return agent_id
    if segments or not is_json(content_type):
        return None
    content = await load_json(body)
    if not isinstance(content, dict) or "method" in content or "threadId" not in content:
        return None
    return "default" if "default" in context.agents else next(iter(context.agents), "default")


async def _explain_unknown_path(context: AppContext, content_type: str, body: bytes) -> ApiError:
    content = await load_json(body) if is_json(content_type) else None
    if isinstance(content, dict) and content.get("method") in context.routes.envelope_methods:
        code = "single_route_envelope_against_multi_route_runtime"
        return ApiError(404, {"error": "Not found", "code": code, "message": MISPLACED_ENVELOPE})
    return UnknownPath()


def _read_raw_path(http: Request) -> str:
    """Return the path below the mount as it was sent: an id may contain an encoded slash."""
    raw: bytes | None = http.scope.get("raw_path")
    path: str = quote(http.scope["path"]) if raw is None else raw.partition(b"?")[0].decode("latin-1")
    root = quote(http.scope.get("root_path", "").rstrip("/"))
    return path[len(root) :] if root and path.startswith(root) else path
