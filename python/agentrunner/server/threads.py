"""The thread routes, which the stock thread list uses (docs/spec/http.md §4.8)."""

from __future__ import annotations

import base64
import binascii
import contextlib
import datetime
import re
from typing import TYPE_CHECKING, Any

import orjson
from starlette.responses import Response

from agentrunner.errors import InvalidInput, ThreadAlreadyRunning, ThreadNotFound
from agentrunner.server.bodies import load_json_object
from agentrunner.server.responses import ApiError, ApiResponse, BusyThread, UnknownThread
from agentrunner.types import ThreadSummary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentrunner.server.context import AppContext
    from agentrunner.server.requests import ApiRequest

_AGENT_ID = re.compile(r"[\w.@:=-]{1,128}", re.ASCII)
DEFAULT_LIST_THREADS = 100
"""Threads on a page if the client does not send a limit."""
MAX_LIST_THREADS = 1000
"""Most threads on a page; a larger limit is lowered to it."""
MAX_NAME_BYTES = 1024


async def list_threads(context: AppContext, request: ApiRequest) -> Response:
    """Return a page of threads, the most recently used first."""
    query = request.query
    agent_id = query.get("agentId") or None
    if agent_id is not None and not _AGENT_ID.fullmatch(agent_id):
        raise ApiError(400, {"error": "Valid agentId query param is required"})
    limit = query.get("limit") or str(DEFAULT_LIST_THREADS)
    if not (limit.isascii() and limit.isdigit() and len(limit) < 10 and int(limit) > 0):
        raise ApiError(400, {"error": "Invalid limit"})
    size = min(int(limit), MAX_LIST_THREADS)
    summaries = await context.runner.threads.list(
        # One more than the page shows, to find out whether there is a next page.
        limit=size + 1,
        before=_decode_cursor(query.get("cursor")),
        include_archived=query.get("includeArchived") == "true",
        agent_id=agent_id,
        **request.scope_filter,
    )
    page = summaries[:size]
    cursor = _encode_cursor(page[-1]) if len(summaries) > size else None
    return ApiResponse({"threads": [to_thread_record(summary) for summary in page], "nextCursor": cursor})


async def get_messages(context: AppContext, request: ApiRequest) -> Response:
    """Return a thread's messages, with tool calls flattened as CopilotKit's runtime does."""
    await _check_visible(context, request)
    messages = await context.runner.threads.messages(request.thread_id, **request.scope_filter)
    return ApiResponse({"messages": [_flatten_message(message) for message in messages]})


async def get_events(context: AppContext, request: ApiRequest) -> Response:
    """Return a thread's compacted events."""
    await _check_visible(context, request)
    events = await context.runner.threads.events(request.thread_id, **request.scope_filter)
    return Response(b'{"events":[' + b",".join(map(bytes, events)) + b"]}", media_type="application/json")


async def get_state(context: AppContext, request: ApiRequest) -> Response:
    """Return a thread's state; `null` if no event has set one."""
    await _check_visible(context, request)
    state = await context.runner.threads.state(request.thread_id, **request.scope_filter)
    return ApiResponse({"state": state if state != {} else None})


async def update_thread(context: AppContext, request: ApiRequest) -> Response:
    """Rename, archive or unarchive a thread."""
    change = await _read_change(request)
    await _check_visible(context, request)
    name, archived = change.get("name"), change.get("archived")
    if not (name is None or (isinstance(name, str) and len(name.encode("utf-8", "surrogatepass")) <= MAX_NAME_BYTES)):
        raise ApiError(400, {"error": "Invalid name", "message": "A name is a string of at most 1024 bytes, or null"})
    if not (archived is None or isinstance(archived, bool)):
        raise ApiError(400, {"error": "Invalid archived", "message": "archived is true or false"})
    threads = context.runner.threads
    with _translate_errors():
        if "name" in change:
            await threads.rename(request.thread_id, name or None, **request.scope_filter)
        if archived is not None:
            await threads.archive(request.thread_id, archived, **request.scope_filter)
        return ApiResponse(to_thread_record(await threads.get(request.thread_id, **request.scope_filter)))


async def delete_thread(context: AppContext, request: ApiRequest) -> Response:
    """Delete a thread."""
    await _read_change(request)
    await _check_visible(context, request)
    with _translate_errors():
        await context.runner.threads.delete(request.thread_id, **request.scope_filter)
    return ApiResponse({"threadId": request.thread_id, "deleted": True})


async def archive_thread(context: AppContext, request: ApiRequest) -> Response:
    """Archive a thread."""
    await _read_change(request)
    await _check_visible(context, request)
    with _translate_errors():
        await context.runner.threads.archive(request.thread_id, **request.scope_filter)
    return ApiResponse({"threadId": request.thread_id, "archived": True})


async def clear_threads(context: AppContext, request: ApiRequest) -> Response:
    """Delete the threads that the caller sees, except the running ones."""
    await context.runner.threads.clear(**request.scope_filter)
    return Response(status_code=204)


async def refuse_subscription(context: AppContext, request: ApiRequest) -> Response:
    """Refuse to subscribe to thread changes, which only CopilotKit's paid service offers."""
    raise ApiError(422, {"error": "Thread subscriptions are not available"})


def to_thread_record(summary: ThreadSummary) -> dict[str, Any]:
    """Return a thread as the clients' `ThreadRecord`."""
    return {
        "id": summary.thread_id,
        "name": summary.name,
        "agentId": summary.agent_id or "default",
        "organizationId": "",
        "createdById": summary.scope or "",
        "archived": summary.archived,
        "createdAt": _format_time(summary.created_at),
        "updatedAt": _format_time(summary.updated_at),
        "lastRunAt": _format_time(summary.updated_at),
        "running": summary.running,
    }


def _format_time(ms: int) -> str:
    at = datetime.datetime.fromtimestamp(ms / 1000, datetime.UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _encode_cursor(last: ThreadSummary) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([last.updated_at, last.thread_id])).decode().rstrip("=")


def _decode_cursor(cursor: str | None) -> ThreadSummary | None:
    """Return the thread after which the page starts; `None` for the first page."""
    if not cursor:
        return None
    try:
        at, thread_id = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, TypeError, binascii.Error):
        at = thread_id = None
    if type(at) is not int or type(thread_id) is not str or abs(at) >= 1 << 62:
        raise ApiError(400, {"error": "Invalid cursor"})
    return ThreadSummary(thread_id, None, None, False, False, 0, 0, at)


def _flatten_message(message: dict[str, Any]) -> dict[str, Any]:
    flat = {key: message[key] for key in ("id", "role", "content") if message.get(key) is not None}
    if message.get("role") == "tool":
        flat["toolCallId"] = message.get("toolCallId")
    calls = message.get("toolCalls")
    if message.get("role") == "assistant" and calls and isinstance(calls, list):
        flat["toolCalls"] = [_flatten_tool_call(call) for call in calls if isinstance(call, dict)]
    return flat


def _flatten_tool_call(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function")
    if not isinstance(function, dict):
        # A stored snapshot may have a call without its function.
        function = {}
    return {"id": call.get("id"), "name": function.get("name"), "args": function.get("arguments")}


async def _check_visible(context: AppContext, request: ApiRequest) -> None:
    if not await context.can_see(request.principal, request.thread_id):
        raise UnknownThread


async def _read_change(request: ApiRequest) -> dict[str, Any]:
    """Return a change request's JSON object. Raises `ApiError` if it is invalid."""
    change = await load_json_object(request.body)
    if change is None:
        raise ApiError(400, {"error": "Invalid request body"})
    agent_id = change.get("agentId")
    if agent_id is not None and not (isinstance(agent_id, str) and _AGENT_ID.fullmatch(agent_id)):
        raise ApiError(400, {"error": "Valid agentId is required"})
    return change


@contextlib.contextmanager
def _translate_errors() -> Iterator[None]:
    """Raise the runner's errors as `ApiError`."""
    try:
        yield
    except ThreadNotFound:
        raise UnknownThread from None
    except ThreadAlreadyRunning:
        raise BusyThread from None
    except InvalidInput as error:
        raise ApiError(400, {"error": "Invalid request body", "message": str(error)}) from None
