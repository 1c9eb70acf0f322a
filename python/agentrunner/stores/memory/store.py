"""The store in this process's memory, for threads that need not survive a restart."""

from __future__ import annotations

import asyncio
import logging
import time
from bisect import bisect_right
from typing import TYPE_CHECKING

from agentrunner._checks import check_integer, check_seconds
from agentrunner._core import Batch, Claim, Frames, Recorder
from agentrunner.errors import ThreadAlreadyRunning
from agentrunner.stores._errors import (
    make_cursor_ahead,
    make_cursor_expired,
    make_cursor_of_deleted_thread,
    make_run_already_exists,
    make_thread_not_found,
)
from agentrunner.stores._run_events import check_run_size, compact_run, is_readable, list_message_ids, read_run
from agentrunner.stores.memory.records import MemoryRecords
from agentrunner.stores.memory.threads import MemoryJournal, MemoryThreads
from agentrunner.stores.types import CursorLocation, HistoryPage, JournalPage, StoredRun, StoreReport
from agentrunner.stores.validation import check_changes
from agentrunner.types import ANY_SCOPE, AnyScope, ThreadSummary

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner.stores.types import Change, Cursor, Record, ThreadGuard

logger = logging.getLogger("agentrunner")

DEFAULT_MAX_BYTES = 512 << 20
FOLLOW_POLL_SECONDS = 0.02


def read_clock_ms() -> int:
    """Return the time in milliseconds since 1970."""
    return int(time.time() * 1000)


class MemoryStore:
    """Threads in this process's memory, up to a limit; they are lost when the process ends.

    When a limit is exceeded, the least recently used threads are dropped, but never one with a live run. The first time
    this happens, a `UserWarning` is issued.

    Args:
        max_threads: The greatest number of threads, at least 1.
        max_runs_per_thread: The greatest number of stored runs of one thread, at least 1; its oldest is dropped first.
        max_bytes: The greatest total size of all compacted events in bytes, at least 1.
        resume_window: Seconds that a finished run's raw events are kept for readers that resume their stream.

    Raises:
        ValueError: A limit is not a positive integer, or `resume_window` is not a number of seconds.

    Example::

        runner = AgentRunner(MemoryStore(max_threads=100))

    """

    shared = False
    lease_ttl = 10.0
    max_run_bytes = 512 << 20
    now: Callable[[], int] = staticmethod(read_clock_ms)
    """Clock of the store, in milliseconds since 1970.

    A store that wraps this one may replace it.
    """

    def __init__(
        self,
        *,
        max_threads: int = 1000,
        max_runs_per_thread: int = 100,
        max_bytes: int = DEFAULT_MAX_BYTES,
        resume_window: float = 300.0,
    ) -> None:
        check_integer("max_threads", max_threads)
        check_integer("max_runs_per_thread", max_runs_per_thread)
        check_integer("max_bytes", max_bytes)
        check_seconds("resume_window", resume_window)
        self.max_threads = max_threads
        self.max_runs_per_thread = max_runs_per_thread
        self.max_bytes = max_bytes
        self.resume_window = resume_window
        self._records = MemoryRecords()
        self._threads = MemoryThreads(max_threads, max_runs_per_thread, max_bytes, self._records)
        self._last_token = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    async def open(self) -> None:
        if self._loop is not None and self._loop.is_closed():
            await self.abandon()
        self._loop = asyncio.get_running_loop()

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
    ) -> tuple[Claim, dict[str, int]]:
        thread = self._threads.get(thread_id)
        if thread is not None and thread.exists and thread.scope != scope:
            raise make_thread_not_found(thread_id)
        if thread is not None and thread.claim is not None:
            raise ThreadAlreadyRunning
        if thread is not None and run_id in thread.run_ids:
            raise make_run_already_exists(run_id)
        if thread is not None:
            # Not later than now: replaying a log of the calls must give the same sequence numbers.
            self._threads.expire_journals(thread, self.now())
            thread = self._threads.get(thread_id)
        if thread is None:
            thread = self._threads.add(thread_id)
        self._last_token += 1
        if not thread.runs:
            if thread.incarnation == 0 or thread.scope != scope:
                thread.incarnation, thread.base_seq = self._last_token, thread.head_seq
            thread.scope, thread.agent_id, thread.name, thread.archived = scope, agent_id, None, False
            thread.created_at = thread.updated_at = self.now()
        self._threads.touch(thread)
        first_seq = thread.head_seq + 1
        thread.claim = Claim(thread_id, run_id, self._last_token, first_seq, input, agent_id, thread.incarnation)
        thread.stop_requested = False
        thread.journals.append(MemoryJournal(thread.claim.first_seq))
        return thread.claim, thread.find_ids(message_ids)

    async def known_ids(self, thread_id: str, ids: list[str], *, guard: ThreadGuard | None = None) -> dict[str, int]:
        thread = self._threads.find(thread_id, guard)
        return {} if thread is None else thread.find_ids(ids)

    async def append(self, claim: Claim, batch: Batch, barrier: bool) -> None:
        self._threads.require_claim(claim).journals[-1].batches.append(batch)

    async def renew(self, claims: list[Claim]) -> list[bool]:
        return [self._threads.get_claim(claim.thread_id) == claim for claim in claims]

    async def release(self, claim: Claim) -> None:
        pass

    async def finish(self, claim: Claim, recorder: Recorder, stored: bool) -> None:
        self._threads.require_claim(claim)
        if stored:
            check_run_size(claim, recorder, self.max_run_bytes)
        events = await compact_run(recorder)
        message_ids = await list_message_ids(recorder) if stored else []
        # The claim may have been lost while the run was compacted.
        thread = self._threads.require_claim(claim)
        thread.claim, thread.is_abandoned = None, False
        thread.head_seq = max(thread.head_seq, recorder.last_seq)
        thread.journals[-1].expires_at = self.now() + int(self.resume_window * 1000)
        if not stored:
            self._threads.drop_unless_in_use(thread)
            return
        # Times never go backwards, so that the order of the list is the order of the runs.
        thread.updated_at = max(self.now(), thread.updated_at)
        if not thread.runs:
            thread.created_at = thread.updated_at
        run = StoredRun(
            claim.run_id, thread.last_run_id, claim.first_seq, recorder.last_seq, events, claim.input, thread.updated_at
        )
        thread.message_ids |= dict.fromkeys(message_ids, run.last_seq)
        thread.agent_id = claim.agent_id or thread.agent_id
        self._threads.add_run(thread, run)
        self._threads.touch(thread)
        self._threads.evict(keep=thread)

    async def request_stop(self, thread_id: str, run_id: str | None, *, guard: ThreadGuard | None = None) -> bool:
        thread = self._threads.find(thread_id, guard)
        if thread is None or thread.claim is None or thread.stop_requested:
            return False
        if run_id not in (None, thread.claim.run_id):
            return False
        thread.stop_requested = True
        return True

    async def live(self, thread_id: str | None = None) -> list[tuple[Claim, bool]]:
        threads = self._threads.values() if thread_id is None else filter(None, [self._threads.get(thread_id)])
        return [(thread.claim, thread.stop_requested) for thread in threads if thread.claim is not None]

    async def stops(self) -> list[int]:
        return [thread.claim.token for thread in self._threads.values() if thread.claim and thread.stop_requested]

    async def recover(self, thread_id: str | None = None) -> list[Claim]:
        claims: list[Claim] = []
        for thread in list(self._threads.values()):
            self._threads.expire_journals(thread, self.now())
            if thread.claim is not None and thread.is_abandoned and thread_id in (None, thread.thread_id):
                old, self._last_token, thread.is_abandoned = thread.claim, self._last_token + 1, False
                thread.claim = Claim(
                    old.thread_id, old.run_id, self._last_token, old.first_seq, old.input, old.agent_id, old.incarnation
                )  # fmt: skip
                claims.append(thread.claim)
        return claims

    async def abandon(self) -> None:
        """Leave all live runs to `recover`.

        A store that wraps this one and outlives its process calls this when it is opened: its runs' owner is gone.
        """
        for thread in self._threads.values():
            thread.is_abandoned = thread.claim is not None

    async def journal(
        self, thread_id: str, after: int, until: int | None, limit: int, *, guard: ThreadGuard | None = None
    ) -> JournalPage:
        thread = self._threads.find(thread_id, guard)
        if thread is not None and guard is not None and guard.incarnation is not None:
            # Frames of an earlier incarnation are kept until they expire.
            after = max(after, thread.base_seq)
        data = bytearray()
        for journal in thread.journals if thread else ():
            if until is not None and journal.first_seq > until:
                break
            # Batches are in order, so a binary search finds the first one that ends after `after`.
            for batch in journal.batches[bisect_right(journal.batches, after, key=lambda batch: batch.last_seq) :]:
                if len(data) >= limit:
                    break
                data += batch.after(after, limit - len(data))
        claim = thread.claim if thread else None
        return JournalPage(Frames(bytes(data)), claim.token if claim else None)

    async def changed(self, thread_id: str, after: int) -> None:
        # No other process can follow a run, but a test of this one can.
        await asyncio.sleep(FOLLOW_POLL_SECONDS)

    async def history(
        self, thread_id: str, after: Cursor, until: int | None, limit: int, *, guard: ThreadGuard | None = None
    ) -> HistoryPage:
        thread = self._threads.find(thread_id, guard)
        data = bytearray()
        position: Cursor | None = None
        if thread is not None:
            self._threads.touch(thread)
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
            if (frames := read_run(run.events, run.last_seq, skip)) is not None:
                data += bytes(frames)
            else:
                logger.error("thread %s: run %s cannot be read, so it is skipped", thread_id, run.run_id)
            position = (run.last_seq, None)
        return HistoryPage(Frames(bytes(data)), None)

    async def locate(self, thread_id: str, cursor: Cursor, *, guard: ThreadGuard | None = None) -> CursorLocation:
        thread = self._threads.find(thread_id, guard)
        seq = cursor[0]
        if thread is not None and thread.claim is not None and seq >= thread.claim.first_seq:
            return CursorLocation("live", 0, 0)
        if seq > (thread.head_seq if thread else 0):
            raise make_cursor_ahead(thread_id, seq)
        if thread is not None and 0 < seq <= thread.base_seq:
            raise make_cursor_of_deleted_thread(thread_id, seq)
        for run in thread.runs if thread else ():
            if run.first_seq <= seq < run.last_seq:
                if thread and any(journal.first_seq == run.first_seq for journal in thread.journals):
                    return CursorLocation("journal", run.first_seq, run.last_seq)
                raise make_cursor_expired(thread_id, seq)
        return CursorLocation("stored", 0, 0)

    async def threads(
        self,
        limit: int,
        before: tuple[int, str] | None,
        include_archived: bool,
        agent_id: str | None,
        scope: str | AnyScope | None,
    ) -> list[ThreadSummary]:
        threads = [
            thread
            for thread in self._threads.values()
            if thread.exists
            and (include_archived or not thread.archived)
            and agent_id in (None, thread.agent_id)
            and scope in (ANY_SCOPE, thread.scope)
            and (before is None or (thread.updated_at, thread.thread_id) < before)
        ]
        threads.sort(key=lambda thread: (thread.updated_at, thread.thread_id), reverse=True)
        return [thread.summarize() for thread in threads[:limit]]

    async def thread(self, thread_id: str, *, guard: ThreadGuard | None = None) -> ThreadSummary:
        return self._threads.require(thread_id, guard).summarize()

    async def rename(self, thread_id: str, name: str | None, *, guard: ThreadGuard | None = None) -> None:
        self._threads.require(thread_id, guard).name = name

    async def archive(self, thread_id: str, archived: bool, *, guard: ThreadGuard | None = None) -> None:
        self._threads.require(thread_id, guard).archived = archived

    async def delete(self, thread_id: str, *, guard: ThreadGuard | None = None) -> None:
        thread = self._threads.require(thread_id, guard)
        if thread.claim is not None:
            raise ThreadAlreadyRunning
        self._threads.remove(thread)

    async def move(self, thread_id: str, scope: str | None, *, guard: ThreadGuard | None = None) -> None:
        thread = self._threads.require(thread_id, guard)
        if thread.claim is not None:
            raise ThreadAlreadyRunning
        thread.scope = scope

    async def clear(self, scope: str | AnyScope | None) -> None:
        for thread in list(self._threads.values()):
            if thread.claim is None and scope in (ANY_SCOPE, thread.scope):
                self._threads.remove(thread)
        self._threads.has_warned = False

    async def runs(
        self, thread_id: str, after: int, limit: int, *, guard: ThreadGuard | None = None
    ) -> list[StoredRun]:
        thread = self._threads.find(thread_id, guard)
        page: list[StoredRun] = []
        size = 0
        for run in thread.runs if thread else ():
            if run.last_seq > after and size < limit and is_readable(run.events):
                page.append(run)
                size += len(run.events) + len(run.input)
        return page

    async def put(self, thread: ThreadSummary, runs: list[StoredRun]) -> None:
        self._last_token += 1
        self._threads.put(thread, runs, self._last_token)

    async def prune(self, max_runs: int | None, before: int | None, limit: int) -> int:
        return self._threads.prune(max_runs, before, limit)

    async def record(self, kind: str, key: str) -> Record | None:
        return self._records.get(kind, key)

    async def records(
        self, kind: str | None, thread_id: str | None, after: tuple[str, str] | None, limit: int
    ) -> list[Record]:
        return self._records.list_page(kind, thread_id, after, limit)

    async def write(self, changes: list[Change], claim: Claim | None = None) -> list[int]:
        check_changes(changes)
        if claim is not None:
            self._threads.require_claim(claim)
        return self._records.write(changes)

    async def inspect(self, fix: bool) -> StoreReport:
        threads = [thread for thread in self._threads.values() if thread.runs]
        runs = [(thread.thread_id, run) for thread in threads for run in thread.runs]
        corrupt = [(thread_id, run.run_id) for thread_id, run in runs if not is_readable(run.events)]
        return StoreReport("ok", len(threads), len(runs), 0, corrupt, [], [], [], len(self._records))
