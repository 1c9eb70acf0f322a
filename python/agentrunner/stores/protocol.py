"""The store protocol: what an `AgentRunner` needs of the place where threads are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from agentrunner._core import Batch, Claim, Recorder
    from agentrunner.stores.types import (
        Change,
        Cursor,
        HistoryPage,
        JournalPage,
        Place,
        Record,
        Report,
        StoredRun,
    )
    from agentrunner.types import AnyScope, ThreadSummary


class Store(Protocol):
    """Keeps threads. Every method may raise `StoreError`; `StoreClosed` after `aclose`.

    A thread's live run is held under a lease by the one `Claim` whose fencing token is the newest; `append` and
    `finish` of any other raise `LeaseLost` and write nothing. What a method has returned from is durable.
    """

    lease_ttl: float
    """Seconds after which a silent owner loses its threads."""
    shared: bool
    """Whether other processes may use the same threads."""

    async def open(self) -> None:
        """Bind to the running event loop and make ready."""

    async def aclose(self) -> None:
        """Write what is queued and let go of everything. May be called twice."""

    async def claim(
        self,
        thread_id: str,
        run_id: str,
        input: str,
        agent_id: str | None,
        message_ids: list[str],
        scope: str | None,
    ) -> tuple[Claim, list[str]]:
        """Take the thread for a run, atomically; give the claim and those of `message_ids` the thread knows.

        A new thread is the scope's from its first claim on. A run whose owner is gone still has its thread: `recover`
        takes over, never a claim. Raises, changing nothing: `ThreadNotFound` for a thread of
        another scope, before anything else; `ThreadAlreadyRunning`; `RunAlreadyExists` for a run id used before in any
        thread.
        """
        ...

    async def append(self, claim: Claim, batch: Batch, barrier: bool) -> None:
        """Keep a batch of frames, all or none, and extend the lease. A barrier must outlive a power cut."""

    async def renew(self, claims: list[Claim]) -> list[bool]:
        """Extend leases; false for each that is no longer held."""
        ...

    async def finish(self, claim: Claim, recorder: Recorder, stored: bool) -> None:
        """End the run in one step: its compacted events and message ids kept (if `stored`), its lease gone."""

    async def request_stop(self, thread_id: str, run_id: str | None) -> bool:
        """Mark the live run (only that one, with `run_id`) as to be stopped by its owner.

        False if there is none, or it was asked to stop before.
        """
        ...

    async def live(self, thread_id: str | None = None) -> list[tuple[Claim, bool]]:
        """Give the live runs, each with whether a stop is asked for."""
        ...

    async def stops(self) -> list[int]:
        """Give the fencing tokens of live runs that are asked to stop; asked for ten times a second."""
        ...

    async def recover(self, thread_id: str | None = None) -> list[Claim]:
        """Take over, under new tokens, live runs whose owner is gone or whose lease has ended."""
        ...

    async def journal(self, thread_id: str, after: int, until: int | None, limit: int) -> JournalPage:
        """Give raw frames behind a sequence number, about `limit` bytes.

        Of a run that `until` is in all may be given, of one that begins after it nothing.
        """
        ...

    async def changed(self, thread_id: str, after: int) -> None:
        """Return once the journal may hold frames behind `after`, or the thread's live run may be another, or none.

        It may return early, and does within a second; a poll every 20 ms is good enough.
        """

    async def history(self, thread_id: str, after: Cursor, until: int | None, limit: int) -> HistoryPage:
        """Give stored runs' frames behind a cursor, of runs that begin before `until`: whole runs, about `limit` bytes.

        A run that cannot be read is left out.
        """
        ...

    async def locate(self, thread_id: str, cursor: Cursor) -> Place:
        """Say where a cursor is; in a run that was pruned it is between runs. Raises `CursorExpired`, `CursorAhead`."""
        ...

    async def threads(
        self,
        limit: int,
        before: tuple[int, str] | None,
        include_archived: bool,
        agent_id: str | None,
        scope: str | AnyScope | None,
    ) -> list[ThreadSummary]:
        """List threads with a stored or live run, newest first, behind `(updated_at, thread_id)` of the page before."""
        ...

    async def thread(self, thread_id: str) -> ThreadSummary:
        """Give a thread that has a stored run or a live one. Raises `ThreadNotFound`."""
        ...

    async def rename(self, thread_id: str, name: str | None) -> None:
        """Name a thread. Raises `ThreadNotFound`."""

    async def archive(self, thread_id: str, archived: bool) -> None:
        """Mark a thread as archived or not. Raises `ThreadNotFound`."""

    async def delete(self, thread_id: str) -> None:
        """Remove a thread and all it has, its records too. Raises `ThreadNotFound`, `ThreadAlreadyRunning`."""

    async def clear(self, scope: str | AnyScope | None) -> None:
        """Remove every thread of the scope that has no live run, and all it has."""

    async def runs(self, thread_id: str, after: int, limit: int) -> list[StoredRun]:
        """Give stored runs that end behind a sequence number, in the chain's order: about `limit` bytes, at least one.

        A run that cannot be read is left out; an unknown thread has none.
        """
        ...

    async def put(self, thread: ThreadSummary, runs: list[StoredRun]) -> None:
        """Add runs behind those a thread has, all or none; it takes the summary's name, agent, scope, mark and times.

        A run the thread has already is left as it is, so that what was cut off can be done again. Raises, changing
        nothing: `ThreadAlreadyRunning`; `RunAlreadyExists` for a run id of another thread; `StoreError` for runs that
        do not begin behind the thread's last sequence number.
        """

    async def prune(self, max_runs: int | None, before: int | None, limit: int) -> int:
        """Remove the oldest runs of each thread: beyond its newest `max_runs`, or ended before `before` (ms of 1970).

        Only ever a thread's oldest, with their raw frames and message ids, so that what is left is a whole chain whose
        first run has no parent; a thread left without a run goes unless one is live. At most `limit` runs a call, in
        one step each thread; gives how many.
        """
        ...

    async def record(self, kind: str, key: str) -> Record | None:
        """Give a record, `None` if there is none."""
        ...

    async def records(
        self, kind: str | None, thread_id: str | None, after: tuple[str, str] | None, limit: int
    ) -> list[Record]:
        """Give records (of a kind, of a thread) in the order of `(kind, key)`, by code points, behind one of these."""
        ...

    async def write(self, changes: list[Change], claim: Claim | None = None) -> list[int]:
        """Make all the changes, or none; give the records' new versions, 0 for a removed one. It is as a barrier.

        With a claim, only while that holds its thread. A record is changed at most once a call. Raises, changing
        nothing: `InvalidRecord` (what that is, `stores.validation` says for every store); `LeaseLost`; `RecordConflict`
        where a record has another version than a change expects, or another thread.
        """
        ...

    async def inspect(self, fix: bool) -> Report:
        """Look everything over, as `agentrunner doctor` does; with `fix` mend the chains and free stuck threads."""
        ...
