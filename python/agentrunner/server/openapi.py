"""The description of the routes as OpenAPI 3.1, for people and for the fuzz tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentrunner import __version__
from agentrunner.server.schemas import ERROR, THREAD_ID_PARAMETER, describe_components, describe_json

if TYPE_CHECKING:
    from agentrunner.server.context import AppContext
    from agentrunner.server.routing import ApiRoute, Schema


def build_openapi(context: AppContext) -> Schema:
    """Return the OpenAPI document of an app, with the names of its agents."""
    base = (context.base_path or "").rstrip("/")
    agent_id = {"name": "agentId", "in": "path", "required": True, "schema": {"enum": list(context.agents)}}
    paths: dict[str, dict[str, Any]] = {}
    for route in context.routes.rows:
        if route.responses is None:
            continue
        parameters = [each for each in (agent_id, THREAD_ID_PARAMETER) if f"{{{each['name']}}}" in route.path]
        item = paths.setdefault(f"{base}{route.path}", {"parameters": parameters} if parameters else {})
        item[route.method.lower()] = _describe_operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "agentrunner", "version": __version__},
        "paths": paths,
        "components": {"schemas": describe_components()},
    }


def _describe_operation(route: ApiRoute) -> Schema:
    operation: Schema = {
        "summary": route.summary,
        "responses": {**(route.responses or {}), "default": describe_json("Refused", ERROR)},
    }
    if route.body is not None:
        body = route.body() if callable(route.body) else route.body
        # An object without required properties may be left out altogether.
        operation["requestBody"] = {"required": "required" in body, "content": {"application/json": {"schema": body}}}
    if route.parameters:
        operation["parameters"] = list(route.parameters)
    return operation
