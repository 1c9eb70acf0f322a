"""Choose an agent for a run that does not name one."""

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
    """Return an agent's `description`, or the first line of an agent function's docstring."""
    description = getattr(agent, "description", None)
    if description is None and inspect.isroutine(agent):
        description = (inspect.getdoc(agent) or "").partition("\n")[0]
    return description if isinstance(description, str) else ""


async def route(router: Router | None, agents: Mapping[str, Any], input: RunAgentInput) -> str:
    """Return the name of a run's agent: by rule, by choice, the default or the only one.

    Raises `AgentNotFound` if the rule or the default names an unknown agent, or if there is no default.
    """
    if router is not None and router.rule is not None and (name := await _result(router.rule(input))) is not None:
        return check_agent(agents, name)
    if router is not None and router.choose is not None:
        agent_name = await _choose(router.choose, agents, input)
        if agent_name is not None:
            return agent_name
    default = router.default if router is not None else None
    if default is None and len(agents) == 1:
        default = next(iter(agents))
    if default is None:
        raise AgentNotFound(
            f"the run names no agent, and there is no default: name one of {', '.join(map(repr, agents))}, "
            "or pass Router(default=…) to the harness"
        )
    return check_agent(agents, default)


def check_agent(agents: Mapping[str, Any], name: str) -> str:
    """Return the name if there is such an agent. Raises `AgentNotFound`."""
    if not isinstance(name, str) or name not in agents:
        raise AgentNotFound(f"there is no agent '{name}'; the agents are {', '.join(map(repr, agents))}")
    return name


async def _choose(choose: Choice, agents: Mapping[str, Any], input: RunAgentInput) -> str | None:
    """Return the agent's name that the router chose; `None` if it failed or chose no agent."""
    descriptions = {name: description_of(agent) for name, agent in agents.items()}
    try:
        name: Any = await _result(choose(input, descriptions))
    except Exception:
        logger.exception("the router's choose failed; the default agent is used")
        return None
    if isinstance(name, str) and name in agents:
        return name
    if name is not None:
        logger.warning("the router's choose returned %r, which is not an agent; the default agent is used", name)
    return None


async def _result(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
