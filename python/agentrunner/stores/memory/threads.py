"""The threads of a `MemoryStore`, which it keeps within its limits."""

from __future__ import annotations

import logging
import warnings
import zlib
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agentrunner import _core
from agentrunner.errors import StoreError, ThreadAlreadyRunning
from agentrunner.stores._errors import make_lease_lost, make_thread_not_found
from agentrunner.types import ThreadSummary

if TYPE_CHECKING:
    from agentrunner._core import Batch, Claim
    from agentrunner.stores.memory.records import MemoryRecords
    from agentrunner.stores.types import StoredRun, ThreadGuard

logger = logging.getLogger("agentrunner")


FLOORS = 1 << 16
"""Greatest number of hashes whose last sequence number is kept, so that deletions do not fill the memory."""


def _hash(thread_id: str) -> int:
    return zlib.crc32(thread_id.encode("utf-8", "surrogatepass")) % FLOORS


@dataclass(slots=True)
class MemoryJournal:
    """The raw frames of one run."""

    first_seq: int
    batches: list[Batch] = field(default_factory=list)
    expires_at: int | None = None
    """End of the resume window, in milliseconds since 1970; `None` while the run is live."""


@dataclass(slots=True)
class MemoryThread:
    """One thread with its stored runs, its raw frames and its live run."""

    thread_id: str
    runs: list[StoredRun] = field(default_factory=list)
    message_ids: dict[str, int] = field(default_factory=dict)
    """Message ids, each with the last sequence number of the newest run that has it."""
    journals: list[MemoryJournal] = field(default_factory=list)
    claim: Claim | None = None
    stop_requested: bool = False
    is_abandoned: bool = False
    """Whether the live run's owner is gone."""
    head_seq: int = 0
    """Last sequence number of the thread's ended runs."""
    name: str | None = None
    agent_id: str | None = None
    archived: bool = False
    created_at: int = 0
    updated_at: int = 0
    size: int = 0
    """Bytes of the compacted events of its runs."""
    scope: str | None = None
    incarnation: int = 0
    base_seq: int = 0
    """Last sequence number of earlier incarnations."""

    @property
    def run_ids(self) -> set[str]:
        """The ids of its runs, the live one included."""
        return {run.run_id for run in self.runs} | ({self.claim.run_id} if self.claim else set())

    @property
    def exists(self) -> bool:
        """Whether it has a stored or live run.

        Otherwise only raw frames are left, which a reader may still ask for.
        """
        return bool(self.runs) or self.claim is not None

    @property
    def last_run_id(self) -> str | None:
        """The id of its newest stored run."""
        return self.runs[-1].run_id if self.runs else None

    def find_ids(self, message_ids: list[str]) -> dict[str, int]:
        """Return those of the ids that the thread's stored runs have, each with its number."""
        return {each: self.message_ids[each] for each in message_ids if each in self.message_ids}

    def summarize(self) -> ThreadSummary:
        """Return the thread as a list shows it."""
        return ThreadSummary(
            self.thread_id,
            self.name,
            self.agent_id,
            self.archived,
            self.claim is not None,
            len(self.runs),
            self.created_at,
            self.updated_at,
            self.scope,
            self.incarnation,
        )


class MemoryThreads(OrderedDict[str, MemoryThread]):
    """Threads by id, the least recently used first.

    When a limit is exceeded, the oldest threads and runs are dropped, with one warning.
    """

    def __init__(self, max_threads: int, max_runs_per_thread: int, max_bytes: int, records: MemoryRecords) -> None:
        super().__init__()
        self._max_threads = max_threads
        self._max_runs_per_thread = max_runs_per_thread
        self._max_bytes = max_bytes
        self._records = records
        self._floors: dict[int, int] = {}
        """Last sequence numbers of dropped threads, by the hash of their ids."""
        self.size = 0
        """Bytes of the compacted events of all threads."""
        self.has_warned = False

    def get_claim(self, thread_id: str) -> Claim | None:
        """Return the claim of a thread's live run."""
        thread = self.get(thread_id)
        return thread.claim if thread else None

    def require_claim(self, claim: Claim) -> MemoryThread:
        """Return the thread that a claim holds. Raises `LeaseLost`."""
        if self.get_claim(claim.thread_id) != claim:
            raise make_lease_lost(claim)
        return self[claim.thread_id]

    def find(self, thread_id: str, guard: ThreadGuard | None) -> MemoryThread | None:
        """Return a thread, unless it is not the one that the guard names."""
        thread = self.get(thread_id)
        if thread is None or guard is None or guard.matches(thread.scope, thread.incarnation):
            return thread
        return None

    def require(self, thread_id: str, guard: ThreadGuard | None = None) -> MemoryThread:
        """Return a thread that has a run. Raises `ThreadNotFound`."""
        thread = self.find(thread_id, guard)
        if thread is None or not thread.exists:
            raise make_thread_not_found(thread_id)
        return thread

    def add(self, thread_id: str) -> MemoryThread:
        """Create a thread, and drop others if there are too many."""
        # A cursor of a dropped thread must not be valid in this one.
        floor = self._floors.get(_hash(thread_id), 0)
        thread = self[thread_id] = MemoryThread(thread_id, head_seq=floor)
        self.evict(keep=thread)
        return thread

    def touch(self, thread: MemoryThread) -> None:
        """Mark a thread as the one used last."""
        self.move_to_end(thread.thread_id)

    def add_run(self, thread: MemoryThread, run: StoredRun) -> None:
        """Add a run after those that the thread has, and drop the oldest if there are too many."""
        thread.runs.append(run)
        self._grow(thread, len(run.events))
        if len(thread.runs) > self._max_runs_per_thread:
            self.drop_oldest_runs(thread, 1)
            self._warn()

    def drop_oldest_runs(self, thread: MemoryThread, count: int) -> None:
        """Drop a thread's oldest runs, so that the others are a complete chain.

        Messages that only the dropped runs had are dropped too.
        """
        dropped, thread.runs = thread.runs[:count], thread.runs[count:]
        for run in dropped:
            self._grow(thread, -len(run.events))
        if thread.runs:
            thread.runs[0] = thread.runs[0]._replace(parent_run_id=None)
        last_seq = dropped[-1].last_seq
        thread.message_ids = {message_id: seq for message_id, seq in thread.message_ids.items() if seq > last_seq}

    def prune(self, max_runs: int | None, before: int | None, limit: int) -> int:
        """Delete the oldest runs of each thread, as `Store.prune` does."""
        removed = 0
        for thread in list(self.values()):
            count = 0
            for run in thread.runs[: limit - removed]:
                is_surplus = max_runs is not None and len(thread.runs) - count > max_runs
                if not is_surplus and (before is None or run.created_at >= before):
                    break
                count += 1
            if not count:
                continue
            removed += count
            if count == len(thread.runs) and thread.claim is None:
                self.remove(thread)
                continue
            last_seq = thread.runs[count - 1].last_seq
            self.drop_oldest_runs(thread, count)
            thread.journals = [journal for journal in thread.journals if journal.first_seq > last_seq]
        return removed

    def remove(self, thread: MemoryThread) -> None:
        """Remove a thread with everything it has."""
        # If only raw frames are left, the thread no longer exists, and records with its id belong to another one.
        if thread.exists:
            self._records.remove_thread(thread.thread_id)
        self._drop(thread)

    def drop_unless_in_use(self, thread: MemoryThread) -> None:
        """Drop a thread that has neither a run nor raw frames."""
        if not thread.runs and not thread.journals and thread.claim is None:
            self._drop(thread)

    def expire_journals(self, thread: MemoryThread, now: int) -> None:
        """Drop the raw frames whose resume window has ended."""
        thread.journals = [
            journal for journal in thread.journals if journal.expires_at is None or journal.expires_at > now
        ]
        self.drop_unless_in_use(thread)

    def put(self, thread: ThreadSummary, runs: list[StoredRun], incarnation: int) -> None:
        """Add runs of another store to a thread; a new one gets this incarnation.

        Raises:
            ThreadAlreadyRunning: The thread has a live run.
            StoreError: A run's events do not follow those of the thread.

        """
        thread_id = thread.thread_id
        target = self.get(thread_id)
        if target is not None and target.claim is not None:
            raise ThreadAlreadyRunning
        known_ids = target.run_ids if target is not None else set()
        new_runs = [run for run in runs if run.run_id not in known_ids]
        head_seq = target.head_seq if target is not None else 0
        for run in new_runs:
            if not head_seq < run.first_seq <= run.last_seq:
                raise StoreError(
                    f"thread '{thread_id}': run '{run.run_id}' has the events {run.first_seq} to {run.last_seq}, but "
                    f"the thread is at {head_seq} already; nothing was copied"
                )
            head_seq = run.last_seq
        if not new_runs and (target is None or not target.exists):
            return
        if target is None:
            target = self[thread_id] = MemoryThread(thread_id)
        if not target.exists:
            target.incarnation, target.base_seq = incarnation, 0
        target.name, target.agent_id, target.archived = thread.name, thread.agent_id, thread.archived
        target.scope, target.created_at, target.updated_at = thread.scope, thread.created_at, thread.updated_at
        target.head_seq = head_seq
        for run in new_runs:
            self.add_run(target, run._replace(parent_run_id=target.last_run_id))
            target.message_ids |= dict.fromkeys(_core.run_message_ids(run.events), run.last_seq)
        self.evict(keep=target)

    def evict(self, keep: MemoryThread) -> None:
        """Drop the least recently used threads until the limits hold.

        Threads with a live run stay, and so does `keep`.
        """
        if self._is_within_limits():
            # Without this, every finished run would iterate over all threads.
            return
        for thread in list(self.values()):
            if self._is_within_limits():
                return
            if thread.claim is None and thread is not keep:
                self.remove(thread)
                self._warn()

    def _is_within_limits(self) -> bool:
        return len(self) <= self._max_threads and self.size <= self._max_bytes

    def _drop(self, thread: MemoryThread) -> None:
        del self[thread.thread_id]
        self.size -= thread.size
        if thread.head_seq:
            key = _hash(thread.thread_id)
            self._floors[key] = max(self._floors.get(key, 0), thread.head_seq)

    def _grow(self, thread: MemoryThread, by: int) -> None:
        thread.size += by
        self.size += by

    def _warn(self) -> None:
        if self.has_warned:
            return
        self.has_warned = True
        text = (
            f"the in-memory store is at a limit (max_threads={self._max_threads}, "
            f"max_runs_per_thread={self._max_runs_per_thread}, max_bytes={self._max_bytes}): the oldest runs and "
            "threads are dropped; use SqliteAgentRunner to keep everything"
        )
        try:
            warnings.warn(text, UserWarning, stacklevel=2)
        except UserWarning:
            # If warnings are errors, raising here would fail the run that reached the limit, in the middle of `finish`.
            logger.warning(text)
