"""The harness's records: how they are written, and read again."""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

from agentrunner._codec import decode, dump
from agentrunner.errors import RecordDamaged, RecordTooNew
from agentrunner.harness.types import TERMINAL, Approval, EventType, HarnessEvent, RunState
from agentrunner.stores import Change

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agentrunner.stores import Record, Store

logger = logging.getLogger("agentrunner.harness")

T = TypeVar("T")

VERSION = 1
"""Of the values' format."""
PAGE = 200


def now_ms() -> int:
    """Give the time in milliseconds since 1970."""
    return int(time.time() * 1000)


def pack(value: dict[str, Any]) -> bytes:
    """Write a record's value."""
    return dump({"v": VERSION, **value})


def unpack(record: Record) -> dict[str, Any]:
    """Read a record's value. Raises `RecordTooNew`, `RecordDamaged`."""
    try:
        value: dict[str, Any] = decode(record.value)
        version = value["v"]
    except (ValueError, TypeError, KeyError) as error:
        raise RecordDamaged(record.kind, record.key) from error
    if version != VERSION:
        raise RecordTooNew(
            f"the {record.kind} '{record.key}' was written by a newer version of this package (format "
            f"{version}; this one knows {VERSION})"
        )
    return value


async def pages(store: Store, kind: str, thread_id: str | None = None) -> AsyncIterator[Record]:
    """Yield all records of a kind, with `thread_id` only that thread's."""
    after: tuple[str, str] | None = None
    while True:
        page = await store.records(kind, thread_id, after, PAGE)
        for record in page:
            yield record
        if len(page) < PAGE:
            return
        after = (page[-1].kind, page[-1].key)


@dataclass(slots=True)
class Attempt:
    """One AG-UI run of a harness run."""

    run_id: str
    first_seq: int
    """Of its thread's events the first that is its."""
    after: int
    """Behind which of the harness run's events its deltas are counted."""


@dataclass(slots=True)
class RunRecord:
    """A harness run: one AG-UI run, and one for each time it was resumed."""

    run_id: str
    thread_id: str
    agent: str
    scope: str | None
    owner: str
    """Whose it is while it is queued, running or resuming."""
    given: dict[str, Any]
    """Of its first input what is no history: `tools`, `context`, `forwardedProps`."""
    created_at: int
    """Milliseconds since 1970, as all times."""
    updated_at: int
    state: RunState = "queued"
    attempts: int = 0
    """How often its agent was started for the step it is at."""
    error: str | None = None
    checkpoint: str | None = None
    """Where the agent goes on from, if it said so."""
    waits_for: list[str] = field(default_factory=list)
    """The ids of the approvals it asked for last."""
    segments: list[Attempt] = field(default_factory=list)
    seq: int = 0
    """Of its last event."""
    events: list[HarnessEvent] = field(default_factory=list)
    """Those of its life, without deltas."""
    version: int = 0
    """Of its record; 0: there is none yet."""

    @classmethod
    def read(cls, record: Record) -> RunRecord:
        """Give the run a record is of. Raises `RecordTooNew`, `RecordDamaged`."""
        value = unpack(record)
        known = {name.name for name in fields(cls)}
        try:
            run = cls(**{name: value[name] for name in known if name in value}, version=record.version)
            run.segments = [Attempt(*each) for each in value["segments"]]
            run.events = [
                HarnessEvent(kind, run.run_id, run.thread_id, seq, at, data) for kind, seq, at, data in value["events"]
            ]
        except (TypeError, KeyError, ValueError) as error:
            raise RecordDamaged(record.kind, record.key) from error
        return run

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.state in TERMINAL

    def note(self, kind: EventType, /, **data: Any) -> HarnessEvent:
        """Add an event."""
        self.seq += 1
        self.updated_at = max(now_ms(), self.updated_at)
        event = HarnessEvent(kind, self.run_id, self.thread_id, self.seq, self.updated_at, data)
        self.events.append(event)
        return event

    def go(self, state: RunState, error: str | None = None) -> HarnessEvent:
        """Change its state."""
        previous, self.state, self.error = self.state, state, error
        return self.note("run.state.changed", previous=previous, state=state, checkpoint=self.checkpoint, error=error)

    def changes(self) -> list[Change]:
        """Give what is to be written of it: only if nobody else has meanwhile."""
        value = {name.name: getattr(self, name.name) for name in fields(self) if name.name != "version"}
        value["segments"] = [[each.run_id, each.first_seq, each.after] for each in self.segments]
        value["events"] = [[event.type, event.seq, event.at, event.data] for event in self.events]
        active = None if self.ended else pack({"state": self.state, "owner": self.owner, "agent": self.agent})
        return [
            Change("run", self.run_id, self.thread_id, pack(value), self.version),
            Change("active", self.run_id, self.thread_id, active),
        ]

    def segment_change(self, run_id: str) -> list[Change]:
        """Give what says which run an AG-UI run belongs to."""
        if run_id == self.run_id:
            return []
        return [Change("segment", run_id, self.thread_id, pack({"run_id": self.run_id}))]


@dataclass(slots=True)
class Intent:
    """That a run's agent is to be started again, written before it is."""

    run_id: str
    thread_id: str
    kind: str
    """`approval`: with the answers to what it asked; `checkpoint`: by its `resume`."""
    owner: str
    """Who means to, or does."""
    attempts: int = 0
    """How often it was started."""
    across: bool = False
    """Whether the run was another harness's before."""
    version: int = 0

    @classmethod
    def read(cls, record: Record) -> Intent:
        """Give the intent a record is of. Raises `RecordTooNew`, `RecordDamaged`."""
        value = unpack(record)
        try:
            return cls(
                record.key, record.thread_id, value["kind"], value["owner"], value["attempts"], value["across"],
                record.version,
            )  # fmt: skip
        except KeyError as error:
            raise RecordDamaged(record.kind, record.key) from error

    def change(self) -> Change:
        """Give what is to be written of it: only if nobody else has meanwhile."""
        value = pack({"kind": self.kind, "owner": self.owner, "attempts": self.attempts, "across": self.across})
        return Change("intent", self.run_id, self.thread_id, value, self.version)


def no_intent(run: RunRecord) -> Change:
    """Give what takes a run's intent away."""
    return Change("intent", run.run_id, run.thread_id, None)


def read_approval(record: Record) -> Approval:
    """Give the approval a record is of. Raises `RecordTooNew`, `RecordDamaged`."""
    value = unpack(record)
    del value["v"]
    try:
        return Approval(**value, version=record.version)
    except TypeError as error:
        raise RecordDamaged(record.kind, record.key) from error


def approval_changes(approval: Approval) -> list[Change]:
    """Give what is to be written of an approval: only if nobody else has meanwhile."""
    value = asdict(approval)
    del value["version"]
    mark = pack({"run_id": approval.run_id}) if approval.open else None
    return [
        Change("approval", approval.approval_id, approval.thread_id, pack(value), approval.version),
        Change("open", approval.approval_id, approval.thread_id, mark),
    ]


async def readable(store: Store, kind: str, thread_id: str | None, read: Callable[[Record], T]) -> list[T]:
    """Give all of a kind; one that cannot be read costs itself, never the others."""
    found: list[T] = []
    async for record in pages(store, kind, thread_id):
        try:
            found.append(read(record))
        except (RecordDamaged, RecordTooNew):
            logger.exception("a record is left out")
    return found


async def find_run(store: Store, run_id: str) -> RunRecord | None:
    """Give a run by its id or that of one of its AG-UI runs."""
    record = await store.record("run", run_id)
    if record is None and (segment := await store.record("segment", run_id)) is not None:
        record = await store.record("run", unpack(segment)["run_id"])
    return RunRecord.read(record) if record is not None else None


async def find_intent(store: Store, run_id: str) -> Intent | None:
    """Give a run's intent."""
    record = await store.record("intent", run_id)
    return Intent.read(record) if record is not None else None


async def find_approval(store: Store, approval_id: str) -> Approval | None:
    """Give an approval."""
    record = await store.record("approval", approval_id)
    return read_approval(record) if record is not None else None
