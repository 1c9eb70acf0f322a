"""The thread routes: what the stock thread list reads and changes (docs/spec/http.md §4.8)."""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime
import re
from typing import TYPE_CHECKING, Any

import orjson
from starlette.responses import Response

from agentrunner.errors import ThreadAlreadyRunning, ThreadNotFound
from agentrunner.server.envelope import load_object
from agentrunner.server.responses import ApiError, ApiResponse, busy, thread_not_found
from agentrunner.types import ThreadSummary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentrunner.server.app import Server
    from agentrunner.server.requests import ApiRequest

_AGENT_ID = re.compile(r"[\w.@:=-]{1,128}", re.ASCII)
PAGE = 100
"""Threads in a list of no said limit."""
MAX_PAGE = 1000


async def list_threads(server: Server, call: ApiRequest) -> Response:
    """Give a page of threads, the most recently used first."""
    query = call.query
    agent_id = query.get("agentId") or None
    if agent_id is not None and not _AGENT_ID.fullmatch(agent_id):
        raise ApiError(400, {"error": "Valid agentId query param is required"})
    limit = query.get("limit") or str(PAGE)
    if not (limit.isascii() and limit.isdigit() and len(limit) < 10 and int(limit) > 0):
        raise ApiError(400, {"error": "Invalid limit"})
    size = min(int(limit), MAX_PAGE)
    found = await server.runner.threads.list(
        # One more than is shown tells whether there is a next page.
        limit=size + 1,
        before=_behind(query.get("cursor")),
        include_archived=query.get("includeArchived") == "true",
        agent_id=agent_id,
        **call.only_own,
    )
    shown = found[:size]
    cursor = _cursor(shown[-1]) if len(found) > size else None
    return ApiResponse({"threads": [record(summary) for summary in shown], "nextCursor": cursor})


async def messages(server: Server, call: ApiRequest) -> Response:
    """Give a thread's messages, tool calls flattened as the original has them."""
    await _see(server, call)
    return ApiResponse({"messages": [_flat(message) for message in await server.runner.threads.messages(_id(call))]})


async def events(server: Server, call: ApiRequest) -> Response:
    """Give a thread's compacted events."""
    await _see(server, call)
    found = await server.runner.threads.events(_id(call))
    return Response(b'{"events":[' + b",".join(map(bytes, found)) + b"]}", media_type="application/json")


async def state(server: Server, call: ApiRequest) -> Response:
    """Give a thread's state; `null` where nothing set one."""
    await _see(server, call)
    folded = await server.runner.threads.state(_id(call))
    return ApiResponse({"state": folded if folded != {} else None})


async def update(server: Server, call: ApiRequest) -> Response:
    """Rename, archive or unarchive a thread (`PATCH`), or delete it (`DELETE`)."""
    given = _body(call)
    await _see(server, call)
    verbs = server.runner.threads
    if call.method == "DELETE":
        with _refusing():
            await verbs.delete(_id(call))
        return ApiResponse({"threadId": _id(call), "deleted": True})
    name, archived = given.get("name"), given.get("archived")
    if not (name is None or (isinstance(name, str) and len(name.encode("utf-8", "surrogatepass")) <= 1024)):
        raise ApiError(400, {"error": "Invalid name", "message": "A name is a string of at most 1024 bytes, or null"})
    if not (archived is None or isinstance(archived, bool)):
        raise ApiError(400, {"error": "Invalid archived", "message": "archived is true or false"})
    with _refusing():
        if "name" in given:
            await verbs.rename(_id(call), name or None)
        if archived is not None:
            await verbs.archive(_id(call), archived)
        return ApiResponse(record(await verbs.get(_id(call))))


async def archive(server: Server, call: ApiRequest) -> Response:
    """Archive a thread."""
    _body(call)
    await _see(server, call)
    with _refusing():
        await server.runner.threads.archive(_id(call))
    return ApiResponse({"threadId": _id(call), "archived": True})


async def clear(server: Server, call: ApiRequest) -> Response:
    """Remove the threads the caller sees, save those that run."""
    await server.runner.threads.clear(**call.only_own)
    return Response(status_code=204)


def record(summary: ThreadSummary) -> dict[str, Any]:
    """Give a thread as the clients' `ThreadRecord`."""
    return {
        "id": summary.thread_id,
        "name": summary.name,
        "agentId": summary.agent_id or "default",
        "organizationId": "",
        "createdById": summary.scope or "",
        "archived": summary.archived,
        "createdAt": _iso(summary.created_at),
        "updatedAt": _iso(summary.updated_at),
        "lastRunAt": _iso(summary.updated_at),
        "running": summary.running,
    }


def _iso(ms: int) -> str:
    at = datetime.datetime.fromtimestamp(ms / 1000, datetime.UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _cursor(last: ThreadSummary) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([last.updated_at, last.thread_id])).decode().rstrip("=")


def _behind(cursor: str | None) -> ThreadSummary | None:
    if not cursor:
        return None
    try:
        at, thread_id = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, TypeError, binascii.Error):
        at = thread_id = None
    if type(at) is not int or type(thread_id) is not str or abs(at) >= 1 << 62:
        raise ApiError(400, {"error": "Invalid cursor"})
    return ThreadSummary(thread_id, None, None, False, False, 0, 0, at)


def _flat(message: dict[str, Any]) -> dict[str, Any]:
    shown = {key: message[key] for key in ("id", "role", "content") if message.get(key) is not None}
    if message.get("role") == "tool":
        shown["toolCallId"] = message.get("toolCallId")
    calls = message.get("toolCalls")
    if message.get("role") == "assistant" and calls and isinstance(calls, list):
        shown["toolCalls"] = [_flat_call(one) for one in calls if isinstance(one, dict)]
    return shown


def _flat_call(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    # A snapshot's messages are as their agent made them.
    told = function if isinstance(function, dict) else {}
    return {"id": call.get("id"), "name": told.get("name"), "args": told.get("arguments")}


def _id(call: ApiRequest) -> str:
    return call.route.thread_id


async def _see(server: Server, call: ApiRequest) -> None:
    if not await server.sees(call, _id(call)):
        raise thread_not_found()


def _body(call: ApiRequest) -> dict[str, Any]:
    """Read a change: an object, whose `agentId` the clients always send."""
    given = load_object(call.body)
    if given is None:
        raise ApiError(400, {"error": "Invalid request body"})
    agent_id = given.get("agentId")
    if agent_id is not None and not (isinstance(agent_id, str) and _AGENT_ID.fullmatch(agent_id)):
        raise ApiError(400, {"error": "Valid agentId is required"})
    return given


@contextlib.contextmanager
def _refusing() -> Iterator[None]:
    """Make an answer of what the runner raises."""
    try:
        yield
    except ThreadNotFound:
        raise thread_not_found() from None
    except ThreadAlreadyRunning:
        raise busy() from None
