"""What the verbs of a `Store` take and return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from agentrunner._core import Frames

Cursor: TypeAlias = tuple[int, int | None]
"""`(seq, None)`: behind a raw event; `(seq, index)`: behind that frame of the form compacted up to `seq`."""


class HistoryPage(NamedTuple):
    """Stored runs as compacted frames."""

    frames: Frames
    next: Cursor | None
    """Where to read on; `None` when there is no more."""


class JournalPage(NamedTuple):
    """Raw frames."""

    frames: Frames
    live_token: int | None
    """The fencing token of the thread's live run at the moment the frames were read."""


class Place(NamedTuple):
    """Where a cursor is."""

    kind: Literal["stored", "journal", "live"]
    """`stored`: between runs, or in a stored form; `journal`: in a finished run whose raw frames are kept; `live`."""
    first_seq: int
    """With `journal`: the run's first sequence number."""
    last_seq: int
    """With `journal`: the run's last sequence number."""


class StoredRun(NamedTuple):
    """A finished run as it is kept, for copying it to another store."""

    run_id: str
    parent_run_id: str | None
    """The run before it in its thread; `None` for the first."""
    first_seq: int
    last_seq: int
    events: bytes
    """Its compacted events, a JSON array."""
    input: str
    """The run's input, a JSON object."""
    created_at: int
    """When it ended, in milliseconds since 1970."""


class Record(NamedTuple):
    """A small thing kept beside the runs: an approval, a checkpoint, a session."""

    kind: str
    key: str
    """One of its kind in the store, whatever thread it belongs to."""
    thread_id: str
    """The thread it goes with when that is deleted; need not exist. Never changes."""
    version: int
    """Of all there ever was at this address, the one written last has the highest."""
    value: bytes


class Change(NamedTuple):
    """What is to become of a record."""

    kind: str
    key: str
    thread_id: str
    value: bytes | None
    """`None` removes it."""
    version: int | None = None
    """Which the record must have for this; 0: there must be none; `None`: whatever there is."""


class Report(NamedTuple):
    """The state of a store; each pair is a thread and a run."""

    integrity: str
    """What the store's own check says: `ok`, or what is damaged."""
    threads: int
    runs: int
    foreign_runs: int
    """Runs another program added."""
    corrupt: list[tuple[str, str]]
    """Runs whose events cannot be read; they are left out of replays."""
    orphans: list[tuple[str, str]]
    """Runs whose parent is missing; shown all the same, but a TypeScript runner does not see them."""
    stuck: list[str]
    """Threads marked as running without a lease."""
    dead: list[tuple[str, str]]
    """Live runs whose owner is gone; the next runner that opens the store ends them."""
    records: int = 0
    """How many there are, of threads and of none."""

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return self.integrity == "ok" and not (self.corrupt or self.orphans or self.stuck or self.dead)

    @property
    def mendable(self) -> bool:
        """Whether there is something that can be mended."""
        return bool(self.orphans or self.stuck or self.dead)
