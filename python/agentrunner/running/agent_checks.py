"""Explain why objects cannot be used as agents, and what to write instead."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

ADAPTERS = {
    "pydantic_ai.": (
        "from pydantic_ai.ui.ag_ui import AGUIAdapter; lambda input: AGUIAdapter(agent, input).run_stream()"
    ),
    "agno.": "from agno.os.interfaces.agui.router import run_agent; lambda input: run_agent(agent, input)",
    "langgraph.": 'from ag_ui_langgraph import LangGraphAgent; LangGraphAgent(name="default", graph=agent)',
    "google.adk.": "from ag_ui_adk import ADKAgent; ADKAgent(adk_agent=agent, …)",
}
"""Line that turns a framework's agent into an AG-UI agent, by the beginning of its module's name."""


def find_problem(agent: Any) -> str | None:
    """Return why an object is not an agent and what to write instead; `None` if it may be one."""
    if isinstance(agent, type):
        return f"is the class {agent.__name__}; pass an object of it: {agent.__name__}(…)"
    classes = type(agent).__mro__
    # A subclass with a `run` of its own may well be an agent.
    module = next((base.__module__ for base in classes if "run" in vars(base)), type(agent).__module__)
    for prefix, line in ADAPTERS.items():
        if module.startswith(prefix):
            return f"is a {type(agent).__name__} of {prefix[:-1]}, which yields no AG-UI events; write: {line}"
    function = getattr(agent, "run", agent)
    # An agent with `clone` may need to be cloned before it can be run.
    if not callable(function) and not callable(getattr(agent, "clone", None)):
        return f"must be a function of the input, or an object with `run(input)`, not {type(agent).__name__}"
    for code in (function, type(function).__call__):
        if inspect.isgeneratorfunction(code):
            return f"is a generator that is not async; write `async def {code.__name__}`"
    if callable(function) and not _takes_input(function):
        name = getattr(function, "__name__", type(function).__name__)
        return f"must be callable with the input as its only argument; write `async def {name}(input)`"
    return None


def find_shared_id(agents: Mapping[str, Any]) -> str | None:
    """Return which agents share an id and what to write instead; `None` if none do.

    Only agents that check decisions count: an approval is for the agent with this id.
    """
    owners: dict[str, tuple[str, Any]] = {}
    for name, agent in agents.items():
        agent_id = getattr(agent, "agent_id", None)
        if not isinstance(agent_id, str) or not agent_id or not hasattr(agent, "check_answers"):
            continue
        other_name, other = owners.setdefault(agent_id, (name, agent))
        if other is not agent:
            return (
                f"agents {other_name!r} and {name!r} have the same agent_id {agent_id!r}, so an approval of one would "
                "run a tool of the other: give each its own agent_id, or leave it out to use these names"
            )
    return None


def _takes_input(function: Any) -> bool:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        # Some functions that are written in C do not say what they take.
        return True
    try:
        signature.bind(None)
    except TypeError:
        return False
    return True
