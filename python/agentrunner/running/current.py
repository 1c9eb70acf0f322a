"""The run that the calling code belongs to."""

from __future__ import annotations

import contextvars
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ag_ui.core import RunAgentInput

    from agentrunner._core import Claim
    from agentrunner.stores import Store


@dataclass(frozen=True, slots=True)
class Run:
    """The run that the calling code belongs to, as `current_run()` returns it."""

    thread_id: str
    run_id: str
    input: RunAgentInput
    """The input as the agent received it."""
    scope: str | None = None
    """Owner of the thread, if the caller of `AgentRunner.run` named one."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Request headers that were forwarded to the agent; their names are in lower case."""
    store: Store | None = field(default=None, repr=False, compare=False)
    """Store that keeps the run."""
    claim: Claim | None = field(default=None, repr=False, compare=False)
    """Claim by which the run holds its thread: `store.write(changes, claim)` writes nothing once it is lost."""


_current: contextvars.ContextVar[Run] = contextvars.ContextVar("agentrunner_current_run")


def current_run() -> Run:
    """Return the run that the calling code belongs to.

    Returns:
        The run's ids, input, scope and headers; also in a tool or a task that the agent started.

    Raises:
        LookupError: The calling code does not belong to a run.

    Example::

        async def agent(input):
            user = current_run().headers.get("x-user")

    """
    return _current.get()


def set_current_run(run: Run) -> None:
    """Set the run that `current_run()` returns in this context and in tasks started from it."""
    _current.set(run)
