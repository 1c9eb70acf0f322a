"""Harness runs as records: their attempts, events, and intents to start them again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from agentrunner.errors import RecordDamaged, RunNotFound, ThreadNotFound
from agentrunner.records import kinds
from agentrunner.records.scopes import find_only
from agentrunner.records.times import now_ms, utc
from agentrunner.types import ANY_SCOPE

if TYPE_CHECKING:
    import datetime
    from collections.abc import AsyncIterator

    from agentrunner.stores import Change, Record, Store
    from agentrunner.types import AnyScope

RunState: TypeAlias = Literal[
    "queued", "running", "waiting_for_approval", "resuming", "completed", "failed", "cancelled"
]
TERMINAL_STATES: frozenset[str] = frozenset({"completed", "failed", "cancelled"})
"""States that a harness run does not leave."""

EventType: TypeAlias = Literal[
    "run.created",
    "run.state.changed",
    "run.resumed",
    "approval.requested",
    "approval.resolved",
    "output.delta",
    "reasoning.delta",
]

_NAMES_ON_DISK = {"input_extras": "given", "attempt_runs": "segments"}
"""Names on disk of those fields of `RunRecord` that were renamed after version 0.1.0."""


@dataclass(frozen=True, slots=True)
class HarnessEvent:
    """An event of a harness run, such as a change of its state."""

    type: EventType
    run_id: str
    """Id of the harness run, which is the id of its first AG-UI run."""
    thread_id: str
    seq: int
    """Number of the event among the harness run's events, from 1."""
    at: int
    """Time of the event in milliseconds since 1970."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Details of the event, by its type.

    `run.created`: `agent`. `run.state.changed`: `previous`, `state`, `checkpoint`, `error`. `run.resumed`: `kind`
    (`in-process`, `cross-restart`, `startup-recovery`), `attempt`. `approval.requested`: `approval_id`, `tool`,
    `message`. `approval.resolved`: `approval_id`, `decision`, `by`. The deltas: `text`, `message_id`.
    """

    @property
    def at_utc(self) -> datetime.datetime:
        """Time of the event as a datetime in UTC."""
        return utc(self.at)


@dataclass(slots=True)
class Attempt:
    """One attempt to run the agent for a harness run, which is one AG-UI run."""

    run_id: str
    """Id of the AG-UI run."""
    first_seq: int
    """Sequence number of its first event in the thread."""
    after: int
    """Number of the harness run's event after which the attempt's deltas are counted."""


@dataclass(slots=True)
class RunRecord:
    """A harness run: one AG-UI run, and one more for each time it was started again."""

    run_id: str
    """Id of the harness run, which is the id of its first AG-UI run."""
    thread_id: str
    agent: str
    """Name of the agent in the harness."""
    scope: str | None
    """Scope that its thread was in when its last attempt was admitted."""
    owner: str
    """Id of the owner: the harness that runs it while it is queued, running or resuming."""
    input_extras: dict[str, Any]
    """The `tools`, `context` and `forwardedProps` of the first input, for later attempts."""
    created_at: int
    """Time of its creation in milliseconds since 1970."""
    updated_at: int
    """Time of its last event, deltas aside, in milliseconds since 1970."""
    state: RunState = "queued"
    attempts: int = 0
    """Number of times that the agent was started for the current step."""
    error: str | None = None
    """Reason why the harness run failed, for people to read."""
    checkpoint: str | None = None
    """Key of the checkpoint from which the agent continues, if the agent named one."""
    waits_for: list[str] = field(default_factory=list)
    """Ids of the approvals that it requested last."""
    attempt_runs: list[Attempt] = field(default_factory=list)
    """AG-UI runs of all its attempts, the oldest first."""
    seq: int = 0
    """Number of its last event, deltas included."""
    events: list[HarnessEvent] = field(default_factory=list)
    """All its events but the deltas, the oldest first."""
    version: int = 0
    """Version of its record; 0 while there is none."""
    key: str = field(default="", compare=False, repr=False)
    """Key of its record."""

    def __post_init__(self) -> None:
        self.key = self.key or kinds.thread_key(self.thread_id, self.run_id)

    @classmethod
    def from_record(cls, record: Record) -> RunRecord:
        """Return the harness run that a record holds. Raises `RecordDamaged`, `RecordTooNew`."""
        value = kinds.HARNESS_RUN.decode(record)
        on_disk = {each.name: _NAMES_ON_DISK.get(each.name, each.name) for each in fields(cls)}
        try:
            run = cls(
                **{name: value[stored] for name, stored in on_disk.items() if stored in value},
                version=record.version, key=record.key,
            )  # fmt: skip
            run.attempt_runs = [Attempt(*each) for each in value["segments"]]
            run.events = [
                HarnessEvent(kind, run.run_id, run.thread_id, seq, at, data) for kind, seq, at, data in value["events"]
            ]
        except (TypeError, KeyError, ValueError) as error:
            raise RecordDamaged(record.kind, record.key) from error
        return run

    @property
    def ended(self) -> bool:
        """Whether the harness run has completed, failed or been cancelled."""
        return self.state in TERMINAL_STATES

    @property
    def segments(self) -> list[Attempt]:
        """Attempts under the name they had in version 0.1.0; use `attempt_runs`."""
        return self.attempt_runs

    @property
    def created_at_utc(self) -> datetime.datetime:
        """Time of its creation as a datetime in UTC."""
        return utc(self.created_at)

    @property
    def updated_at_utc(self) -> datetime.datetime:
        """Time of its last event, deltas aside, as a datetime in UTC."""
        return utc(self.updated_at)

    def events_after(self, seq: int) -> list[HarnessEvent]:
        """Return its events after a number, deltas aside."""
        return [event for event in self.events if event.seq > seq]

    def add_event(self, type: EventType, /, **data: Any) -> HarnessEvent:
        """Add an event and return it."""
        self.seq += 1
        # A clock that was set back must not order an event before an earlier one.
        self.updated_at = max(now_ms(), self.updated_at)
        event = HarnessEvent(type, self.run_id, self.thread_id, self.seq, self.updated_at, data)
        self.events.append(event)
        return event

    def change_state(self, state: RunState, error: str | None = None) -> HarnessEvent:
        """Change its state, and return the event that reports the change."""
        previous, self.state, self.error = self.state, state, error
        return self.add_event(
            "run.state.changed", previous=previous, state=state, checkpoint=self.checkpoint, error=error
        )

    def to_changes(self) -> list[Change]:
        """Return the changes that write it, unless its record was changed since it was read."""
        value = {
            _NAMES_ON_DISK.get(each.name, each.name): getattr(self, each.name)
            for each in fields(self)
            if each.name not in ("version", "key")
        }
        value["segments"] = [[each.run_id, each.first_seq, each.after] for each in self.attempt_runs]
        value["events"] = [[event.type, event.seq, event.at, event.data] for event in self.events]
        mark = {"state": self.state, "owner": self.owner, "agent": self.agent}
        return [
            kinds.HARNESS_RUN.change(self.key, self.thread_id, value, self.version),
            kinds.ACTIVE_RUN.removal(self.key, self.thread_id)
            if self.ended
            else kinds.ACTIVE_RUN.change(self.key, self.thread_id, mark),
        ]

    def link_attempt(self, run_id: str) -> list[Change]:
        """Return the changes that make it findable by the id of an attempt's AG-UI run."""
        if run_id == self.run_id:
            return []
        key = kinds.thread_key(self.thread_id, run_id)
        return [kinds.ATTEMPT.change(key, self.thread_id, {"run_id": self.run_id})]

    def drop_intent(self) -> Change:
        """Return the change that removes its intent."""
        return kinds.INTENT.removal(self.key, self.thread_id)

    def make_intent(
        self, kind: Literal["approval", "checkpoint"], owner: str, attempts: int = 0, *, across: bool = False
    ) -> Intent:
        """Return a new intent to start its agent again."""
        return Intent(self.run_id, self.thread_id, kind, owner, attempts, across, key=self.key)


@dataclass(slots=True)
class Intent:
    """The intent to start an agent again, written before the agent is started."""

    run_id: str
    """Id of the harness run."""
    thread_id: str
    kind: Literal["approval", "checkpoint"]
    """`approval`: with the answers to its interrupts; `checkpoint`: by the agent's `resume`."""
    owner: str
    """Id of the owner: the harness that starts the agent."""
    attempts: int = 0
    """Number of times that the agent was started by this intent."""
    across: bool = False
    """Whether another harness ran it before."""
    version: int = 0
    """Version of its record; 0 while there is none."""
    failed_starts: int = 0
    """Number of attempts by this intent that failed before the agent was started."""
    key: str = field(default="", compare=False, repr=False)
    """Key of its record, the same as that of the harness run."""

    def __post_init__(self) -> None:
        self.key = self.key or kinds.thread_key(self.thread_id, self.run_id)

    @property
    def tries(self) -> int:
        """Number of attempts by this intent, whether the agent was started or not."""
        return self.attempts + self.failed_starts

    @classmethod
    def from_record(cls, record: Record) -> Intent:
        """Return the intent that a record holds. Raises `RecordDamaged`, `RecordTooNew`."""
        value = kinds.INTENT.decode(record)
        try:
            return cls(
                # Version 0.1.0 took the harness run's id as the key.
                value.get("run_id", record.key), record.thread_id, value["kind"], value["owner"], value["attempts"],
                value["across"], record.version, value.get("failed_starts", 0), record.key,
            )  # fmt: skip
        except KeyError as error:
            raise RecordDamaged(record.kind, record.key) from error

    def to_change(self) -> Change:
        """Return the change that writes it, unless its record was changed since it was read."""
        names = ("run_id", "kind", "owner", "attempts", "across")
        value = {name: getattr(self, name) for name in names}
        if self.failed_starts:
            value["failed_starts"] = self.failed_starts
        return kinds.INTENT.change(self.key, self.thread_id, value, self.version)


async def read_run(store: Store, key: str) -> RunRecord | None:
    """Return the harness run under a key, which is also that of its mark, or `None`."""
    record = await kinds.HARNESS_RUN.find(store, key)
    return RunRecord.from_record(record) if record is not None else None


async def find_run(store: Store, thread_id: str, run_id: str) -> RunRecord | None:
    """Return a thread's harness run by its id or that of an AG-UI run, or `None`."""
    record = await _find_record(store, thread_id, run_id)
    return RunRecord.from_record(record) if record is not None else None


async def load_run(
    store: Store, run_id: str, thread_id: str | None = None, scope: str | AnyScope | None = ANY_SCOPE
) -> RunRecord:
    """Return a harness run by its id or the id of one of its AG-UI runs.

    Args:
        store: The store.
        run_id: The id, which runs of several threads may have.
        thread_id: The run's thread; `None` looks in all threads.
        scope: The scope that the thread must belong to.

    Raises:
        RunNotFound: There is no such harness run in the scope.
        AmbiguousId: There is one in several threads of the scope.

    """
    records = _iterate_records(store, run_id, thread_id)
    run = await find_only(records, RunRecord.from_record, store, scope, f"a run '{run_id}'", read_scope)
    if run is None:
        where = "in the store" if thread_id is None else f"of thread '{thread_id}'"
        raise RunNotFound(f"there is no harness run '{run_id}' {where}")
    return run


async def _iterate_records(store: Store, run_id: str, thread_id: str | None) -> AsyncIterator[Record]:
    """Iterate over the harness runs of a thread, or of all, with an id or an AG-UI run of it."""
    if thread_id is not None:
        if (record := await _find_record(store, thread_id, run_id)) is not None:
            yield record
        return
    async for record in kinds.HARNESS_RUN.iterate_named(store, run_id):
        yield record
    async for attempt in kinds.ATTEMPT.iterate_named(store, run_id):
        if (record := await _find_record(store, attempt.thread_id, run_id)) is not None:
            yield record


async def _find_record(store: Store, thread_id: str, run_id: str) -> Record | None:
    record = await kinds.HARNESS_RUN.find_named(store, thread_id, run_id)
    if record is None and (attempt := await kinds.ATTEMPT.find_named(store, thread_id, run_id)) is not None:
        first_run_id = kinds.ATTEMPT.decode(attempt)["run_id"]
        record = await kinds.HARNESS_RUN.find_named(store, thread_id, first_run_id)
    return record


def read_scope(record: Record) -> str | None:
    """Return the scope in which a harness run was last admitted."""
    return RunRecord.from_record(record).scope


async def find_scope(store: Store, run: RunRecord) -> str | None:
    """Return the current scope of a harness run's thread, which may have been moved."""
    try:
        return (await store.thread(run.thread_id)).scope
    except ThreadNotFound:
        return run.scope


async def find_intent(store: Store, key: str) -> Intent | None:
    """Return the intent of the harness run with a key, or `None` if it has none."""
    record = await kinds.INTENT.find(store, key)
    return Intent.from_record(record) if record is not None else None
