"""The interface described as OpenAPI 3.1, for people and for the tests that try everything it allows."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from agentrunner import __version__

if TYPE_CHECKING:
    from agentrunner.server.app import Server

_OBJECT = {"type": "object"}
_ID = {"type": "string", "minLength": 1, "maxLength": 1024}
_AGENT_ID = r"[A-Za-z0-9_.@:=\-]"
_NAME = {"type": ["string", "null"], "maxLength": 1024}
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
_LAST_SEEN = {"lastSeenEventId": {"type": ["string", "null"]}}
_STOP = {"type": "object", "properties": {"runId": _ID}, "additionalProperties": False}
_AGENT = {"agentId": {"type": ["string", "null"], "pattern": f"^{_AGENT_ID}{{1,128}}$"}}
_OF_AGENT = {"type": "object", "properties": _AGENT}
_CHANGE = {"type": "object", "properties": _AGENT | {"name": _NAME, "archived": {"type": ["boolean", "null"]}}}


@cache
def _input() -> tuple[dict[str, Any], dict[str, Any]]:
    """Give the schema of a `RunAgentInput`, as the protocol's own model has it, and those it refers to."""
    from ag_ui.core import RunAgentInput

    schema = RunAgentInput.model_json_schema(ref_template="#/components/schemas/{model}")
    parts: dict[str, Any] = schema.pop("$defs")
    for name, part in parts.items():
        if name.endswith(("Message", "Part", "Source")):
            # By these one is told from the others, whatever default the model has for them.
            tell = {"role", "type"} & part["properties"].keys()
            part["required"] = sorted({*part.get("required", ()), *tell})
        if name.endswith("Message"):
            part["properties"]["id"] = _ID
    schema["properties"] |= {"threadId": _ID, "runId": _ID}
    return schema, parts


def _operation(
    summary: str, answers: dict[str, Any], *, body: dict[str, Any] | None = None, **more: Any
) -> dict[str, Any]:
    operation: dict[str, Any] = {"summary": summary, "responses": {**answers, "default": _json("Refused", _ERROR)}}
    if body is not None:
        operation["requestBody"] = {"required": "required" in body, "content": {"application/json": {"schema": body}}}
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
    given, parts = _input()
    last_seen = {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}}
    connecting = given | {"properties": given["properties"] | _LAST_SEEN}
    a_list = {"type": "array"}
    paths: dict[str, Any] = {
        "/info": {"get": _operation("What the server has", {"200": _json("Agents and abilities", _OBJECT)})},
        "/agent/{agentId}/run": {
            "parameters": [agent_id],
            "post": _operation("Start a run and stream it", stream, body=given),
        },
        "/agent/{agentId}/connect": {
            "parameters": [agent_id],
            "post": _operation(
                "Stream a thread, or go on behind a cursor", stream, body=connecting, parameters=[last_seen]
            ),
        },
        "/agent/{agentId}/suggest": {
            "parameters": [agent_id],
            "post": _operation("Run an agent, keep nothing", stream, body=given),
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
                    _query("agentId", {"type": "string", "pattern": f"^{_AGENT_ID}{{0,128}}$"}),
                    _query("includeArchived", {"type": "string", "examples": ["true"]}),
                    _query("limit", {"type": "integer", "minimum": 1, "maximum": 999_999_999}),
                    _query("cursor", {"type": "string"}),
                ],
            )
        },
        "/threads/clear": {"post": _operation("Remove all threads", {"204": {"description": "Done"}})},
        "/threads/{threadId}": {
            "parameters": [thread_id],
            "patch": _operation("Rename or (un)archive a thread", {"200": _json("The thread", _THREAD)}, body=_CHANGE),
            "delete": _operation(
                "Remove a thread", {"200": _json("Done", _of(deleted={"const": True}))}, body=_OF_AGENT
            ),
        },
        "/threads/{threadId}/archive": {
            "parameters": [thread_id],
            "post": _operation(
                "Archive a thread", {"200": _json("Done", _of(archived={"const": True}))}, body=_OF_AGENT
            ),
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
        "components": {"schemas": parts},
    }
