"""A user's agent whose runs all go through the harness."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentrunner.harness.routing import description_of
from agentrunner.harness.supervised_run import SupervisedRun

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ag_ui.core import RunAgentInput

    from agentrunner.harness._state import HarnessState


class HarnessAgent:
    """An agent of a harness, for a runner or server.

    All other attributes come from the user's agent.
    """

    def __init__(self, state: HarnessState, name: str) -> None:
        self._state = state
        self._agent = agent = state.agents[name]
        self.agent_id = name
        self.description = description_of(agent)
        self.__name__ = getattr(agent, "__name__", None) or type(agent).__name__

    def __getattr__(self, name: str) -> Any:
        # `abort_run` belongs to one run, so only a `SupervisedRun` has it. And only the harness may call `resume`.
        if name in ("abort_run", "resume") or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._agent, name)

    def clone(self) -> SupervisedRun:
        """Return an agent for one run."""
        return SupervisedRun(self._state, self.agent_id)

    def run(self, input: RunAgentInput) -> AsyncIterator[Any]:
        """Yield the agent's events; only a runner may call this method.

        Raises `RunRefused` or one of its subclasses before the first event.
        """
        return self.clone().run(input)
