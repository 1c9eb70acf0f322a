"""A user's agent as it obeys the harness."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentrunner.harness.routing import description_of
from agentrunner.harness.supervised_run import SupervisedRun

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ag_ui.core import RunAgentInput

    from agentrunner.harness.harness import Harness
    from agentrunner.types import Agent


class HarnessAgent:
    """An agent whose every run is the harness's, whoever starts it. What else the user's has is found on it too."""

    def __init__(self, harness: Harness, name: str, agent: Agent) -> None:
        self._harness = harness
        self._agent = agent
        self.agent_id = name
        self.description = description_of(agent)
        self.__name__ = getattr(agent, "__name__", None) or type(agent).__name__

    def __getattr__(self, name: str) -> Any:
        # Of one run: a `SupervisedRun` has them. And an agent that goes on by itself does so by the harness.
        if name in ("abort_run", "resume") or name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._agent, name)

    def clone(self) -> SupervisedRun:
        """Give an agent for one run."""
        return SupervisedRun(self._harness, self.agent_id, self._agent)

    def run(self, input: RunAgentInput) -> AsyncIterator[Any]:
        """Yield the agent's events. For a runner only. Raises `RunRefused` and its kin before the first."""
        return self.clone().run(input)
