"""The values that the methods of a `Store` take and return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple

from agentrunner.types import ANY_SCOPE, AnyScope

if TYPE_CHECKING:
    from agentrunner._core import Claim, Frames
    from agentrunner.types import Cursor as Cursor
    from agentrunner.types import ThreadSummary


class ThreadGuard(NamedTuple):
    """The scope and incarnation that a thread must have; any other thread counts as unknown."""

    scope: str | AnyScope | None = ANY_SCOPE
    """Scope that the thread must have; `None` requires a thread without one."""
    incarnation: int | None = None
    """Incarnation of the thread, as in `ThreadSummary` and `Claim`; `None` allows any."""

    def matches(self, scope: str | None, incarnation: int) -> bool:
        """Return whether a thread with this scope and incarnation is the expected one."""
        return self.scope in (ANY_SCOPE, scope) and self.incarnation in (None, incarnation)

    @classmethod
    def of(cls, thread: ThreadSummary | Claim, scope: str | AnyScope | None = ANY_SCOPE) -> ThreadGuard:
        """Return the guard for this incarnation of a thread, and optionally for a scope."""
        # A store that does not number incarnations returns 0.
        return cls(scope, thread.incarnation or None)


class HistoryPage(NamedTuple):
    """A page of stored runs, as compacted frames."""

    frames: Frames
    next: Cursor | None
    """Cursor of the next page, or `None` if this is the last one."""


class JournalPage(NamedTuple):
    """A page of raw frames."""

    frames: Frames
    live_token: int | None
    """Fencing token of the run that was live when the frames were read, or `None`."""


class CursorLocation(NamedTuple):
    """Where a reader continues from a cursor."""

    kind: Literal["stored", "journal", "live"]
    """Source of the next frame.

    `stored`: the cursor is between runs, or in a stored run's compacted events. `journal`: it is inside a finished run
    whose raw frames are still kept. `live`: it is in the live run.
    """
    first_seq: int
    """First sequence number of the run, with `journal`; otherwise 0."""
    last_seq: int
    """Last sequence number of the run, with `journal`; otherwise 0."""


class StoredRun(NamedTuple):
    """A finished run with everything another store needs to keep a copy of it."""

    run_id: str
    parent_run_id: str | None
    """Id of the run before it in its thread, or `None` for the first."""
    first_seq: int
    last_seq: int
    events: bytes
    """Compacted events of the run, as a JSON array."""
    input: str
    """Input of the run, as a JSON object."""
    created_at: int
    """Time when the run ended, in milliseconds since 1970 (UTC)."""


class Record(NamedTuple):
    """A small value that is kept beside the runs: an approval, a checkpoint, a session."""

    kind: str
    """Namespace of the key, such as `approval`."""
    key: str
    """Name that is unique among all records of its kind in the store, across threads."""
    thread_id: str
    """Thread whose deletion also removes the record.

    It never changes, and the thread need not exist.
    """
    version: int
    """Number that grows with each write of this kind and key.

    It also grows when the record is removed and created again.
    """
    value: bytes


class Change(NamedTuple):
    """One change that `Store.write` makes to a record."""

    kind: str
    key: str
    thread_id: str
    value: bytes | None
    """New value of the record, or `None` to remove it."""
    version: int | None = None
    """Version that the record must have for the change to be made.

    0 requires that there is no such record; `None` makes the change in any case.
    """


class StoreReport(NamedTuple):
    """What `Store.inspect` found; each pair is a thread id and a run id."""

    integrity: str
    """Result of the store's own check: `ok`, or a text about the damage."""
    threads: int
    runs: int
    foreign_runs: int
    """Number of runs that another program added."""
    corrupt: list[tuple[str, str]]
    """Runs whose events cannot be read; replays skip them."""
    orphans: list[tuple[str, str]]
    """Runs whose parent is missing.

    Replays include them, but the TypeScript runner does not see them.
    """
    stuck: list[str]
    """Threads that are marked as running although no lease exists."""
    dead: list[tuple[str, str]]
    """Live runs whose owner is gone; the next runner that opens the store ends them."""
    records: int = 0
    """Number of records in the store."""
    missing_log: int | None = None
    """Time of the last checkpoint before a SQLite file was copied without its log, in milliseconds since 1970 (UTC).

    What was written after that time is missing. `None` if the log was not missing.
    """

    @property
    def is_sound(self) -> bool:
        """Whether nothing is damaged, stuck, left behind or missing."""
        return self.integrity == "ok" and not (self.corrupt or self.can_be_fixed)

    @property
    def can_be_fixed(self) -> bool:
        """Whether a repair, or the next runner that opens the store, can fix a problem."""
        return bool(self.orphans or self.stuck or self.dead or self.missing_log is not None)


class Backup(NamedTuple):
    """The size of a backup, and how much it contains."""

    threads: int
    """Number of threads with stored runs."""
    runs: int
    """Number of stored runs; those that were live are not counted, but are in the backup as far as they got."""
    records: int
    """Number of records."""
    bytes: int
    """Size of the file in bytes."""
    missing_log: int | None
    """As in `StoreReport`, of the file that was backed up."""
