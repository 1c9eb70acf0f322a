"""The store: each verb goes to those of runs or to those of threads, here or in another store."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrunner.errors import StoreClosed
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
    )
    from agentrunner.types import AnyScope, ThreadSummary


class RedisStore:
    """Threads in Redis, 6.2 or newer, open to any number of processes and machines.

    `url`: as redis-py takes it; in a cluster, of the node that has the prefix's slot. `prefix`: what all keys begin
    with; its `{…}` puts them into one slot, so that one prefix is never spread over nodes. No prefix may begin with
    another. `lease_ttl`: seconds, by the server's clock, a silent owner keeps its threads. `resume_window`: seconds a
    finished run's raw events are kept for readers that resume. `history`: another store, which this one opens and
    closes, for all but the raw events of runs. Leases and records are then kept there, with its `lease_ttl`; and of a
    run removed there by `prune`, raw events stay here until their window ends.

    What is acknowledged is as safe as the server is told to keep it: a killed process of ours loses nothing; a killed
    server nothing with `appendfsync always`, else up to what it had not yet written; a replica that takes over lacks
    what it had not yet received. Raises, when opened: `StoreError` where there is no server, or one that is too old.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "{agentrunner}",
        lease_ttl: float = 10.0,
        resume_window: float = 300.0,
        history: Store | None = None,
    ) -> None:
        if not prefix:
            raise ValueError("a prefix has at least one character")
        self.prefix = prefix
        # Where leases are kept is where it is said how long they last, and who may share them.
        self.lease_ttl = lease_ttl if history is None else history.lease_ttl
        self.shared = True if history is None else history.shared
        self._resume_ms = int(resume_window * 1000)
        self._history = history
        self._client = RedisClient(url, prefix, self.lease_ttl * 2 / 3)
        self._watcher = RedisWatcher(self._client)
        self._threads: RedisThreads | Store = RedisThreads(self._client) if history is None else history
        # Where leases and threads are: fenced by the ones and gone with the others in one step.
        self._records: RedisRecords | Store = RedisRecords(self._client) if history is None else history
        self._opened: RedisRuns | TieredRuns | None = None

    async def open(self) -> None:
        """Connect."""
        if self._opened is not None:
            return
        await self._client.open()
        if self._history is None:
            self._opened = RedisRuns(self._client, max(int(self.lease_ttl * 1000), 1), self._resume_ms)
            return
        try:
            await self._history.open()
        except BaseException:
            await self._client.aclose()
            raise
        self._opened = TieredRuns(self._client, self._history, self._resume_ms)

    async def aclose(self) -> None:
        """Write what is queued and let go of the connections."""
        opened, self._opened = self._opened, None
        if opened is not None and not self._client.forked:
            await opened.wait_until_idle()
            await self._watcher.aclose()
        await self._client.aclose()
        if self._history is not None:
            await self._history.aclose()

    @property
    def _runs(self) -> RedisRuns | TieredRuns:
        self._client.check()
        if self._opened is None:
            raise StoreClosed("the store is closed")
        return self._opened

    async def claim(
        self,
        thread_id: str,
        run_id: str,
        input: str,
        agent_id: str | None,
        message_ids: list[str],
        scope: str | None,
    ) -> tuple[Claim, list[str]]:
        return await self._runs.claim(thread_id, run_id, input, agent_id, message_ids, scope)

    async def append(self, claim: Claim, batch: Batch, barrier: bool) -> None:
        await self._runs.append(claim, batch, barrier)

    async def renew(self, claims: list[Claim]) -> list[bool]:
        return await self._runs.renew(claims)

    async def finish(self, claim: Claim, recorder: Recorder, stored: bool) -> None:
        await self._runs.finish(claim, recorder, stored)

    async def request_stop(self, thread_id: str, run_id: str | None) -> bool:
        return await self._runs.request_stop(thread_id, run_id)

    async def live(self, thread_id: str | None = None) -> list[tuple[Claim, bool]]:
        return await self._runs.live(thread_id)

    async def stops(self) -> list[int]:
        return await self._runs.stops()

    async def recover(self, thread_id: str | None = None) -> list[Claim]:
        return await self._runs.recover(thread_id)

    async def journal(self, thread_id: str, after: int, until: int | None, limit: int) -> JournalPage:
        return await self._runs.journal(thread_id, after, until, limit)

    async def changed(self, thread_id: str, after: int) -> None:
        await self._watcher.changed(thread_id, after)

    async def history(self, thread_id: str, after: Cursor, until: int | None, limit: int) -> HistoryPage:
        return await self._threads.history(thread_id, after, until, limit)

    async def locate(self, thread_id: str, cursor: Cursor) -> CursorLocation:
        return await self._runs.locate(thread_id, cursor)

    async def threads(
        self,
        limit: int,
        before: tuple[int, str] | None,
        include_archived: bool,
        agent_id: str | None,
        scope: str | AnyScope | None,
    ) -> list[ThreadSummary]:
        return await self._threads.threads(limit, before, include_archived, agent_id, scope)

    async def thread(self, thread_id: str) -> ThreadSummary:
        return await self._threads.thread(thread_id)

    async def rename(self, thread_id: str, name: str | None) -> None:
        await self._threads.rename(thread_id, name)

    async def archive(self, thread_id: str, archived: bool) -> None:
        await self._threads.archive(thread_id, archived)

    async def delete(self, thread_id: str) -> None:
        await self._runs.delete(thread_id)

    async def clear(self, scope: str | AnyScope | None) -> None:
        await self._runs.clear(scope)

    async def runs(self, thread_id: str, after: int, limit: int) -> list[StoredRun]:
        return await self._threads.runs(thread_id, after, limit)

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
