"""The run that the code at hand belongs to."""

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
    """The run the code at hand belongs to, as `current_run()` gives it."""

    thread_id: str
    run_id: str
    input: RunAgentInput
    """The input as the agent got it."""
    scope: str | None = None
    """Whose thread it is, where a server asked; see `AgentRunner.run`."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Those of the request that were forwarded to the agent, names in lower case."""
    store: Store | None = field(default=None, repr=False, compare=False)
    """Where the run is kept."""
    claim: Claim | None = field(default=None, repr=False, compare=False)
    """What the run holds its thread by: `store.write(changes, claim)` writes nothing once it is lost."""


_current: contextvars.ContextVar[Run] = contextvars.ContextVar("agentrunner_current_run")


def current_run() -> Run:
    """Return the run the calling code belongs to. Raises `LookupError` outside a run."""
    return _current.get()


def set_current_run(run: Run) -> None:
    """Make a run the one that `current_run()` returns in this context and in tasks started from it."""
    _current.set(run)
