"""The store on one SQLite file."""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from agentrunner import _core
from agentrunner.errors import StoreClosed, StoreForked
from agentrunner.stores._filesystem import network_filesystem
from agentrunner.stores.types import CursorLocation, HistoryPage, JournalPage, Record, StoredRun, StoreReport
from agentrunner.stores.validation import can_be, check_changes
from agentrunner.types import AnyScope, ThreadSummary

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner._core import Batch, Claim, Recorder
    from agentrunner.stores.types import Change, Cursor


logger = logging.getLogger("agentrunner")

LOOK_EVERY = 0.02
"""Seconds between looks at a run that lives in another process."""


class SqliteStore:
    """Threads in one SQLite file, open to several processes of one machine (not over a network file system).

    `durability`: with `balanced` a killed process loses nothing that was shown, a power cut at most 250 ms of a running
    run and never a finished one; with `strict` nothing. `lease_ttl`: seconds a silent owner keeps its threads, by the
    machine's monotonic clock, which no step of the wall clock moves. `resume_window`: seconds a finished run's raw
    events are kept for readers that resume.

    Raises, when opened: `StoreCorrupt` for a file that is no database, `StoreTooNew`, `StoreReadOnly`, `StoreError`.
    """

    shared = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Literal["balanced", "strict"] = "balanced",
        lease_ttl: float = 10.0,
        resume_window: float = 300.0,
        free_stuck: bool = True,
    ) -> None:
        if durability not in ("balanced", "strict"):
            raise ValueError(f"durability is 'balanced' or 'strict', not {durability!r}")
        if os.fspath(path) in ("", ":memory:"):
            raise ValueError("a SQLite store needs a file; use InMemoryAgentRunner to keep nothing")
        self.path = os.fspath(path)
        self.lease_ttl = lease_ttl
        self._open_core = partial(
            _core.SqliteStore,
            self.path,
            strict=durability == "strict",
            lease_ms=int(lease_ttl * 1000),
            resume_ms=int(resume_window * 1000),
            free_stuck=free_stuck,
        )
        self._core: _core.SqliteStore | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._tickets = 0

    async def open(self) -> None:
        """Open the file, making it if it is not there."""
        if self._core is None:
            if kind := network_filesystem(Path(self.path)):
                logger.warning(
                    "%s is on a network file system (%s): processes of other machines would damage it; keep it on a "
                    "local disk, or use Redis or PostgreSQL", self.path, kind,
                )  # fmt: skip
            self._loop = asyncio.get_running_loop()
            self._pid = os.getpid()
            core = self._core = await asyncio.to_thread(self._open_core)
            self._loop.add_reader(core.fileno(), self._complete)

    async def aclose(self) -> None:
        """Commit what is queued and close the file."""
        core, self._core = self._core, None
        # In a forked child the loop's selector is still the parent's: taking the reader out there would deafen it.
        if core is not None and self._loop is not None and self._pid == os.getpid():
            await asyncio.to_thread(core.close)
            self._finish(core)
            self._loop.remove_reader(core.fileno())
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(StoreClosed("the store is closed"))
            self._waiting.clear()

    def _complete(self) -> None:
        if self._core is not None:
            self._finish(self._core)

    def _finish(self, core: _core.SqliteStore) -> None:
        for ticket, value, error in core.completions():
            future = self._waiting.pop(ticket, None)
            if future is not None and not future.done():
                if error is None:
                    future.set_result(value)
                else:
                    future.set_exception(error)

    def _call(self, verb: Callable[..., None], *args: Any) -> asyncio.Future[Any]:
        if self._core is None or self._loop is None:
            raise StoreClosed("the store is closed")
        if self._pid != os.getpid():
            raise StoreForked("the store was opened before a fork; open it again in the child process")
        self._tickets += 1
        verb(self._core, self._tickets, *args)
        future = self._waiting[self._tickets] = self._loop.create_future()
        return future

    async def claim(
        self,
        thread_id: str,
        run_id: str,
        input: str,
        agent_id: str | None,
        message_ids: list[str],
        scope: str | None,
    ) -> tuple[Claim, list[str]]:
        claimed: tuple[Claim, list[str]] = await self._call(
            _core.SqliteStore.claim, thread_id, run_id, input, agent_id, message_ids, scope
        )
        return claimed

    async def append(self, claim: Claim, batch: Batch, barrier: bool) -> None:
        await self._call(_core.SqliteStore.append, claim, batch, barrier)

    async def renew(self, claims: list[Claim]) -> list[bool]:
        held: list[bool] = await self._call(_core.SqliteStore.renew, claims)
        return held

    async def finish(self, claim: Claim, recorder: Recorder, stored: bool) -> None:
        await self._call(_core.SqliteStore.finish, claim, recorder, stored)

    async def request_stop(self, thread_id: str, run_id: str | None) -> bool:
        found: bool = await self._call(_core.SqliteStore.request_stop, thread_id, run_id)
        return found

    async def live(self, thread_id: str | None = None) -> list[tuple[Claim, bool]]:
        runs: list[tuple[Claim, bool]] = await self._call(_core.SqliteStore.live, thread_id)
        return runs

    async def stops(self) -> list[int]:
        tokens: list[int] = await self._call(_core.SqliteStore.stops)
        return tokens

    async def recover(self, thread_id: str | None = None) -> list[Claim]:
        claims: list[Claim] = await self._call(_core.SqliteStore.recover, thread_id)
        return claims

    async def journal(self, thread_id: str, after: int, until: int | None, limit: int) -> JournalPage:
        return JournalPage(*await self._call(_core.SqliteStore.journal, thread_id, after, until, limit))

    async def changed(self, thread_id: str, after: int) -> None:
        await asyncio.sleep(LOOK_EVERY)

    async def history(self, thread_id: str, after: Cursor, until: int | None, limit: int) -> HistoryPage:
        return HistoryPage(*await self._call(_core.SqliteStore.history, thread_id, after, until, limit))

    async def locate(self, thread_id: str, cursor: Cursor) -> CursorLocation:
        return CursorLocation(*await self._call(_core.SqliteStore.locate, thread_id, cursor))

    async def threads(
        self,
        limit: int,
        before: tuple[int, str] | None,
        include_archived: bool,
        agent_id: str | None,
        scope: str | AnyScope | None,
    ) -> list[ThreadSummary]:
        whose = (True, None) if isinstance(scope, AnyScope) else (False, scope)
        rows = await self._call(_core.SqliteStore.threads, limit, before, include_archived, agent_id, *whose)
        return [ThreadSummary(*row) for row in rows]

    async def thread(self, thread_id: str) -> ThreadSummary:
        return ThreadSummary(*await self._call(_core.SqliteStore.thread, thread_id))

    async def rename(self, thread_id: str, name: str | None) -> None:
        await self._call(_core.SqliteStore.rename, thread_id, name)

    async def archive(self, thread_id: str, archived: bool) -> None:
        await self._call(_core.SqliteStore.archive, thread_id, archived)

    async def delete(self, thread_id: str) -> None:
        await self._call(_core.SqliteStore.delete, thread_id)

    async def clear(self, scope: str | AnyScope | None) -> None:
        whose = (True, None) if isinstance(scope, AnyScope) else (False, scope)
        await self._call(_core.SqliteStore.clear, *whose)

    async def runs(self, thread_id: str, after: int, limit: int) -> list[StoredRun]:
        rows = await self._call(_core.SqliteStore.runs, thread_id, after, limit)
        return [StoredRun(*row) for row in rows]

    async def put(self, thread: ThreadSummary, runs: list[StoredRun]) -> None:
        await self._call(_core.SqliteStore.put, astuple(thread), runs)

    async def prune(self, max_runs: int | None, before: int | None, limit: int) -> int:
        removed: int = await self._call(_core.SqliteStore.prune, max_runs, before, limit)
        return removed

    async def record(self, kind: str, key: str) -> Record | None:
        if not can_be(kind=kind, key=key):
            return None
        row = await self._call(_core.SqliteStore.record, kind, key)
        return row and Record(*row)

    async def records(
        self, kind: str | None, thread_id: str | None, after: tuple[str, str] | None, limit: int
    ) -> list[Record]:
        after_kind, after_key = after or ("", "")
        if not can_be(kind=kind, thread_id=thread_id) or not can_be(kind=after_kind, key=after_key):
            return []
        rows = await self._call(_core.SqliteStore.records, kind, thread_id, after, limit)
        return [Record(*row) for row in rows]

    async def write(self, changes: list[Change], claim: Claim | None = None) -> list[int]:
        check_changes(changes)
        versions: list[int] = await self._call(_core.SqliteStore.write, changes, claim)
        return versions

    async def inspect(self, fix: bool) -> StoreReport:
        return StoreReport(*await self._call(_core.SqliteStore.inspect, fix))
