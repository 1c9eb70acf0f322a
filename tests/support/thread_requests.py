"""Requests about one thread in every form there is, for tests of scopes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentrunner.server import Principal
from support.inputs import make_input

if TYPE_CHECKING:
    import httpx
    from starlette.requests import Request

UNKNOWN_THREAD = (404, b'{"error":"Thread not found"}')
"""Status and body of the response to a request about a thread that the caller cannot see."""
CURSOR = {"last-event-id": "1"}


def authenticate_by_name(request: Request) -> Principal | None:
    """Return the principal that the request names."""
    name = request.headers.get("x-user")
    return Principal(name) if name else None


def build_resource_envelope(path: str, verb: str, body: Any = None) -> dict[str, Any]:
    """Return an envelope that carries a request to a thread route."""
    return {"method": "resource/request", "params": {"path": path, "httpMethod": verb}, "body": body}


def build_thread_requests(thread: str, run: str) -> dict[str, tuple[str, str, Any, dict[str, str]]]:
    """Return requests by name, each with its method, path, body and headers.

    `run` is the id of a run that the requests start: each needs a new one.
    """
    run_input = make_input(thread, run)
    agent, both = {"agentId": "default"}, {"agentId": "default", "threadId": thread}
    resuming = run_input | {"lastSeenEventId": "1"}
    requests: dict[str, tuple[str, str, Any, dict[str, str]]] = {
        "run": ("POST", "/agent/default/run", run_input, {}),
        "run plain": ("POST", "/", run_input, {}),
        "run plain by agent": ("POST", "/default", run_input, {}),
        "run single": ("POST", "/", {"method": "agent/run", "params": agent, "body": run_input}, {}),
        "connect": ("POST", "/agent/default/connect", run_input, CURSOR),
        "connect by body": ("POST", "/agent/default/connect", resuming, {}),
        "connect far ahead": ("POST", "/agent/default/connect", run_input, {"last-event-id": "999999"}),
        "connect by a bad cursor": ("POST", "/agent/default/connect", run_input, {"last-event-id": "no"}),
        "connect single": ("POST", "/", {"method": "agent/connect", "params": agent, "body": resuming}, {}),
        "stop": ("POST", f"/agent/default/stop/{thread}", {}, {}),
        "stop one": ("POST", f"/agent/default/stop/{thread}", {"runId": "r1"}, {}),
        "stop single": ("POST", "/", {"method": "agent/stop", "params": both}, {}),
    }
    verbs = [
        ("GET", "/messages", None), ("GET", "/events", None), ("GET", "/state", None),
        ("PATCH", "", {"name": "mine now"}), ("PATCH", "", {"archived": True}), ("PATCH", "", {}),
        ("POST", "/archive", {}), ("DELETE", "", {}),
    ]  # fmt: skip
    for verb, rest, body in verbs:
        name = f"{verb} {rest} {body}"
        requests[name] = (verb, f"/threads/{thread}{rest}", body, {})
        requests[f"{name} single"] = ("POST", "/", build_resource_envelope(f"/threads/{thread}{rest}", verb, body), {})
    return requests


async def send(http: httpx.AsyncClient, request: tuple[str, str, Any, dict[str, str]]) -> httpx.Response:
    """Send one of the requests."""
    method, path, body, headers = request
    return await http.request(method, path, json=body, headers=headers)
