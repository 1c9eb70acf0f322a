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
from agentrunner._checks import check_lease_ttl, check_option_type, check_seconds
from agentrunner.errors import StoreClosed, StoreForked
from agentrunner.stores._filesystem import find_shared_filesystem
from agentrunner.stores._run_events import check_run_size
from agentrunner.stores.sqlite_files import back_up, describe_missing_log
from agentrunner.stores.types import CursorLocation, HistoryPage, JournalPage, Record, StoredRun, StoreReport
from agentrunner.stores.validation import check_changes, is_valid_name
from agentrunner.types import AnyScope, ThreadSummary

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner._core import Batch, Claim, Recorder
    from agentrunner.stores.types import Backup, Change, Cursor, ThreadGuard


logger = logging.getLogger("agentrunner")

POLL_SECONDS = 0.02
"""Seconds between two reads of a run that lives in another process."""


class SqliteStore:
    """Threads in one SQLite file, which several processes of one machine can open.

    The file must be on a local disk: SQLite's locks do not work over a network file system, nor in a folder that a
    virtual machine or Docker Desktop shares with its host. `open` logs a warning for those it recognizes.

    Args:
        path: The file; it is created when the store is opened.
        durability: What survives a power cut. A killed process loses nothing that was shown in either case.
            `balanced`: all finished runs, and all but the last 250 ms of a live one. `strict`: everything shown.
        lease_ttl: Seconds without a sign of life after which an owner loses its threads. They are counted by the
            machine's monotonic clock, so that a change of the wall clock has no effect.
        resume_window: Seconds that a finished run's raw events are kept for readers that resume their stream.
        free_stuck: Whether `open` frees threads that a TypeScript runner left marked as running.
        read_only: Whether the store only reads a file that exists. It creates and changes no file, so it can read from
            read-only media, and its writing methods raise `StoreReadOnly`. A file of an older version, or to which a
            TypeScript runner has added runs, is read from a temporary copy.

    Raises:
        TypeError: The path is neither a `str` nor a `Path`.
        ValueError: An option is not valid, or the path is empty or `:memory:`.

    `open` raises `StoreCorrupt` for a file that is not a database, `StoreTooNew`, `StoreReadOnly` or `StoreError`.

    If the file, its log (`-wal`) or the log's index (`-shm`) is removed, renamed or replaced while the store is open,
    every method raises `StoreMissing` within a second. What was acknowledged before is then in the file itself, and the
    store continues once the same file is back. To use another file in its place, close the store and open it again.

    Example::

        runner = AgentRunner(SqliteStore("threads.db", durability="strict"))
    """

    shared = True
    max_run_bytes = 900_000_000
    """Greatest size of a stored run in bytes. A row of SQLite has at most 10^9, and the run's input needs some."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Literal["balanced", "strict"] = "balanced",
        lease_ttl: float = 10.0,
        resume_window: float = 300.0,
        free_stuck: bool = True,
        read_only: bool = False,
    ) -> None:
        if durability not in ("balanced", "strict"):
            raise ValueError(f"durability must be 'balanced' or 'strict', not {durability!r}")
        if not isinstance(path, (str, os.PathLike)) or not isinstance(os.fspath(path), str):
            raise TypeError(f"the path of a SQLite store must be a str or a Path, not {type(path).__name__}")
        if os.fspath(path) in ("", ":memory:"):
            raise ValueError("a SQLite store needs a file; use InMemoryAgentRunner to keep threads in memory")
        check_lease_ttl(lease_ttl)
        check_seconds("resume_window", resume_window)
        check_option_type("free_stuck", free_stuck, bool)
        check_option_type("read_only", read_only, bool)
        self.read_only = read_only
        self.path = os.fspath(path)
        self.lease_ttl = lease_ttl
        self._open_core = partial(
            _core.SqliteStore,
            self.path,
            strict=durability == "strict",
            lease_ms=int(lease_ttl * 1000),
            resume_ms=int(resume_window * 1000),
            free_stuck=free_stuck,
            read_only=read_only,
        )
        self._core: _core.SqliteStore | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._waiters: dict[int, asyncio.Future[Any]] = {}
        self._last_ticket = 0

    async def open(self) -> None:
        """Open the file, creating it if it does not exist, unless it is only read."""
        if self._core is not None and self._loop is not None and self._loop.is_closed():
            # That loop ended without `aclose()`.
            core, self._core = self._core, None
            self._waiters.clear()
            await asyncio.to_thread(core.close)
        if self._core is None:
            if not self.read_only and (kind := find_shared_filesystem(Path(self.path))):
                logger.warning(
                    "%s is on a file system (%s) that other machines, or this one's host, can share: SQLite's locks do "
                    "not reach them, and the file can be damaged; keep it on a local disk, or use Redis or PostgreSQL",
                    self.path, kind,
                )  # fmt: skip
            self._loop = asyncio.get_running_loop()
            self._pid = os.getpid()
            core = self._core = await asyncio.to_thread(self._open_core)
            self._loop.add_reader(core.fileno(), self._handle_completions)
            if core.missing_log is not None:
                logger.warning(
                    "%s %s; restore a backup, or accept the loss with `agentrunner doctor --fix`",
                    self.path, describe_missing_log(core.missing_log),
                )  # fmt: skip

    async def aclose(self) -> None:
        """Commit what is queued, then close the file."""
        core, self._core = self._core, None
        # A forked child shares its parent's selector: removing the reader there would stop the parent's reads.
        if core is not None and self._loop is not None and self._pid == os.getpid():
            await asyncio.to_thread(core.close)
            self._resolve(core)
            self._loop.remove_reader(core.fileno())
            for future in self._waiters.values():
                if not future.done():
                    future.set_exception(StoreClosed("the store is closed"))
            self._waiters.clear()

    def _handle_completions(self) -> None:
        if self._core is not None:
            self._resolve(self._core)

    def _resolve(self, core: _core.SqliteStore) -> None:
        """Set the results of all calls that the core has completed."""
        for ticket, value, error in core.completions():
            future = self._waiters.pop(ticket, None)
            if future is not None and not future.done():
                if error is None:
                    future.set_result(value)
                else:
                    future.set_exception(error)

    def _call(self, verb: Callable[..., None], *args: Any) -> asyncio.Future[Any]:
        """Start a method of the core, which completes it in its own thread."""
        if self._core is None or self._loop is None:
            raise StoreClosed("the store is closed")
        if self._pid != os.getpid():
            raise StoreForked("the store was opened before a fork; open it again in the child process")
        self._last_ticket += 1
        verb(self._core, self._last_ticket, *args)
        future = self._waiters[self._last_ticket] = self._loop.create_future()
        return future

    async def claim(
        self,
        thread_id: str,
        run_id: str,
        input: str,
        agent_id: str | None,
        message_ids: list[str],
        scope: str | None,
    ) -> tuple[Claim, dict[str, int]]:
        claiming = self._call(_core.SqliteStore.claim, thread_id, run_id, input, agent_id, message_ids, scope)
        try:
            claim_and_known_ids: tuple[Claim, dict[str, int]] = await asyncio.shield(claiming)
        except asyncio.CancelledError:
            # No caller will use the claim, so its lease must end.
            claiming.add_done_callback(self._release_claimed)
            raise
        return claim_and_known_ids

    def _release_claimed(self, claiming: asyncio.Future[tuple[Claim, dict[str, int]]]) -> None:
        if self._core is not None and not claiming.cancelled() and claiming.exception() is None:
            self._core.release(claiming.result()[0].token)

    async def known_ids(self, thread_id: str, ids: list[str], *, guard: ThreadGuard | None = None) -> dict[str, int]:
        known_ids: dict[str, int] = await self._call(_core.SqliteStore.known_ids, thread_id, ids, _split_guard(guard))
        return known_ids

    async def append(self, claim: Claim, batch: Batch, barrier: bool) -> None:
        await self._call(_core.SqliteStore.append, claim, batch, barrier)

    async def renew(self, claims: list[Claim]) -> list[bool]:
        is_held: list[bool] = await self._call(_core.SqliteStore.renew, claims)
        return is_held

    async def release(self, claim: Claim) -> None:
        if self._core is not None:
            self._core.release(claim.token)

    async def finish(self, claim: Claim, recorder: Recorder, stored: bool) -> None:
        if stored:
            check_run_size(claim, recorder, self.max_run_bytes)
        await self._call(_core.SqliteStore.finish, claim, recorder, stored)

    async def request_stop(self, thread_id: str, run_id: str | None, *, guard: ThreadGuard | None = None) -> bool:
        is_marked: bool = await self._call(_core.SqliteStore.request_stop, thread_id, run_id, _split_guard(guard))
        return is_marked

    async def live(self, thread_id: str | None = None) -> list[tuple[Claim, bool]]:
        runs: list[tuple[Claim, bool]] = await self._call(_core.SqliteStore.live, thread_id)
        return runs

    async def stops(self) -> list[int]:
        tokens: list[int] = await self._call(_core.SqliteStore.stops)
        return tokens

    async def recover(self, thread_id: str | None = None) -> list[Claim]:
        claims: list[Claim] = await self._call(_core.SqliteStore.recover, thread_id)
        return claims

    async def journal(
        self, thread_id: str, after: int, until: int | None, limit: int, *, guard: ThreadGuard | None = None
    ) -> JournalPage:
        return JournalPage(
            *await self._call(_core.SqliteStore.journal, thread_id, after, until, limit, _split_guard(guard))
        )

    async def changed(self, thread_id: str, after: int) -> None:
        await asyncio.sleep(POLL_SECONDS)

    async def history(
        self, thread_id: str, after: Cursor, until: int | None, limit: int, *, guard: ThreadGuard | None = None
    ) -> HistoryPage:
        return HistoryPage(
            *await self._call(_core.SqliteStore.history, thread_id, after, until, limit, _split_guard(guard))
        )

    async def locate(self, thread_id: str, cursor: Cursor, *, guard: ThreadGuard | None = None) -> CursorLocation:
        return CursorLocation(*await self._call(_core.SqliteStore.locate, thread_id, cursor, _split_guard(guard)))

    async def threads(
        self,
        limit: int,
        before: tuple[int, str] | None,
        include_archived: bool,
        agent_id: str | None,
        scope: str | AnyScope | None,
    ) -> list[ThreadSummary]:
        rows = await self._call(
            _core.SqliteStore.threads, limit, before, include_archived, agent_id, *_split_scope(scope)
        )
        return [ThreadSummary(*row) for row in rows]

    async def thread(self, thread_id: str, *, guard: ThreadGuard | None = None) -> ThreadSummary:
        return ThreadSummary(*await self._call(_core.SqliteStore.thread, thread_id, _split_guard(guard)))

    async def rename(self, thread_id: str, name: str | None, *, guard: ThreadGuard | None = None) -> None:
        await self._call(_core.SqliteStore.rename, thread_id, name, _split_guard(guard))

    async def archive(self, thread_id: str, archived: bool, *, guard: ThreadGuard | None = None) -> None:
        await self._call(_core.SqliteStore.archive, thread_id, archived, _split_guard(guard))

    async def delete(self, thread_id: str, *, guard: ThreadGuard | None = None) -> None:
        await self._call(_core.SqliteStore.delete, thread_id, _split_guard(guard))

    async def move(self, thread_id: str, scope: str | None, *, guard: ThreadGuard | None = None) -> None:
        await self._call(_core.SqliteStore.move_thread, thread_id, scope, _split_guard(guard))

    async def clear(self, scope: str | AnyScope | None) -> None:
        await self._call(_core.SqliteStore.clear, *_split_scope(scope))

    async def runs(
        self, thread_id: str, after: int, limit: int, *, guard: ThreadGuard | None = None
    ) -> list[StoredRun]:
        rows = await self._call(_core.SqliteStore.runs, thread_id, after, limit, _split_guard(guard))
        return [StoredRun(*row) for row in rows]

    async def put(self, thread: ThreadSummary, runs: list[StoredRun]) -> None:
        await self._call(_core.SqliteStore.put, astuple(thread), runs)

    async def prune(self, max_runs: int | None, before: int | None, limit: int) -> int:
        run_count: int = await self._call(_core.SqliteStore.prune, max_runs, before, limit)
        return run_count

    async def record(self, kind: str, key: str) -> Record | None:
        if not is_valid_name(kind=kind, key=key):
            return None
        row = await self._call(_core.SqliteStore.record, kind, key)
        return row and Record(*row)

    async def records(
        self, kind: str | None, thread_id: str | None, after: tuple[str, str] | None, limit: int
    ) -> list[Record]:
        after_kind, after_key = after or ("", "")
        if not is_valid_name(kind=kind, thread_id=thread_id) or not is_valid_name(kind=after_kind, key=after_key):
            return []
        rows = await self._call(_core.SqliteStore.records, kind, thread_id, after, limit)
        return [Record(*row) for row in rows]

    async def write(self, changes: list[Change], claim: Claim | None = None) -> list[int]:
        check_changes(changes)
        versions: list[int] = await self._call(_core.SqliteStore.write, changes, claim)
        return versions

    async def inspect(self, fix: bool) -> StoreReport:
        return StoreReport(*await self._call(_core.SqliteStore.inspect, fix))

    async def backup(
        self,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        on_progress: Callable[[int, int], object] | None = None,
    ) -> Backup:
        """Copy the store, as it is at one moment, into one file that needs no log.

        Runs continue meanwhile, here and in other processes, and the store need not be open. The copy appears under
        its name only when it is complete, checked and on the disk. Restore it by putting it in the store's place while
        no process has the store open. While a copy is made, the log grows.

        Args:
            path: The file to write.
            overwrite: Whether the file may replace one of that name.
            on_progress: Called in another thread with the bytes written and the bytes expected.

        Returns:
            What the copy contains.

        Raises:
            StoreCorrupt: The store or the copy is damaged.
            StoreFull: The disk is full.
            StoreError: There is no such store, or the file exists or belongs to another database.

        Example::

            await SqliteStore("threads.db").backup("/backups/threads.db", overwrite=True)
        """
        return await back_up(self.path, os.fspath(path), overwrite=overwrite, on_progress=on_progress)


def _split_guard(guard: ThreadGuard | None) -> tuple[bool, str | None, int | None] | None:
    """Return a guard as the core takes it."""
    return None if guard is None else (*_split_scope(guard.scope), guard.incarnation)


def _split_scope(scope: str | AnyScope | None) -> tuple[bool, str | None]:
    """Return a scope as the core takes it: whether any scope matches, and the one that does."""
    return (True, None) if isinstance(scope, AnyScope) else (False, scope)
