"""The store on a Redis server, alone or combined with another store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrunner._checks import check_lease_ttl, check_option_type, check_seconds
from agentrunner.errors import StoreClosed
from agentrunner.stores._read_only import refuse_writes
from agentrunner.stores._run_events import check_run_size
from agentrunner.stores.guards import move_thread, with_guards
from agentrunner.stores.redis.client import RedisClient
from agentrunner.stores.redis.records import RedisRecords
from agentrunner.stores.redis.runs import RedisRuns
from agentrunner.stores.redis.threads import RedisThreads
from agentrunner.stores.redis.tiered import TieredRuns
from agentrunner.stores.redis.watcher import RedisWatcher

if TYPE_CHECKING:
    from agentrunner._core import Batch, Claim, Recorder
    from agentrunner.stores.protocol import Store
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

MAX_RUN_BYTES = 448 << 20
"""Greatest size of a stored run in bytes. A value has at most 512 MiB, and the server refuses a larger request."""


class RedisStore:
    """Threads in Redis 6.2 or newer, for any number of processes and machines.

    Acknowledged events are as safe as the server keeps them. If the application's process is killed, nothing is lost.
    If the server is killed, nothing is lost with `appendfsync always`; otherwise it loses what it had not yet written
    to disk. A replica that takes over lacks the data that it had not yet received.

    Args:
        url: The server's URL, as redis-py takes it; in a cluster, that of the node that has the prefix's slot.
        prefix: The beginning of all keys. Its `{…}` puts them into one slot, so that they are all on one node of a
            cluster. No store's prefix may begin with another store's prefix.
        lease_ttl: Seconds, by the server's clock, without a sign of life after which an owner loses its threads. If
            the server is unreachable, the store retries for two thirds of this time.
        resume_window: Seconds that a finished run's raw events are kept for readers that resume their stream.
        history: Another store for everything but the raw events of runs; this store opens and closes it. Leases and
            records are then in it, with its `lease_ttl`. If `prune` removes a run, its raw events stay in Redis until
            their window ends.
        read_only: Whether the store only reads, so that from Redis 7 on a replica suffices. Its writing methods raise
            `StoreReadOnly`. A store given as `history` has this option of its own.

    Raises:
        ValueError: The URL or an option is not valid.

    `open` raises `StoreError` if there is no server, or if it is too old.

    Example::

        runner = AgentRunner(RedisStore("redis://localhost:6379/0", prefix="{myapp}"))
    """

    outlives_loop = False
    """Whether `open` works after the event loop has ended without `aclose()`; connections end with their loop."""

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "{agentrunner}",
        lease_ttl: float = 10.0,
        resume_window: float = 300.0,
        history: Store | None = None,
        read_only: bool = False,
    ) -> None:
        if not isinstance(prefix, str) or not prefix:
            raise ValueError(f"a prefix must be a str of at least one character, not {prefix!r}")
        if history is not None and not hasattr(history, "claim"):
            raise ValueError(f"history must be a Store or None, not {history!r}")
        check_option_type("read_only", read_only, bool)
        check_lease_ttl(lease_ttl)
        check_seconds("resume_window", resume_window)
        self.prefix = prefix
        # The store that has the leases decides how long they last and which processes share them.
        self.lease_ttl = lease_ttl if history is None else history.lease_ttl
        self.shared = True if history is None else history.shared
        self._resume_ms = int(resume_window * 1000)
        history = with_guards(history) if history is not None else None
        self.max_run_bytes = MAX_RUN_BYTES if history is None else getattr(history, "max_run_bytes", MAX_RUN_BYTES)
        self._base = history
        self._client = RedisClient(url, prefix, self.lease_ttl * 2 / 3, read_only=read_only)
        self._watcher = RedisWatcher(self._client)
        self._threads: RedisThreads | Store = RedisThreads(self._client) if history is None else history
        # Records are in the same store as leases and threads: a lease fences their writes, and they are deleted with
        # their thread, each in one atomic step.
        self._records: RedisRecords | Store = RedisRecords(self._client) if history is None else history
        self._open_runs: RedisRuns | TieredRuns | None = None
        self.read_only = read_only
        if read_only:
            refuse_writes(self)

    async def open(self) -> None:
        """Connect to the server, and open the other store if there is one."""
        if self._open_runs is not None:
            return
        await self._client.open()
        if self._base is None:
            self._open_runs = RedisRuns(self._client, max(int(self.lease_ttl * 1000), 1), self._resume_ms)
            return
        try:
            await self._base.open()
        except BaseException:
            await self._client.aclose()
            raise
        self._open_runs = TieredRuns(self._client, self._base, self._resume_ms)

    async def aclose(self) -> None:
        """Write what is queued, then close the connections."""
        runs, self._open_runs = self._open_runs, None
        if runs is not None and not self._client.is_forked:
            await runs.wait_until_idle()
            await self._watcher.aclose()
        await self._client.aclose()
        if self._base is not None:
            await self._base.aclose()

    @property
    def _runs(self) -> RedisRuns | TieredRuns:
        """The methods for runs. Raises `StoreClosed` or `StoreForked`."""
        self._client.require_open()
        if self._open_runs is None:
            raise StoreClosed("the store is closed")
        return self._open_runs

    async def claim(
        self,
        thread_id: str,
        run_id: str,
        input: str,
        agent_id: str | None,
        message_ids: list[str],
        scope: str | None,
    ) -> tuple[Claim, dict[str, int]]:
        return await self._runs.claim(thread_id, run_id, input, agent_id, message_ids, scope)

    async def known_ids(self, thread_id: str, ids: list[str], *, guard: ThreadGuard | None = None) -> dict[str, int]:
        return await self._runs.known_ids(thread_id, ids, guard=guard)

    async def append(self, claim: Claim, batch: Batch, barrier: bool) -> None:
        await self._runs.append(claim, batch, barrier)

    async def renew(self, claims: list[Claim]) -> list[bool]:
        return await self._runs.renew(claims)

    async def release(self, claim: Claim) -> None:
        await self._runs.release(claim)

    async def finish(self, claim: Claim, recorder: Recorder, stored: bool) -> None:
        if stored:
            check_run_size(claim, recorder, self.max_run_bytes)
        await self._runs.finish(claim, recorder, stored)

    async def request_stop(self, thread_id: str, run_id: str | None, *, guard: ThreadGuard | None = None) -> bool:
        return await self._runs.request_stop(thread_id, run_id, guard=guard)

    async def live(self, thread_id: str | None = None) -> list[tuple[Claim, bool]]:
        return await self._runs.live(thread_id)

    async def stops(self) -> list[int]:
        return await self._runs.stops()

    async def recover(self, thread_id: str | None = None) -> list[Claim]:
        return await self._runs.recover(thread_id)

    async def journal(
        self, thread_id: str, after: int, until: int | None, limit: int, *, guard: ThreadGuard | None = None
    ) -> JournalPage:
        return await self._runs.journal(thread_id, after, until, limit, guard=guard)

    async def changed(self, thread_id: str, after: int) -> None:
        await self._watcher.wait_for_change(thread_id, after)

    async def history(
        self, thread_id: str, after: Cursor, until: int | None, limit: int, *, guard: ThreadGuard | None = None
    ) -> HistoryPage:
        return await self._threads.history(thread_id, after, until, limit, guard=guard)

    async def locate(self, thread_id: str, cursor: Cursor, *, guard: ThreadGuard | None = None) -> CursorLocation:
        return await self._runs.locate(thread_id, cursor, guard=guard)

    async def threads(
        self,
        limit: int,
        before: tuple[int, str] | None,
        include_archived: bool,
        agent_id: str | None,
        scope: str | AnyScope | None,
    ) -> list[ThreadSummary]:
        return await self._threads.threads(limit, before, include_archived, agent_id, scope)

    async def thread(self, thread_id: str, *, guard: ThreadGuard | None = None) -> ThreadSummary:
        return await self._threads.thread(thread_id, guard=guard)

    async def rename(self, thread_id: str, name: str | None, *, guard: ThreadGuard | None = None) -> None:
        await self._threads.rename(thread_id, name, guard=guard)

    async def archive(self, thread_id: str, archived: bool, *, guard: ThreadGuard | None = None) -> None:
        await self._threads.archive(thread_id, archived, guard=guard)

    async def delete(self, thread_id: str, *, guard: ThreadGuard | None = None) -> None:
        await self._runs.delete(thread_id, guard=guard)

    async def move(self, thread_id: str, scope: str | None, *, guard: ThreadGuard | None = None) -> None:
        await move_thread(self._threads, thread_id, scope, guard)

    async def clear(self, scope: str | AnyScope | None) -> None:
        await self._runs.clear(scope)

    async def runs(
        self, thread_id: str, after: int, limit: int, *, guard: ThreadGuard | None = None
    ) -> list[StoredRun]:
        return await self._threads.runs(thread_id, after, limit, guard=guard)

    async def put(self, thread: ThreadSummary, runs: list[StoredRun]) -> None:
        await self._threads.put(thread, runs)

    async def prune(self, max_runs: int | None, before: int | None, limit: int) -> int:
        return await self._threads.prune(max_runs, before, limit)

    async def record(self, kind: str, key: str) -> Record | None:
        return await self._records.record(kind, key)

    async def records(
        self, kind: str | None, thread_id: str | None, after: tuple[str, str] | None, limit: int
    ) -> list[Record]:
        return await self._records.records(kind, thread_id, after, limit)

    async def write(self, changes: list[Change], claim: Claim | None = None) -> list[int]:
        return await self._records.write(changes, claim)

    async def inspect(self, fix: bool) -> StoreReport:
        return await self._threads.inspect(fix)
