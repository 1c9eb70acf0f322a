"""What users hand in and get back."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from ag_ui.core import BaseEvent, RunAgentInput
    from pydantic import BaseModel

    from agentrunner._core import Event

OnConcurrentRun: TypeAlias = Literal["reject", "supersede", "enqueue"]

Cursor: TypeAlias = tuple[int, int | None]
"""Position in a thread, right after a frame.

`(seq, None)` is after the raw event with sequence number `seq`. `(seq, index)` is after frame `index`, counted from 0,
of a run's events compacted up to `seq`.
"""


class AnyScope(enum.Enum):
    """The type of `ANY_SCOPE`."""

    ANY_SCOPE = enum.auto()


ANY_SCOPE: Final = AnyScope.ANY_SCOPE
"""Threads of any scope, where `None` means those that have none."""


class AgentObject(Protocol):
    """An agent: its `run` yields the events of a run. What `ag-ui-langgraph`, `ag-ui-adk` and others already are.

    If it has `abort_run()`, that is called when the run is stopped; if it has `agent_id`, the thread list shows it.
    """

    def run(self, input: RunAgentInput, /) -> AsyncIterator[Any]:
        """Yield the events of the run, `RUN_STARTED` first."""
        ...


if TYPE_CHECKING:
    EventLike: TypeAlias = BaseEvent | BaseModel | Mapping[str, Any] | bytes | bytearray | memoryview | str | Event
    AgentFunction: TypeAlias = Callable[[RunAgentInput], AsyncIterator[EventLike] | Awaitable[AsyncIterator[EventLike]]]
    Agent: TypeAlias = AgentObject | AgentFunction


@dataclass(frozen=True, slots=True)
class Retention:
    """How long finished runs are kept. A thread's oldest go first, so that what is left of it is a whole chain."""

    max_age: float | None = None
    """Seconds since a run's end; `None`: of any age."""
    max_runs: int | None = None
    """How many runs a thread keeps, its newest; `None`: all."""

    def __post_init__(self) -> None:
        if self.max_age is not None and not self.max_age >= 0:
            raise ValueError(f"max_age is a number of seconds, not {self.max_age!r}")
        if self.max_runs is not None and (not isinstance(self.max_runs, int) or self.max_runs < 1):
            raise ValueError(f"max_runs is a positive integer, not {self.max_runs!r}")


@dataclass(frozen=True, slots=True)
class ThreadSummary:
    """A thread as a list shows it. Times are milliseconds since 1970."""

    thread_id: str
    name: str | None
    agent_id: str | None
    archived: bool
    running: bool
    runs: int
    """How many runs are stored."""
    created_at: int
    """When its first run ended; while that is live, when it began."""
    updated_at: int
    """When its last run ended; while the first is live, when that began."""
    scope: str | None = None
    """Whose it is."""
