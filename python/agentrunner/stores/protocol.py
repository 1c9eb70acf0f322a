"""The `Store` protocol: the place where an `AgentRunner` keeps threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from agentrunner._core import Batch, Claim, Recorder
    from agentrunner.stores.types import (
        Change,
        Cursor,
        CursorLocation,
        HistoryPage,
        JournalPage,
        Record,
        StoredRun,
        StoreReport,
        ThreadGuard,
    )
    from agentrunner.types import AnyScope, ThreadSummary


class Store(Protocol):
    """The place where an `AgentRunner` keeps threads: runs, raw events and records.

    This is the specification for custom stores. `agentrunner.testing.StoreConformance` tests every rule that is stated
    here.

    These rules hold for all methods:

    - What a method has written is durable when the method returns.
    - A thread has at most one live run. The owner of the run holds the thread under a lease, and the `Claim` with the
      thread's newest fencing token is the proof of it. `append` and `finish` with any other claim raise `LeaseLost` and
      write nothing.
    - A method that raises one of the errors listed under it has changed nothing.
    - A `guard` names the scope or the incarnation of the thread that the caller means. If the thread differs, the
      method does what it does for an unknown thread. The guard is checked in the same atomic step as the rest, so that
      no caller reads or changes a thread that another scope has created under the id of a deleted one.
    - Every method may raise `StoreError`. After `aclose`, a store that had something to close raises `StoreClosed`.

    Words and units: a *frame* is one event as SSE bytes. A *sequence number* counts the raw events of a thread from 1,
    through all its runs. An *incarnation* is one life of a thread, from the claim or `put` that creates it to its
    deletion: a number other than 0 that no other thread of the same id has. Times are milliseconds since 1970 (UTC);
    durations are seconds. Ids and texts come from outside and may have any characters.
    """

    lease_ttl: float
    """Seconds without a sign of life after which an owner loses its thread."""
    shared: bool
    """Whether other processes can open the same threads."""
    max_run_bytes: int
    """Greatest size of a run's compacted events in bytes; a store without a limit omits it."""

    async def open(self) -> None:
        """Prepare the store for use in the running event loop."""

    async def aclose(self) -> None:
        """Write what is queued, then release all resources. A second call does nothing."""

    async def claim(
        self, thread_id: str, run_id: str, input: str, agent_id: str | None, message_ids: list[str], scope: str | None
    ) -> tuple[Claim, dict[str, int]]:
        """Start a run by taking its thread, in one atomic step.

        A thread that does not exist is created. A run whose owner is gone still holds its thread: only `recover` takes
        it over, never a claim.

        Args:
            thread_id: The thread to take.
            run_id: The id of the new run.
            input: The run's input, a JSON object. The claim, `recover` and `runs` return it byte for byte.
            agent_id: The agent of the run. After the run is stored, the thread has this agent, unless it is `None`.
            message_ids: The ids of the messages in the input.
            scope: The tenant or user that a thread belongs to, or `None`. The first claim fixes it, until a `move`.

        Returns:
            The claim, with a fencing token greater than any before it, the run's first sequence number and the
            thread's incarnation; and those of `message_ids` that the thread's stored runs already have, as `known_ids`
            returns them. A thread that is created begins after every sequence number that a deleted thread of the same
            id has used.

        Raises:
            ThreadNotFound: The thread belongs to another scope. This is checked first, so that another scope does not
                learn whether the thread exists.
            ThreadAlreadyRunning: The thread has a live run. This is checked before the run id.
            RunAlreadyExists: The thread has a run with this id. Other threads may have one too.

        """
        ...

    async def known_ids(self, thread_id: str, ids: list[str], *, guard: ThreadGuard | None = None) -> dict[str, int]:
        """Return those of the ids that the thread's stored runs have, each with a number.

        The number is the `last_seq` of the newest stored run that has the id in the `message_ids` of its recorder. It
        is 0 only for an id that a version without these numbers has stored. A run asks for a few ids at each new id of
        its agent, so this must not take longer for a longer thread.
        """
        ...

    async def append(self, claim: Claim, batch: Batch, barrier: bool) -> None:
        """Store a batch of raw frames and extend the lease.

        Args:
            claim: The run's claim.
            batch: Frames that follow the last ones of the run without a gap. Store all of them or none.
            barrier: True if the batch must survive a power cut; false if it must survive only the end of the process.

        Raises:
            LeaseLost: The claim is not the thread's newest.

        """

    async def renew(self, claims: list[Claim]) -> list[bool]:
        """Extend the leases of several claims.

        Return for each claim, in the same order, whether it still holds its thread; false for an unknown thread.
        """
        ...

    async def release(self, claim: Claim) -> None:
        """Note that the caller no longer uses a claim, so that its lease can expire.

        A store should extend the leases of all claims that `claim` and `recover` have returned, in a separate thread,
        until they are released or finished: an agent can block the event loop for longer than a lease lasts. It must
        not extend leases of runs that are marked to be stopped, so that a process that hangs can lose them; only
        `renew` and `append` do. A store that does not extend leases can omit this method, but then its owners lose
        their threads when their event loop is blocked.
        """

    async def finish(self, claim: Claim, recorder: Recorder, stored: bool) -> None:
        """End a run and release its lease, in one atomic step.

        The run's raw frames stay readable with `journal` until the resume window ends.

        Args:
            claim: The run's claim.
            recorder: The recorder that has all events of the run: `compacted()` are the events to store,
                `message_ids` are the ids that the thread now has, `last_seq` is the run's last sequence number. For a
                large run, read both in a worker thread.
            stored: False to keep nothing of the run in the history: its run id is free again, and a thread without
                any other run no longer exists. Its sequence numbers are not used again while its raw frames are kept.

        Raises:
            LeaseLost: The claim is not the thread's newest.
            StoreValueTooLarge: `recorder.compacted_bytes` is greater than `max_run_bytes`. The run stays live.

        """

    async def request_stop(self, thread_id: str, run_id: str | None, *, guard: ThreadGuard | None = None) -> bool:
        """Mark the thread's live run, so that its owner stops it.

        Args:
            thread_id: The thread.
            run_id: The only run to mark, or `None` for whichever run is live.
            guard: What the thread must be.

        Returns:
            True if this call has set the mark; false if no such run is live, or if it was marked before.

        """
        ...

    async def live(self, thread_id: str | None = None) -> list[tuple[Claim, bool]]:
        """Return the claims of live runs, of a thread or of all, each with its mark to be stopped."""
        ...

    async def stops(self) -> list[int]:
        """Return the fencing tokens of all live runs that are marked to be stopped.

        The runner calls this ten times a second, so it must be cheap.
        """
        ...

    async def recover(self, thread_id: str | None = None) -> list[Claim]:
        """Take over the live runs whose owner is gone or whose lease has ended.

        A run whose claim is used in this process, by this store or another, is never taken over, even if its lease has
        ended. The same applies to a run whose owner is alive on this machine, unless the run is marked to be stopped,
        because its process may hang.

        If several processes call this at the same time, exactly one of them gets a run. This is also the time to delete
        raw frames whose resume window has ended.

        Args:
            thread_id: The only thread to recover, or `None` for all.

        Returns:
            One claim for each run, like the one before but for a new, greater fencing token.

        """
        ...

    async def journal(
        self, thread_id: str, after: int, until: int | None, limit: int, *, guard: ThreadGuard | None = None
    ) -> JournalPage:
        """Return a page of raw frames, read in the same moment as the live run's token.

        Args:
            thread_id: The thread; an unknown one has no frames.
            after: The sequence number after which the page begins.
            until: Return nothing of a run that begins after this sequence number. The run that contains it may be
                returned to its end. `None` for no bound.
            limit: The approximate size of the page in bytes. It has at least one frame, if there is any.
            guard: What the thread must be.

        """
        ...

    async def changed(self, thread_id: str, after: int) -> None:
        """Wait until a follower should read the journal again.

        Return when there may be frames after the sequence number `after`, or when the thread's live run may have
        ended or been replaced. Returning too early is allowed. Return within about a second in any case. Waiting 20 ms
        is good enough.
        """

    async def history(
        self, thread_id: str, after: Cursor, until: int | None, limit: int, *, guard: ThreadGuard | None = None
    ) -> HistoryPage:
        """Return a page of stored runs as compacted frames. Runs that cannot be read are skipped.

        Args:
            thread_id: The thread; an unknown one has no frames.
            after: The cursor after which the page begins. With an index, the rest of that run comes first.
            until: Return only runs that begin before this sequence number. `None` for no bound.
            limit: The approximate size of the page in bytes. It ends after a whole run, and has at least one.
            guard: What the thread must be.

        """
        ...

    async def locate(self, thread_id: str, cursor: Cursor, *, guard: ThreadGuard | None = None) -> CursorLocation:
        """Return where a reader continues from a cursor.

        A cursor in a run that was pruned counts as between runs.

        Raises:
            CursorExpired: The cursor is inside a finished run whose raw frames are no longer kept, or it belongs to an
                earlier incarnation of the thread.
            CursorAhead: The cursor is after everything that the thread ever had.

        """
        ...

    async def threads(
        self,
        limit: int,
        before: tuple[int, str] | None,
        include_archived: bool,
        agent_id: str | None,
        scope: str | AnyScope | None,
    ) -> list[ThreadSummary]:
        """Return a page of the threads that have a stored or live run, newest first.

        Args:
            limit: The greatest number of threads on the page.
            before: `(updated_at, thread_id)` of the last thread on the page before, or `None` for the first page.
            include_archived: Whether archived threads are listed too.
            agent_id: The agent whose threads are listed, or `None` for all.
            scope: The scope whose threads are listed; `None` for threads without a scope, `ANY_SCOPE` for all.

        Returns:
            Summaries in descending order of `(updated_at, thread_id)`.

        """
        ...

    async def thread(self, thread_id: str, *, guard: ThreadGuard | None = None) -> ThreadSummary:
        """Return the summary of a thread.

        Raises:
            ThreadNotFound: The thread has neither a stored nor a live run.
        """
        ...

    async def rename(self, thread_id: str, name: str | None, *, guard: ThreadGuard | None = None) -> None:
        """Set a thread's name, or remove it with `None`. Raises `ThreadNotFound`."""

    async def archive(self, thread_id: str, archived: bool, *, guard: ThreadGuard | None = None) -> None:
        """Mark a thread as archived or not archived. Raises `ThreadNotFound`."""

    async def delete(self, thread_id: str, *, guard: ThreadGuard | None = None) -> None:
        """Delete a thread with its runs, raw frames, message ids and records, in one atomic step.

        Raises:
            ThreadNotFound: The thread does not exist.
            ThreadAlreadyRunning: The thread has a live run.

        """

    async def move(self, thread_id: str, scope: str | None, *, guard: ThreadGuard | None = None) -> None:
        """Move a thread to another scope, or to none with `None`, in one atomic step.

        Nothing else about it changes, not even its incarnation. A store can omit this method; its threads then stay in
        the scopes that created them.

        Raises:
            ThreadNotFound: The thread does not exist.
            ThreadAlreadyRunning: The thread has a live run.

        """

    async def clear(self, scope: str | AnyScope | None) -> None:
        """Delete each thread of a scope, of none (`None`) or any, that has no live run."""

    async def runs(
        self, thread_id: str, after: int, limit: int, *, guard: ThreadGuard | None = None
    ) -> list[StoredRun]:
        """Return a page of stored runs, the oldest first. Runs that cannot be read are skipped.

        Args:
            thread_id: The thread; an unknown one has no runs.
            after: The sequence number after which a run must end to be on the page.
            limit: The approximate size of the page in bytes of events and inputs. It has at least one run, if there
                is any.
            guard: What the thread must be.

        """
        ...

    async def put(self, thread: ThreadSummary, runs: list[StoredRun]) -> None:
        """Add copied runs after those that a thread already has, and set the thread's summary.

        The thread takes the summary's name, agent, scope, archived mark and times. A run that the thread already has
        is left unchanged, so that an interrupted copy can be repeated. Each new run's parent is the run before it,
        regardless of its `parent_run_id`. If `runs` is empty, no thread is created.

        Args:
            thread: The summary; its `running` and `runs` are ignored.
            runs: The runs in the order of their sequence numbers, which may have gaps. Add all of them or none.

        Raises:
            ThreadAlreadyRunning: The thread has a live run.
            StoreError: A new run does not begin after the thread's last sequence number.

        """

    async def prune(self, max_runs: int | None, before: int | None, limit: int) -> int:
        """Delete the oldest runs of each thread, with their raw frames and message ids.

        Only a thread's oldest runs are deleted, so that the others are a complete chain, whose first run has no parent.
        A message id is deleted with the newest run that has it. A thread that has no run left is deleted with its
        records, unless a run is live. One thread's runs are deleted in one atomic step; several threads need not be.

        Args:
            max_runs: Delete all but this many of a thread's newest runs. `None` to keep any number.
            before: Delete runs that ended before this time, in milliseconds since 1970. `None` to keep any age.
            limit: The greatest number of runs to delete in this call.

        Returns:
            The number of deleted runs; 0 when there is nothing left to delete.

        """
        ...

    async def record(self, kind: str, key: str) -> Record | None:
        """Return a record, or `None` if it does not exist."""
        ...

    async def records(
        self, kind: str | None, thread_id: str | None, after: tuple[str, str] | None, limit: int
    ) -> list[Record]:
        """Return a page of records in the order of `(kind, key)`, compared by code points.

        Args:
            kind: The kind of the records, or `None` for all kinds.
            thread_id: The thread of the records, or `None` for all threads.
            after: `(kind, key)` after which the page begins, or `None` for the first page.
            limit: The greatest number of records on the page.

        """
        ...

    async def write(self, changes: list[Change], claim: Claim | None = None) -> list[int]:
        """Make all changes to records, or none.

        They survive a power cut, like a batch with a barrier.

        Args:
            changes: At most one change for each record. Call `stores.validation.check_changes` first: it raises
                `InvalidRecord` for the same changes in every store.
            claim: Make the changes only while this claim holds its thread; the records may belong to any thread.

        Returns:
            The new version of each record, in the order of the changes; 0 for one that was removed.

        Raises:
            InvalidRecord: No store can keep one of the changes.
            LeaseLost: The claim no longer holds its thread.
            RecordConflict: A record does not have the version that its change expects, or it belongs to another thread.

        """
        ...

    async def inspect(self, fix: bool) -> StoreReport:
        """Check the whole store, for `agentrunner doctor`.

        With `fix`, repair broken chains of runs and free stuck threads. The report shows the state before.
        """
        ...
