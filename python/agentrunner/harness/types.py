"""What the harness is given and gives."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from agentrunner.records.harness_runs import HarnessEvent

if TYPE_CHECKING:
    from ag_ui.core import RunAgentInput

    from agentrunner.records.approvals import Approval
    from agentrunner.records.harness_runs import RunState

ItemKind: TypeAlias = Literal["content", "reasoning", "step", "tool_result", "lifecycle"]


@dataclass(frozen=True, slots=True)
class Recovery:
    """What is done at start-up about runs whose process is gone."""

    enabled: bool = True
    """Without it nothing is looked for, not even by `Harness.recover()`."""
    resume_on_startup: bool = True
    """Without it runs that can go on wait for `Harness.recover()`; the others are ended at start-up all the same."""
    max_attempts: int = 3
    """How often a run's agent is started for the same step, the first time included, before the run is failed."""

    def __post_init__(self) -> None:
        if isinstance(self.max_attempts, bool) or not isinstance(self.max_attempts, int) or self.max_attempts < 1:
            raise ValueError(f"max_attempts is a positive integer, not {self.max_attempts!r}")


@dataclass(frozen=True, slots=True)
class RecordRetention:
    """How long checkpoints, and runs that have ended with their approvals, are kept."""

    max_age: float | None = None
    """Seconds since they were written last; `None`: of any age."""
    max_count: int | None = None
    """How many of each a thread keeps, its newest; `None`: all."""

    def __post_init__(self) -> None:
        if self.max_age is not None and not self.max_age >= 0:
            raise ValueError(f"max_age is a number of seconds, not {self.max_age!r}")
        if self.max_count is not None and (not isinstance(self.max_count, int) or self.max_count < 1):
            raise ValueError(f"max_count is a positive integer, not {self.max_count!r}")


Listener: TypeAlias = Callable[[HarnessEvent], Awaitable[object] | object]


@dataclass(frozen=True, slots=True)
class StreamItem:
    """One thing `Harness.stream_events` yields."""

    kind: ItemKind
    run_id: str
    text: str
    """Of content and reasoning the delta, of a step its name, of a tool's result what it says, else empty."""
    event: Mapping[str, Any] | HarnessEvent
    """The AG-UI event as a dict; with `lifecycle` the harness's event."""


ItemListener: TypeAlias = Callable[[StreamItem], Awaitable[object] | object]
Listeners: TypeAlias = Mapping[ItemKind, ItemListener | Sequence[ItemListener]]


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run stands after `run`, `resume` or `wait`."""

    run_id: str
    """The harness run's: the id of its first AG-UI run."""
    thread_id: str
    agent: str
    state: RunState
    content: str
    """What the agent said; if it said nothing and its tools failed, what they said."""
    error: str | None = None
    """Why it failed, for people to read."""
    approvals: tuple[Approval, ...] = ()
    """Those it waits for."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """A run that wants to be let in, as a policy sees it."""

    agent: str
    thread_id: str
    run_id: str
    """Of the AG-UI run."""
    input: RunAgentInput
    scope: str | None
    headers: Mapping[str, str]
    resumes: str | None
    """The harness run it answers the interrupts of; `None` for a new one."""


Policy: TypeAlias = Callable[[RunRequest], Awaitable[Sequence[str] | None] | Sequence[str] | None]
"""Gives the reasons why a run is refused; nothing lets it in. One that raises refuses."""

Rule: TypeAlias = Callable[["RunAgentInput"], Awaitable[str | None] | str | None]
Choice: TypeAlias = Callable[["RunAgentInput", Mapping[str, str]], Awaitable[str | None] | str | None]


@dataclass(frozen=True, slots=True)
class Router:
    """Which agent a run is for that names none: the rule's, else the chosen one, else the default."""

    rule: Rule | None = None
    """Gives an agent's name or `None`."""
    choose: Choice | None = None
    """Asked where the rule gives none, with the agents' descriptions by name: by a model, for one. What is not an
    agent's name, and an exception, count as no choice."""
    default: str | None = None


@dataclass(slots=True)
class RecoveryReport:
    """What a look for runs of processes that are gone has found; each is a harness run's id."""

    resumed: list[str] = field(default_factory=list)
    """Those that are run again."""
    completed: list[str] = field(default_factory=list)
    """Those that had ended, and only the record did not say so."""
    failed: list[str] = field(default_factory=list)
    """Those that cannot go on, or were tried too often."""
    unknown_agents: dict[str, str] = field(default_factory=dict)
    """Those left alone, with the name of the agent that is not here."""
    waiting: list[str] = field(default_factory=list)
    """Those that can go on and are left until somebody calls `Harness.recover()`."""


Events: TypeAlias = AsyncIterable[Any]
