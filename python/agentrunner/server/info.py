"""`/info`, which clients request first (docs/spec/http.md §4.7)."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from agentrunner import __version__
from agentrunner._codec import dump
from agentrunner.server.responses import ApiResponse

if TYPE_CHECKING:
    from agentrunner.server.context import AppContext
    from agentrunner.server.requests import ApiRequest
    from agentrunner.types import Agent

logger = logging.getLogger("agentrunner.server")

THREAD_ENDPOINTS = {"list": True, "inspect": True, "mutations": True, "realtimeMetadata": False}
"""Operations that the thread routes support.

If `mutations` is true, the stock thread list offers to rename, archive and delete threads.
"""
NO_THREAD_ENDPOINTS = dict.fromkeys(THREAD_ENDPOINTS, False)


async def get_info(context: AppContext, request: ApiRequest) -> Response:
    """Describe the server and its agents."""
    content: dict[str, Any] = {
        "version": __version__,
        "agents": {name: await _describe_agent(name, agent) for name, agent in context.agents.items()},
        "audioFileTranscriptionEnabled": context.transcriber is not None,
        "mode": "sse",
        # A single-route client can reach the thread routes only through `resource/request`.
        "threadEndpoints": NO_THREAD_ENDPOINTS if request.is_enveloped else THREAD_ENDPOINTS,
    }
    if request.is_enveloped:
        content["singleRoute"] = {"resourceOperations": True, "threadEndpoints": THREAD_ENDPOINTS}
    return ApiResponse(
        content
        | {
            "suggestions": True,
            "a2uiEnabled": False,
            "openGenerativeUIEnabled": False,
            "telemetryDisabled": True,
        }
    )


async def get_inspector_metadata(context: AppContext, request: ApiRequest) -> Response:
    """Return nothing to CopilotKit's inspector: only the paid service has its data."""
    return Response(status_code=204, headers={"Cache-Control": "no-store"})


async def _describe_agent(name: str, agent: Agent) -> dict[str, Any]:
    description = getattr(agent, "description", None)
    if description is None and inspect.isroutine(agent):
        description = (inspect.getdoc(agent) or "").partition("\n")[0]
    content: dict[str, Any] = {
        "name": name,
        "description": description if isinstance(description, str) else "",
        "className": getattr(agent, "__name__", None) or type(agent).__name__,
    }
    get_capabilities = getattr(agent, "get_capabilities", None)
    if get_capabilities is not None:
        try:
            capabilities = get_capabilities()
            if inspect.isawaitable(capabilities):
                capabilities = await capabilities
            if capabilities is not None:
                to_dict = getattr(capabilities, "model_dump", None)
                if to_dict is not None:
                    capabilities = to_dict(mode="json", by_alias=True, exclude_none=True)
                # Fail here if this is not JSON: later it would break the response for all agents.
                dump(capabilities)
                content["capabilities"] = capabilities
        except Exception:
            # The other agents must stay reachable.
            logger.warning("agent %r failed to describe its capabilities; leaving them out", name, exc_info=True)
    return content
