"""Types that callers pass to the harness and get back from it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
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
    """Options for the recovery of harness runs whose process is gone.

    Args:
        enabled: Whether to recover at all, at start-up and by `Harness.recover()`.
        resume_on_startup: Whether start-up continues the harness runs that can continue. If false, they wait for
            `Harness.recover()`, and start-up ends only the others.
        max_attempts: Number of times that an agent is started for the same step, including the first, before the
            harness run fails.

    Raises:
        ValueError: `max_attempts` is not a positive integer, or another option is not a boolean.

    Example::

        Harness(runner, {"default": agent}, recovery=Recovery(max_attempts=5))
    """

    enabled: bool = True
    """Whether to recover at all, at start-up and by `Harness.recover()`."""
    resume_on_startup: bool = True
    """Whether start-up continues the harness runs that can continue."""
    max_attempts: int = 3
    """Number of starts of an agent for the same step after which the harness run fails."""

    def __post_init__(self) -> None:
        for name in ("enabled", "resume_on_startup"):
            if (value := getattr(self, name)) not in (True, False):
                raise ValueError(f"{name} must be True or False, not {value!r}")
        if isinstance(self.max_attempts, bool) or not isinstance(self.max_attempts, int) or self.max_attempts < 1:
            raise ValueError(f"max_attempts must be a positive integer, not {self.max_attempts!r}")


@dataclass(frozen=True, slots=True)
class RecordRetention:
    """How long checkpoints, and ended harness runs with their approvals, are kept.

    Args:
        max_age: Seconds since the last write of a record; `None` keeps records of any age.
        max_count: Number of newest records of each kind that a thread keeps; `None` keeps all.

    Raises:
        ValueError: `max_age` is negative or `max_count` is not a positive integer.

    Example::

        Harness(runner, {"default": agent}, retention=RecordRetention(max_age=30 * 24 * 3600.0))
    """

    max_age: float | None = None
    """Seconds since the last write of a record; `None` keeps records of any age."""
    max_count: int | None = None
    """Number of newest records of each kind that a thread keeps; `None` keeps all."""

    def __post_init__(self) -> None:
        age, count = self.max_age, self.max_count
        if age is not None and (isinstance(age, bool) or not isinstance(age, (int, float)) or not age >= 0):
            raise ValueError(f"max_age must be a number of seconds from 0, not {self.max_age!r}")
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
            raise ValueError(f"max_count must be a positive integer, not {self.max_count!r}")


Listener: TypeAlias = Callable[[HarnessEvent], Awaitable[object] | object]
"""A sync or async function that is called with each event; see `Harness.subscribe`."""


@dataclass(frozen=True, slots=True)
class StreamItem:
    """One item that `Harness.stream_events` yields."""

    kind: ItemKind
    run_id: str
    """Id of the harness run."""
    text: str
    """Delta, name of a step, or text of a tool's result; empty for `lifecycle`."""
    event: Mapping[str, Any] | HarnessEvent
    """AG-UI event as a dict; for `lifecycle` items the `HarnessEvent`."""


ItemListener: TypeAlias = Callable[[StreamItem], Awaitable[object] | object]
Listeners: TypeAlias = Mapping[ItemKind, ItemListener | Sequence[ItemListener]]
"""Listeners of one run by the kind of item they are called with; see `Harness.run`."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """The state of a harness run after `run`, `resume`, `decide` or `wait`.

    Example::

        result = await harness.run("Order tea", thread_id="t1")
        if result.state == "waiting_for_approval":
            print([approval.message for approval in result.approvals])
        elif result.state == "failed":
            print(result.error)
        else:
            print(result.content)
    """

    run_id: str
    """Id of the harness run, which is the id of its first AG-UI run."""
    thread_id: str
    agent: str
    """Name of the agent in the harness."""
    state: RunState
    content: str
    """Text of the agent's last attempt; if it has none and tools failed, the tools' errors."""
    error: str | None = None
    """Reason why the harness run failed, for people to read."""
    approvals: tuple[Approval, ...] = ()
    """Open approvals that the harness run waits for."""


@dataclass(frozen=True, slots=True)
class RunRequest:
    """An AG-UI run that asks to be admitted, as a policy sees it."""

    agent: str
    """Name of the agent in the harness."""
    thread_id: str
    run_id: str
    """Id of the AG-UI run."""
    input: RunAgentInput
    scope: str | None
    headers: Mapping[str, str]
    """Headers of the request that were forwarded, names in lower case."""
    resumes: str | None
    """Id of the harness run whose interrupts it answers; `None` for a new harness run."""


PolicyAnswer: TypeAlias = bool | str | list[str] | tuple[str, ...] | None
"""`True`, `None`, or an empty list or tuple of reasons admits the run.

`False`, a reason, or a list or tuple of reasons refuses it, and so does everything else.
"""
Policy: TypeAlias = Callable[[RunRequest], Awaitable[PolicyAnswer] | PolicyAnswer]
"""A sync or async function that admits or refuses a run; a policy that raises refuses it.

Example::

    def policy(request: RunRequest) -> bool | str:
        return request.scope is not None or "sign in first"
"""

Rule: TypeAlias = Callable[["RunAgentInput"], Awaitable[str | None] | str | None]
Choice: TypeAlias = Callable[["RunAgentInput", Mapping[str, str]], Awaitable[str | None] | str | None]


@dataclass(frozen=True, slots=True)
class Router:
    """Choose an agent for a run that does not name one.

    Args:
        rule: A sync or async function of the input that returns an agent's name or `None`.
        choose: Called if the rule returns `None`, with the input and the agents' descriptions by name; for example a
            function that asks a model. If it raises or returns anything but an agent's name, the default is used.
        default: Name of the agent to use otherwise.

    Raises:
        ValueError: `rule` or `choose` is not a function, or `default` is not a string.

    Example::

        Router(rule=lambda input: "billing" if "invoice" in input.messages[-1].content else None, default="chat")
    """

    rule: Rule | None = None
    """Function of the input that returns an agent's name or `None`."""
    choose: Choice | None = None
    """Function of the input and the agents' descriptions, called if the rule returns `None`."""
    default: str | None = None
    """Name of the agent that is used otherwise."""

    def __post_init__(self) -> None:
        for name in ("rule", "choose"):
            if (value := getattr(self, name)) is not None and not callable(value):
                raise ValueError(f"{name} must be a function or None, not {value!r}")
        if self.default is not None and not isinstance(self.default, str):
            raise ValueError(f"default must be an agent's name or None, not {self.default!r}")


@dataclass(slots=True)
class RecoveryReport:
    """The results of a recovery, as the ids of harness runs.

    Example::

        async with Harness(runner, agents) as harness:
            for run_id in harness.recovered.failed:
                print((await harness.run_record(run_id)).error)
    """

    resumed: list[str] = field(default_factory=list)
    """Harness runs that continue."""
    completed: list[str] = field(default_factory=list)
    """Harness runs that had completed, but whose records did not show it."""
    failed: list[str] = field(default_factory=list)
    """Harness runs that cannot continue or were tried too often."""
    unknown_agents: dict[str, str] = field(default_factory=dict)
    """Harness runs left alone, with the name of the agent that this harness lacks."""
    waiting: list[str] = field(default_factory=list)
    """Harness runs that can continue and wait for `Harness.recover()`."""
