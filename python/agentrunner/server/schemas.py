"""JSON schemas and OpenAPI parts that describe the rows of the route table."""

from __future__ import annotations

from functools import cache
from typing import Any

from agentrunner.server.routing import Schema

ID: Schema = {"type": "string", "minLength": 1, "maxLength": 1024}
OBJECT: Schema = {"type": "object"}
LIST: Schema = {"type": "array"}
ERROR: Schema = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
THREAD: Schema = {
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
STOP_REQUEST: Schema = {"type": "object", "properties": {"runId": ID}, "additionalProperties": False}

_AGENT_ID_CHARACTERS = r"[A-Za-z0-9_.@:=\-]"
_AGENT_ID_PROPERTY = {"agentId": {"type": ["string", "null"], "pattern": f"^{_AGENT_ID_CHARACTERS}{{1,128}}$"}}
AGENT_REFERENCE: Schema = {"type": "object", "properties": _AGENT_ID_PROPERTY}
THREAD_CHANGE: Schema = {
    "type": "object",
    "properties": _AGENT_ID_PROPERTY
    | {"name": {"type": ["string", "null"], "maxLength": 1024}, "archived": {"type": ["boolean", "null"]}},
}

THREAD_ID_PARAMETER: Schema = {"name": "threadId", "in": "path", "required": True, "schema": ID}
CURSOR_HEADER: Schema = {"name": "Last-Event-ID", "in": "header", "schema": {"type": "string"}}
EVENT_STREAM = {
    "200": {"description": "Events, each `id: <cursor>`, `data: <JSON>`", "content": {"text/event-stream": {}}}
}


def describe_object(**properties: Schema) -> Schema:
    """Return the schema of an object that has all these properties."""
    return {"type": "object", "required": list(properties), "properties": properties}


def describe_json(description: str, schema: Schema) -> Schema:
    """Return an OpenAPI response with a JSON body."""
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def describe_query(name: str, schema: Schema) -> Schema:
    """Return an OpenAPI parameter of the query string."""
    return {"name": name, "in": "query", "schema": schema}


LIST_PARAMETERS = (
    describe_query("agentId", {"type": "string", "pattern": f"^{_AGENT_ID_CHARACTERS}{{0,128}}$"}),
    describe_query("includeArchived", {"type": "string", "examples": ["true"]}),
    describe_query("limit", {"type": "integer", "minimum": 1, "maximum": 999_999_999}),
    describe_query("cursor", {"type": "string"}),
)


def describe_run_input() -> Schema:
    """Return the schema of a `RunAgentInput`."""
    return _load_run_input()[0]


def describe_connect_input() -> Schema:
    """Return the schema of a `RunAgentInput` with a cursor."""
    run_input = describe_run_input()
    return run_input | {"properties": run_input["properties"] | {"lastSeenEventId": {"type": ["string", "null"]}}}


def describe_components() -> Schema:
    """Return the schemas that the schema of a `RunAgentInput` refers to."""
    return _load_run_input()[1]


@cache
def _load_run_input() -> tuple[Schema, Schema]:
    """Return the schema of the protocol's `RunAgentInput` model, and the schemas it refers to."""
    # Import and build these models only here: it is slow, and most processes never describe their routes.
    from ag_ui.core import RunAgentInput

    schema: Schema = RunAgentInput.model_json_schema(ref_template="#/components/schemas/{model}")
    components: dict[str, Any] = schema.pop("$defs")
    for name, component in components.items():
        if name.endswith(("Message", "Part", "Content", "Source")):
            # The model has defaults for these fields, but only they distinguish the alternatives of a union.
            discriminators = {"role", "type"} & component["properties"].keys()
            component["required"] = sorted({*component.get("required", ()), *discriminators})
        if name.endswith("Message"):
            component["properties"]["id"] = ID
    schema["properties"] |= {"threadId": ID, "runId": ID}
    # Before its version 1.0, ag-ui-protocol also requires fields that the server fills in.
    schema["required"] = ["threadId", "runId", "messages"]
    return schema, components
