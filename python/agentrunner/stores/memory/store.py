"""The store in this process's memory, bounded."""

from __future__ import annotations

import asyncio
import logging
import time
import warnings
from bisect import bisect_right
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agentrunner import _core
from agentrunner._core import Batch, Claim, Frames, Recorder
from agentrunner.errors import (
    CursorAhead,
    CursorExpired,
    InvalidEvent,
    LeaseLost,
    RunAlreadyExists,
    StoreError,
    ThreadAlreadyRunning,
    ThreadNotFound,
)
from agentrunner.stores.memory.records import MemoryRecords
from agentrunner.stores.types import CursorLocation, HistoryPage, JournalPage, StoredRun, StoreReport
from agentrunner.stores.validation import check_changes
from agentrunner.types import ANY_SCOPE, AnyScope, ThreadSummary

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner.stores.types import Change, Cursor, Record

logger = logging.getLogger("agentrunner")

MIB = 1 << 20
LONG = 10_000
"""Events of a run that is written out on another thread."""


def _now_ms() -> int:
    return int(time.time() * 1000)


@dataclass(slots=True)
class _Journal:
    """One run's raw frames."""

    first_seq: int
    batches: list[Batch] = field(default_factory=list)
    until: int | None = None
    """When they may go; `None` while the run is live."""


@dataclass(slots=True)
class _Thread:
    thread_id: str
    runs: list[StoredRun] = field(default_factory=list)
    message_ids: dict[str, int] = field(default_factory=dict)
    """Each with the last sequence number of the newest run that has it."""
    journals: list[_Journal] = field(default_factory=list)
    claim: Claim | None = None
    stop_requested: bool = False
    abandoned: bool = False
    """Whether the live run's owner is gone."""
    head_seq: int = 0
    name: str | None = None
    agent_id: str | None = None
    archived: bool = False
    created_at: int = 0
    updated_at: int = 0
    size: int = 0
    scope: str | None = None

    @property
    def exists(self) -> bool:
        """Whether it has runs; else there are only raw frames left that somebody may still ask for."""
        return bool(self.runs) or self.claim is not None


class MemoryStore:
    """Threads in memory. Past a limit the least recently used threads go, never a running one.

    `max_threads`, `max_runs_per_thread`, `max_bytes` (of compacted events): at least 1 each. What is dropped is said
    once in a `UserWarning`. `resume_window`: seconds a finished run's raw events are kept for readers that resume.
    """

    shared = False
    lease_ttl = 10.0
    now: Callable[[], int] = staticmethod(_now_ms)
    """Gives the time, in milliseconds since 1970; a store built on this one may set another."""

    def __init__(
        self,
        *,
        max_threads: int = 1000,
        max_runs_per_thread: int = 100,
        max_bytes: int = 512 * MIB,
        resume_window: float = 300.0,
    ) -> None:
        for name, value in (
            ("max_threads", max_threads),
            ("max_runs_per_thread", max_runs_per_thread),
            ("max_bytes", max_bytes),
        ):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, not {value!r}")
        self.max_threads = max_threads
        self.max_runs_per_thread = max_runs_per_thread
        self.max_bytes = max_bytes
        self.resume_window = resume_window
        self._threads: OrderedDict[str, _Thread] = OrderedDict()
        self._run_ids: dict[str, str] = {}
        self._records = MemoryRecords()
        self._tokens = 0
        self._bytes = 0
        self._warned = False

    async def open(self) -> None:
        pass

    async def aclose(self) -> None:
        pass

    async def claim(
        self,
        thread_id: str,
        run_id: str,
        input: str,
        agent_id: str | None,
        message_ids: list[str],
        scope: str | None,
    ) -> tuple[Claim, list[str]]:
        thread = self._threads.get(thread_id)
        if thread is not None and thread.exists and thread.scope != scope:
            raise ThreadNotFound(f"there is no thread '{thread_id}'")
        if thread is not None and thread.claim is not None:
            raise ThreadAlreadyRunning
        if run_id in self._run_ids:
            raise RunAlreadyExists(
                f"run '{run_id}' exists already; a run id is used once, start the retry under a new one"
            )
        if thread is not None:
            # At the latest now, so that what a log of the verbs says is the same when it is done again.
            self._expire(thread)
            thread = self._threads.get(thread_id)
        if thread is None:
            thread = self._threads[thread_id] = _Thread(thread_id)
            self._evict(keep=thread)
        if not thread.runs:
            thread.scope, thread.agent_id, thread.name, thread.archived = scope, agent_id, None, False
            thread.created_at = thread.updated_at = self.now()
        self._touch(thread)
        self._tokens += 1
        thread.claim = Claim(thread_id, run_id, self._tokens, thread.head_seq + 1, input, agent_id)
        thread.stop_requested = False
        thread.journals.append(_Journal(thread.claim.first_seq))
        self._run_ids[run_id] = thread_id
        return thread.claim, [known for known in message_ids if known in thread.message_ids]

    async def append(self, claim: Claim, batch: Batch, barrier: bool) -> None:
        self._held(claim).journals[-1].batches.append(batch)

    async def renew(self, claims: list[Claim]) -> list[bool]:
        return [self._live(claim.thread_id) == claim for claim in claims]

    async def finish(self, claim: Claim, recorder: Recorder, stored: bool) -> None:
        self._held(claim)
        # Off the loop where it takes longer than other tasks should wait.
        long = recorder.recorded > LONG
        events = await asyncio.to_thread(recorder.compacted) if long else recorder.compacted()
        thread = self._held(claim)
        thread.claim, thread.abandoned = None, False
        thread.head_seq = max(thread.head_seq, recorder.last_seq)
        thread.journals[-1].until = self.now() + int(self.resume_window * 1000)
        if not stored:
            del self._run_ids[claim.run_id]
            if not thread.runs:
                self._drop_unless_kept(thread)
            return
        # Times never run backwards, so that the list's order is the order of events.
        thread.updated_at = max(self.now(), thread.updated_at)
        if not thread.runs:
            thread.created_at = thread.updated_at
        parent = thread.runs[-1].run_id if thread.runs else None
        run = StoredRun(
            claim.run_id, parent, claim.first_seq, recorder.last_seq, events, claim.input, thread.updated_at
        )
        thread.message_ids |= dict.fromkeys(recorder.message_ids, run.last_seq)
        thread.agent_id = claim.agent_id or thread.agent_id
        self._keep(thread, run)
        self._touch(thread)
        self._evict(keep=thread)

    async def request_stop(self, thread_id: str, run_id: str | None) -> bool:
        live = self._live(thread_id)
        thread = self._threads.get(thread_id)
        if live is None or thread is None or thread.stop_requested or run_id not in (None, live.run_id):
            return False
        thread.stop_requested = True
        return True

    async def live(self, thread_id: str | None = None) -> list[tuple[Claim, bool]]:
        chosen = self._threads.values() if thread_id is None else filter(None, [self._threads.get(thread_id)])
        return [(thread.claim, thread.stop_requested) for thread in chosen if thread.claim is not None]

    async def stops(self) -> list[int]:
        return [thread.claim.token for thread in self._threads.values() if thread.claim and thread.stop_requested]

    async def recover(self, thread_id: str | None = None) -> list[Claim]:
        taken: list[Claim] = []
        for thread in list(self._threads.values()):
            self._expire(thread)
            if thread.claim is not None and thread.abandoned and thread_id in (None, thread.thread_id):
                old, self._tokens, thread.abandoned = thread.claim, self._tokens + 1, False
                thread.claim = Claim(
                    old.thread_id, old.run_id, self._tokens, old.first_seq, old.input, old.agent_id
                )  # fmt: skip
                taken.append(thread.claim)
        return taken

    async def abandon(self) -> None:
        """Leave the live runs to `recover`: for a store that is built on this one, whose owner's process has ended."""
        for thread in self._threads.values():
            thread.abandoned = thread.claim is not None

    async def journal(self, thread_id: str, after: int, until: int | None, limit: int) -> JournalPage:
        thread = self._threads.get(thread_id)
        data = bytearray()
        for journal in thread.journals if thread else ():
            if until is not None and journal.first_seq > until:
                break
            # Batches are in order: the first one that is wanted is found by halving.
            for batch in journal.batches[bisect_right(journal.batches, after, key=lambda batch: batch.last_seq) :]:
                if len(data) >= limit:
                    break
                data += batch.after(after, limit - len(data))
        live = self._live(thread_id)
        return JournalPage(Frames(bytes(data)), live.token if live else None)

    async def changed(self, thread_id: str, after: int) -> None:
        # No run lives in another process; for who follows one all the same, as a test does.
        await asyncio.sleep(0.02)

    async def history(self, thread_id: str, after: Cursor, until: int | None, limit: int) -> HistoryPage:
        thread = self._threads.get(thread_id)
        data = bytearray()
        position: Cursor | None = None
        if thread is not None:
            self._touch(thread)
        for run in thread.runs if thread else ():
            seq, index = after
            if run.last_seq < seq or (until is not None and run.first_seq >= until):
                continue
            if index is not None and run.last_seq == seq:
                skip = index + 1
            elif run.first_seq <= seq:
                continue
            else:
                skip = 0
            if len(data) >= limit:
                return HistoryPage(Frames(bytes(data)), position)
            if (frames := _frames(run, skip)) is not None:
                data += bytes(frames)
            else:
                logger.error("thread %s: run %s cannot be read and is left out", thread_id, run.run_id)
            position = (run.last_seq, None)
        return HistoryPage(Frames(bytes(data)), None)

    async def locate(self, thread_id: str, cursor: Cursor) -> CursorLocation:
        thread = self._threads.get(thread_id)
        seq = cursor[0]
        if thread is not None and thread.claim is not None and seq >= thread.claim.first_seq:
            return CursorLocation("live", 0, 0)
        if seq > (thread.head_seq if thread else 0):
            raise CursorAhead(f"cursor {seq} is ahead of thread '{thread_id}'; connect without a cursor")
        for run in thread.runs if thread else ():
            if run.first_seq <= seq < run.last_seq:
                if thread and any(journal.first_seq == run.first_seq for journal in thread.journals):
                    return CursorLocation("journal", run.first_seq, run.last_seq)
                raise CursorExpired(
                    f"cursor {seq} of thread '{thread_id}' is inside a finished run whose raw events are gone; "
                    "connect without a cursor for the whole thread"
                )
        return CursorLocation("stored", 0, 0)

    async def threads(
        self,
        limit: int,
        before: tuple[int, str] | None,
        include_archived: bool,
        agent_id: str | None,
        scope: str | AnyScope | None,
    ) -> list[ThreadSummary]:
        chosen = [
            thread
            for thread in self._threads.values()
            if thread.exists
            and (include_archived or not thread.archived)
            and agent_id in (None, thread.agent_id)
            and scope in (ANY_SCOPE, thread.scope)
            and (before is None or (thread.updated_at, thread.thread_id) < before)
        ]
        # Of two updated in the same millisecond the more recently used comes first, save over a page's edge.
        chosen.sort(key=lambda thread: (thread.updated_at, thread.thread_id), reverse=True)
        return [_summary(thread) for thread in chosen[:limit]]

    async def thread(self, thread_id: str) -> ThreadSummary:
        return _summary(self._existing(thread_id))

    async def rename(self, thread_id: str, name: str | None) -> None:
        self._existing(thread_id).name = name

    async def archive(self, thread_id: str, archived: bool) -> None:
        self._existing(thread_id).archived = archived

    async def delete(self, thread_id: str) -> None:
        thread = self._existing(thread_id)
        if thread.claim is not None:
            raise ThreadAlreadyRunning
        self._remove(thread)

    async def clear(self, scope: str | AnyScope | None) -> None:
        for thread in list(self._threads.values()):
            if thread.claim is None and scope in (ANY_SCOPE, thread.scope):
                self._remove(thread)
        self._warned = False

    async def runs(self, thread_id: str, after: int, limit: int) -> list[StoredRun]:
        thread = self._threads.get(thread_id)
        found: list[StoredRun] = []
        size = 0
        for run in thread.runs if thread else ():
            if run.last_seq > after and size < limit and _frames(run, 0) is not None:
                found.append(run)
                size += len(run.events) + len(run.input)
        return found

    async def put(self, thread: ThreadSummary, runs: list[StoredRun]) -> None:
        kept = self._threads.get(thread.thread_id)
        if kept is not None and kept.claim is not None:
            raise ThreadAlreadyRunning
        new = [run for run in runs if self._run_ids.get(run.run_id) != thread.thread_id]
        head = kept.head_seq if kept is not None else 0
        for run in new:
            if run.run_id in self._run_ids:
                raise RunAlreadyExists(f"run '{run.run_id}' exists already, in another thread")
            if not head < run.first_seq <= run.last_seq:
                raise StoreError(
                    f"thread '{thread.thread_id}': run '{run.run_id}' ({run.first_seq} to {run.last_seq}) does not "
                    f"begin behind {head}, where the thread is; nothing was put"
                )
            head = run.last_seq
        if not new and (kept is None or not kept.exists):
            return
        if kept is None:
            kept = self._threads[thread.thread_id] = _Thread(thread.thread_id)
        kept.name, kept.agent_id, kept.archived = thread.name, thread.agent_id, thread.archived
        kept.scope, kept.created_at, kept.updated_at = thread.scope, thread.created_at, thread.updated_at
        kept.head_seq = head
        for run in new:
            self._run_ids[run.run_id] = thread.thread_id
            self._keep(kept, run._replace(parent_run_id=kept.runs[-1].run_id if kept.runs else None))
            kept.message_ids |= dict.fromkeys(_core.run_message_ids(run.events), run.last_seq)
        self._evict(keep=kept)

    async def prune(self, max_runs: int | None, before: int | None, limit: int) -> int:
        removed = 0
        for thread in list(self._threads.values()):
            count = 0
            for run in thread.runs[: limit - removed]:
                beyond = max_runs is not None and len(thread.runs) - count > max_runs
                if not beyond and (before is None or run.created_at >= before):
                    break
                count += 1
            if count:
                removed += count
                if count == len(thread.runs) and thread.claim is None:
                    self._remove(thread)
                    continue
                last_seq = thread.runs[count - 1].last_seq
                self._forget_oldest(thread, count)
                thread.journals = [journal for journal in thread.journals if journal.first_seq > last_seq]
        return removed

    async def record(self, kind: str, key: str) -> Record | None:
        return self._records.get(kind, key)

    async def records(
        self, kind: str | None, thread_id: str | None, after: tuple[str, str] | None, limit: int
    ) -> list[Record]:
        return self._records.page(kind, thread_id, after, limit)

    async def write(self, changes: list[Change], claim: Claim | None = None) -> list[int]:
        check_changes(changes)
        if claim is not None:
            self._held(claim)
        return self._records.write(changes)

    async def inspect(self, fix: bool) -> StoreReport:
        threads = [thread for thread in self._threads.values() if thread.runs]
        runs = [(thread.thread_id, run) for thread in threads for run in thread.runs]
        corrupt = [(thread_id, run.run_id) for thread_id, run in runs if _frames(run, 0) is None]
        return StoreReport("ok", len(threads), len(runs), 0, corrupt, [], [], [], len(self._records))

    def _live(self, thread_id: str) -> Claim | None:
        thread = self._threads.get(thread_id)
        return thread.claim if thread else None

    def _held(self, claim: Claim) -> _Thread:
        if self._live(claim.thread_id) != claim:
            raise LeaseLost(f"run '{claim.run_id}' no longer holds thread '{claim.thread_id}'; nothing was written")
        return self._threads[claim.thread_id]

    def _existing(self, thread_id: str) -> _Thread:
        thread = self._threads.get(thread_id)
        if thread is None or not thread.exists:
            raise ThreadNotFound(f"there is no thread '{thread_id}'")
        return thread

    def _touch(self, thread: _Thread) -> None:
        self._threads.move_to_end(thread.thread_id)

    def _grow(self, thread: _Thread, by: int) -> None:
        thread.size += by
        self._bytes += by

    def _keep(self, thread: _Thread, run: StoredRun) -> None:
        """Add a run behind those there are; the oldest goes where there are too many."""
        thread.runs.append(run)
        self._grow(thread, len(run.events))
        if len(thread.runs) > self.max_runs_per_thread:
            self._forget_oldest(thread, 1)
            self._warn()

    def _forget_oldest(self, thread: _Thread, count: int) -> None:
        """Remove the oldest runs; what is left is a whole chain, and messages only they had may come again."""
        gone, thread.runs = thread.runs[:count], thread.runs[count:]
        for run in gone:
            del self._run_ids[run.run_id]
            self._grow(thread, -len(run.events))
        if thread.runs:
            thread.runs[0] = thread.runs[0]._replace(parent_run_id=None)
        last_seq = gone[-1].last_seq
        thread.message_ids = {known: seq for known, seq in thread.message_ids.items() if seq > last_seq}

    def _drop(self, thread: _Thread) -> None:
        del self._threads[thread.thread_id]
        self._bytes -= thread.size
        for run in thread.runs:
            self._run_ids.pop(run.run_id, None)

    def _remove(self, thread: _Thread) -> None:
        """Drop a thread with all it has; where there is but a journal left, records are not its."""
        if thread.exists:
            self._records.forget(thread.thread_id)
        self._drop(thread)

    def _expire(self, thread: _Thread) -> None:
        """Let go of raw frames whose time is over."""
        now = self.now()
        thread.journals = [journal for journal in thread.journals if journal.until is None or journal.until > now]
        self._drop_unless_kept(thread)

    def _drop_unless_kept(self, thread: _Thread) -> None:
        """Drop a thread that has neither runs nor raw frames anyone may still ask for."""
        if not thread.runs and not thread.journals and thread.claim is None:
            self._drop(thread)

    def _evict(self, keep: _Thread) -> None:
        for thread in list(self._threads.values()):
            if len(self._threads) <= self.max_threads and self._bytes <= self.max_bytes:
                return
            if thread.claim is None and thread is not keep:
                self._remove(thread)
                self._warn()

    def _warn(self) -> None:
        if self._warned:
            return
        self._warned = True
        text = (
            f"the in-memory store is at a limit (max_threads={self.max_threads}, "
            f"max_runs_per_thread={self.max_runs_per_thread}, max_bytes={self.max_bytes}): the oldest is dropped; "
            "use SqliteAgentRunner to keep everything"
        )
        try:
            warnings.warn(text, UserWarning, stacklevel=2)
        except UserWarning:
            # Where warnings are errors: the run that met the limit did nothing wrong, and half a `finish` is no good.
            logger.warning(text)


def _frames(run: StoredRun, skip: int) -> Frames | None:
    """Give a stored run's frames; `None` for one that was put here damaged."""
    try:
        return _core.run_frames(run.events, run.last_seq, skip)
    except (StoreError, InvalidEvent):
        return None


def _summary(thread: _Thread) -> ThreadSummary:
    return ThreadSummary(
        thread.thread_id,
        thread.name,
        thread.agent_id,
        thread.archived,
        thread.claim is not None,
        len(thread.runs),
        thread.created_at,
        thread.updated_at,
        thread.scope,
    )
