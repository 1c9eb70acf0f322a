"""`/info`: what clients ask first (docs/spec/http.md §4.7)."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any

from agentrunner import __version__
from agentrunner._codec import dump

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentrunner.types import Agent

logger = logging.getLogger("agentrunner.server")

THREADS = {"list": True, "inspect": True, "mutations": True, "realtimeMetadata": False}
"""With `mutations` the stock thread list renames, archives and deletes by itself."""
NO_THREADS = dict.fromkeys(THREADS, False)


async def info(agents: Mapping[str, Agent], *, transcribes: bool, single: bool) -> dict[str, Any]:
    """Describe the server. `single`: to a client that uses the single route, whose thread verbs are bridged there."""
    answer: dict[str, Any] = {
        "version": __version__,
        "agents": {name: await _describe(name, agent) for name, agent in agents.items()},
        "audioFileTranscriptionEnabled": transcribes,
        "mode": "sse",
        "threadEndpoints": NO_THREADS if single else THREADS,
    }
    if single:
        answer["singleRoute"] = {"resourceOperations": True, "threadEndpoints": THREADS}
    return answer | {
        "suggestions": True,
        "a2uiEnabled": False,
        "openGenerativeUIEnabled": False,
        "telemetryDisabled": True,
    }


async def _describe(name: str, agent: Agent) -> dict[str, Any]:
    description = getattr(agent, "description", None)
    if description is None and inspect.isroutine(agent):
        description = (inspect.getdoc(agent) or "").partition("\n")[0]
    described: dict[str, Any] = {
        "name": name,
        "description": description if isinstance(description, str) else "",
        "className": getattr(agent, "__name__", None) or type(agent).__name__,
    }
    ask = getattr(agent, "get_capabilities", None)
    if ask is not None:
        try:
            capabilities = ask()
            if inspect.isawaitable(capabilities):
                capabilities = await capabilities
            if capabilities is not None:
                as_dict = getattr(capabilities, "model_dump", None)
                said = as_dict(mode="json", by_alias=True, exclude_none=True) if as_dict is not None else capabilities
                # It fails here if it is no JSON.
                dump(said)
                described["capabilities"] = said
        except Exception:
            # One agent that cannot say costs its capabilities, never the others.
            logger.warning("agent %r could not say what it is capable of", name, exc_info=True)
    return described
