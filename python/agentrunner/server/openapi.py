"""The interface described as OpenAPI 3.1, for people and for the tests that try everything it allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentrunner import __version__

if TYPE_CHECKING:
    from agentrunner.server.app import Server

_OBJECT = {"type": "object"}
_ID = {"type": "string", "minLength": 1, "maxLength": 1024}
_NAME = {"type": ["string", "null"], "maxLength": 255}
_ERROR = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_THREAD = {
    "type": "object",
    "required": ["id", "name", "agentId", "archived", "createdAt", "updatedAt"],
    "properties": {
        "id": {"type": "string"},
        "name": {"type": ["string", "null"]},
        "agentId": {"type": "string"},
        "archived": {"type": "boolean"},
        "running": {"type": "boolean"},
        "createdAt": {"type": "string", "format": "date-time"},
        "updatedAt": {"type": "string", "format": "date-time"},
        "lastRunAt": {"type": "string", "format": "date-time"},
    },
}
_MESSAGE = {
    "type": "object",
    "required": ["id", "role", "content"],
    "properties": {"id": _ID, "role": {"const": "user"}, "content": {"type": "string"}},
}
_INPUT: dict[str, Any] = {
    "type": "object",
    "required": ["threadId", "runId", "messages"],
    "properties": {
        "threadId": _ID,
        "runId": _ID,
        "protocolVersion": {"type": "string", "pattern": r"^\d+\.\d+$"},
        "messages": {"type": "array", "items": _MESSAGE},
        "tools": {"type": "array", "maxItems": 0},
        "context": {"type": "array", "maxItems": 0},
        "state": _OBJECT,
        "forwardedProps": _OBJECT,
    },
}
_LAST_SEEN = {"lastSeenEventId": {"type": ["string", "null"]}}
_CONNECT = _INPUT | {"properties": _INPUT["properties"] | _LAST_SEEN}
_STOP = {"type": "object", "properties": {"runId": _ID}, "additionalProperties": False}
_CHANGE = {
    "type": "object",
    "properties": {"agentId": {"type": "string"}, "name": _NAME, "archived": {"type": "boolean"}},
}


def _operation(
    summary: str, answers: dict[str, Any], *, body: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": summary, "responses": {**answers, "default": _json("Refused", _ERROR)}}
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    return operation | more


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _of(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


def _query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema}


def openapi(server: Server) -> dict[str, Any]:
    """Describe the routes of an app, its agents by name."""
    agent_id = {"name": "agentId", "in": "path", "required": True, "schema": {"enum": list(server.agents)}}
    thread_id = {"name": "threadId", "in": "path", "required": True, "schema": _ID}
    stream = {
        "200": {"description": "Events, each `id: <cursor>`, `data: <JSON>`", "content": {"text/event-stream": {}}}
    }
    last_seen = {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}}
    a_list = {"type": "array"}
    paths: dict[str, Any] = {
        "/info": {"get": _operation("What the server has", {"200": _json("Agents and abilities", _OBJECT)})},
        "/agent/{agentId}/run": {
            "parameters": [agent_id],
            "post": _operation("Start a run and stream it", stream, body=_INPUT),
        },
        "/agent/{agentId}/connect": {
            "parameters": [agent_id],
            "post": _operation(
                "Stream a thread, or go on behind a cursor", stream, body=_CONNECT, parameters=[last_seen]
            ),
        },
        "/agent/{agentId}/suggest": {
            "parameters": [agent_id],
            "post": _operation("Run an agent, keep nothing", stream, body=_INPUT),
        },
        "/agent/{agentId}/stop/{threadId}": {
            "parameters": [agent_id, thread_id],
            "post": _operation(
                "Stop a thread's run", {"200": _json("Whether one was", _of(stopped={"type": "boolean"}))}, body=_STOP
            ),
        },
        "/threads": {
            "get": _operation(
                "List threads, newest first",
                {
                    "200": _json(
                        "A page", _of(threads=a_list | {"items": _THREAD}, nextCursor={"type": ["string", "null"]})
                    )
                },
                parameters=[
                    _query("agentId", {"type": "string"}),
                    _query("includeArchived", {"type": "boolean"}),
                    _query("limit", {"type": "integer", "minimum": 1, "maximum": 1000}),
                    _query("cursor", {"type": "string"}),
                ],
            )
        },
        "/threads/clear": {"post": _operation("Remove all threads", {"204": {"description": "Done"}}, body=_OBJECT)},
        "/threads/{threadId}": {
            "parameters": [thread_id],
            "patch": _operation("Rename or (un)archive a thread", {"200": _json("The thread", _THREAD)}, body=_CHANGE),
            "delete": _operation("Remove a thread", {"200": _json("Done", _of(deleted={"const": True}))}, body=_OBJECT),
        },
        "/threads/{threadId}/archive": {
            "parameters": [thread_id],
            "post": _operation("Archive a thread", {"200": _json("Done", _of(archived={"const": True}))}, body=_OBJECT),
        },
    }
    for name, schema in (("messages", a_list), ("events", a_list), ("state", {})):
        paths[f"/threads/{{threadId}}/{name}"] = {
            "parameters": [thread_id],
            "get": _operation(f"Give a thread's {name}", {"200": _json(name.capitalize(), _of(**{name: schema}))}),
        }
    base = (server.base_path or "").rstrip("/")
    return {
        "openapi": "3.1.0",
        "info": {"title": "agentrunner", "version": __version__},
        "paths": {f"{base}{path}": item for path, item in paths.items()},
    }
