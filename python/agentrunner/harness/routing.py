"""Which agent a run is for that names none."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any

from agentrunner.errors import AgentNotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ag_ui.core import RunAgentInput

    from agentrunner.harness.types import Choice, Router

logger = logging.getLogger("agentrunner.harness")


def description_of(agent: Any) -> str:
    """Give what an agent says about itself."""
    said = getattr(agent, "description", None)
    if said is None and inspect.isroutine(agent):
        said = (inspect.getdoc(agent) or "").partition("\n")[0]
    return said if isinstance(said, str) else ""


async def route(router: Router | None, agents: Mapping[str, Any], input: RunAgentInput) -> str:
    """Give the name of the agent a run is for: the rule's, else the chosen, else the default or the only one.

    Raises `AgentNotFound` if there is none of that name, or none was found.
    """
    if router is not None and router.rule is not None and (name := await _told(router.rule(input))) is not None:
        return known(agents, name)
    if router is not None and router.choose is not None:
        chosen = await _chosen(router.choose, agents, input)
        if chosen is not None:
            return chosen
    default = router.default if router is not None else None
    if default is None and len(agents) == 1:
        default = next(iter(agents))
    if default is None:
        raise AgentNotFound("the run names no agent, and there is no default")
    return known(agents, default)


def known(agents: Mapping[str, Any], name: str) -> str:
    """Give the name back. Raises `AgentNotFound`."""
    if name not in agents:
        raise AgentNotFound(f"there is no agent '{name}'; there are {', '.join(map(repr, agents))}")
    return name


async def _chosen(choose: Choice, agents: Mapping[str, Any], input: RunAgentInput) -> str | None:
    try:
        name: str | None = await _told(choose(input, {name: description_of(agent) for name, agent in agents.items()}))
    except Exception:
        logger.exception("the choice of an agent failed; the default is taken")
        return None
    if name is not None and name not in agents:
        logger.warning("%r was chosen, which is no agent; the default is taken", name)
        return None
    return name


async def _told(answer: Any) -> Any:
    return await answer if inspect.isawaitable(answer) else answer
