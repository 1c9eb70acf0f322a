"""The types of values that users pass to the package and get back from it."""

from __future__ import annotations

import datetime
import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias, TypedDict

from agentrunner._checks import check_integer, check_seconds

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from ag_ui.core import BaseEvent, RunAgentInput
    from pydantic import BaseModel

    from agentrunner._core import Event

MIB: Final = 1 << 20
"""Bytes of a mebibyte."""

OnConcurrentRun: TypeAlias = Literal["reject", "supersede", "enqueue"]

ClientMessages: TypeAlias = Literal["mark", "refuse"]

Cursor: TypeAlias = tuple[int, int | None]
"""Position in a thread, right after a frame.

`(seq, None)` is after the raw event with sequence number `seq`. `(seq, index)` is after frame `index`, counted from 0,
of a run's events compacted up to `seq`.
"""


class AnyScope(enum.Enum):
    """The type of `ANY_SCOPE`."""

    ANY_SCOPE = enum.auto()


ANY_SCOPE: Final = AnyScope.ANY_SCOPE
"""Threads of any scope, whereas `None` means threads without one."""


class AgentObject(Protocol):
    """An object whose `run` yields a run's events, such as an agent of `ag-ui-langgraph`.

    If the object has `abort_run()`, the runner calls it when the run is stopped, and cancels the agent only if it has
    not ended 3 s later. Events that it yields until then are recorded. If it has `agent_id`, the thread list shows it.
    """

    def run(self, input: RunAgentInput, /) -> AsyncIterator[Any]:
        """Yield the events of the run.

        The runner adds `RUN_STARTED` and `RUN_FINISHED` if they are missing.
        """
        ...


if TYPE_CHECKING:
    EventLike: TypeAlias = BaseEvent | BaseModel | Mapping[str, Any] | bytes | bytearray | memoryview | str | Event
    AgentFunction: TypeAlias = Callable[[RunAgentInput], AsyncIterator[EventLike] | Awaitable[AsyncIterator[EventLike]]]
    Agent: TypeAlias = AgentObject | AgentFunction


@dataclass(frozen=True, slots=True)
class Retention:
    """How long finished runs are kept.

    A thread's oldest runs are removed first, so that the remaining runs are a complete chain.

    Args:
        max_age: Seconds since a run's end after which it is removed; `None` keeps runs of any age.
        max_runs: Number of newest runs that a thread keeps; `None` keeps all.

    Raises:
        ValueError: `max_age` is not a number of seconds, or `max_runs` is not a positive integer.

    Example::

        runner = SqliteAgentRunner("threads.db", retention=Retention(max_age=30 * 24 * 3600.0))

    """

    max_age: float | None = None
    max_runs: int | None = None

    def __post_init__(self) -> None:
        if self.max_age is not None:
            check_seconds("max_age", self.max_age)
        if self.max_runs is not None:
            check_integer("max_runs", self.max_runs)


class RunnerOptions(TypedDict, total=False):
    """The keyword options of `AgentRunner` and of all its subclasses."""

    on_concurrent_run: OnConcurrentRun
    client_messages: ClientMessages
    retention: Retention | None
    max_event_bytes: int
    max_id_bytes: int
    live_window_bytes: int
    max_pending_bytes: int
    max_waiting: int
    max_waiting_bytes: int
    run_timeout: float | None
    silence_timeout: float | None
    show_agent_errors: bool
    keep_raw_events: bool
    max_state_bytes: int
    max_run_bytes: int


@dataclass(frozen=True, slots=True)
class ThreadSummary:
    """One thread in a list of threads."""

    thread_id: str
    name: str | None
    agent_id: str | None
    archived: bool
    running: bool
    runs: int
    """Number of stored runs."""
    created_at: int
    """Time in milliseconds since 1970 when its first run ended, or began while that run is live."""
    updated_at: int
    """Time in milliseconds since 1970 when its last run ended, or its first run began if none has ended."""
    scope: str | None = None
    """Owner of the thread, if it has one."""
    incarnation: int = field(default=0, compare=False, repr=False)
    """Number of the thread's incarnation, which changes if it is deleted and created again; 0 if unknown."""

    @property
    def created_at_utc(self) -> datetime.datetime:
        """The time `created_at` as a `datetime` in UTC."""
        return _as_datetime(self.created_at)

    @property
    def updated_at_utc(self) -> datetime.datetime:
        """The time `updated_at` as a `datetime` in UTC."""
        return _as_datetime(self.updated_at)


def _as_datetime(milliseconds: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
