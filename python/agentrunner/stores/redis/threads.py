"""The verbs of threads and their stored runs, in Redis."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from agentrunner import _core
from agentrunner._core import Frames
from agentrunner.errors import AgentRunnerError, RunAlreadyExists, StoreError, ThreadAlreadyRunning
from agentrunner.stores.redis.runs import not_found
from agentrunner.stores.redis.scripts import maybe, optional, text, whose
from agentrunner.stores.types import HistoryPage, StoredRun, StoreReport
from agentrunner.types import ThreadSummary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentrunner.stores.redis.client import RedisClient
    from agentrunner.stores.types import Cursor
    from agentrunner.types import AnyScope

LONG = 1 << 20
"""Bytes of events that are read on another thread."""
PAGE = 1 << 20
"""Bytes of runs that are looked over at once."""


class RedisThreads:
    """Threads: a row each, and an index by when they were updated; runs: a row each, in order of their numbers."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    async def history(self, thread_id: str, after: Cursor, until: int | None, limit: int) -> HistoryPage:
        seq, index = after
        more, found = await self._client.run(
            "history", thread_id.encode(), seq, _number(index), _number(until), limit
        )  # fmt: skip
        # Off the loop where it takes longer than other tasks should wait.
        long = sum(len(events) for *_, events in found) > LONG
        return await asyncio.to_thread(_page, more, found, limit) if long else _page(more, found, limit)

    async def threads(
        self,
        limit: int,
        before: tuple[int, str] | None,
        include_archived: bool,
        agent_id: str | None,
        scope: str | AnyScope | None,
    ) -> list[ThreadSummary]:
        at, last = (b"=%d" % before[0], before[1].encode()) if before else (b"", b"")
        found: list[ThreadSummary] = []
        more = True
        while more and len(found) < limit:
            more, (score, last), rows = await self._client.run(
                "threads", whose(scope), limit - len(found), at, last, int(include_archived), optional(agent_id)
            )
            at = b"=" + score
            found += [_summary(row) for row in rows]
        return found

    async def thread(self, thread_id: str) -> ThreadSummary:
        row = await self._client.run("thread", thread_id.encode())
        if row is None:
            raise not_found(thread_id)
        return _summary(row)

    async def rename(self, thread_id: str, name: str | None) -> None:
        if not await self._client.run("edit", thread_id.encode(), "name", optional(name)):
            raise not_found(thread_id)

    async def archive(self, thread_id: str, archived: bool) -> None:
        if not await self._client.run("edit", thread_id.encode(), "archived", optional("1" if archived else None)):
            raise not_found(thread_id)

    async def runs(self, thread_id: str, after: int, limit: int) -> list[StoredRun]:
        while True:
            rows = await self._client.run("runs", thread_id.encode(), after, limit)
            found = [run for row in rows if (run := await asyncio.to_thread(_stored, row)) is not None]
            if found or not rows:
                return found
            after = int(rows[-1][1])

    async def put(self, thread: ThreadSummary, runs: list[StoredRun]) -> None:
        arguments: list[Any] = [
            thread.thread_id.encode(), optional(thread.name), optional(thread.agent_id),
            optional("1" if thread.archived else None), optional(thread.scope), thread.created_at, thread.updated_at,
        ]  # fmt: skip
        for run in runs:
            ids = [known.encode() for known in await asyncio.to_thread(_core.run_message_ids, run.events)]
            arguments += [
                run.run_id.encode(), run.first_seq, run.last_seq, run.events, run.input.encode(), run.created_at,
                len(ids), *ids,
            ]  # fmt: skip
        outcome, *detail = await self._client.run("put", *arguments)
        if outcome == b"running":
            raise ThreadAlreadyRunning
        if outcome == b"exists":
            raise RunAlreadyExists(f"run '{text(detail[0])}' exists already, in another thread")
        if outcome == b"behind":
            raise StoreError(
                f"thread '{thread.thread_id}' has runs of its own up to {detail[0]}, behind which none fit"
            )  # fmt: skip

    async def prune(self, max_runs: int | None, before: int | None, limit: int) -> int:
        removed, cursor = 0, b"0"
        while removed < limit:
            cursor, count = await self._client.run(
                "prune", cursor, _number(max_runs), _number(before), limit - removed
            )  # fmt: skip
            removed += count
            if cursor == b"0":
                break
        return removed

    async def inspect(self, fix: bool) -> StoreReport:
        threads = runs = 0
        corrupt: list[tuple[str, str]] = []
        orphans: list[tuple[str, str]] = []
        seen: set[bytes] = set()
        cursor = b"0"
        while True:
            cursor, page = await self._client.run("page", cursor)
            for thread in set(page[::2]) - seen:
                seen.add(thread)
                known: set[bytes] = set()
                before: bytes | None = None
                async for run_id, row in self._rows(thread):
                    pair = (text(thread), text(run_id))
                    if _stored((run_id, b"0", row)) is None:
                        corrupt.append(pair)
                    if row[0] is not None and row[0] not in known:
                        orphans.append(pair)
                        if fix and before is not None:
                            await self._client.run("adopt", run_id, before)
                    known.add(run_id)
                    before = run_id
                runs += len(known)
                threads += bool(known)
            if cursor == b"0":
                records = await self._client.command("ZCARD", f"{self._client.prefix}:records")
                return StoreReport("ok", threads, runs, 0, corrupt, orphans, [], await self._dead(), records)

    async def _dead(self) -> list[tuple[str, str]]:
        return [
            (text(thread), text(run))
            for thread, run, *_, owner, leased in await self._client.run("live", optional(None))
            if not leased or _core.Owner.is_gone(text(owner))
        ]

    async def _rows(self, thread: bytes) -> AsyncIterator[tuple[bytes, list[bytes | None]]]:
        after = 0
        while rows := await self._client.run("runs", thread, after, PAGE):
            for run_id, last_seq, row in rows:
                yield run_id, row
                after = int(last_seq)


def _page(more: int, found: list[tuple[bytes, int, bytes]], limit: int) -> HistoryPage:
    data = bytearray()
    position: Cursor | None = None
    for last, skip, events in found:
        if len(data) >= limit:
            return HistoryPage(Frames(bytes(data)), position)
        # A row that cannot be read costs that row, never the thread.
        with contextlib.suppress(AgentRunnerError):
            data += bytes(_core.run_frames(events, int(last), skip))
        position = (int(last), None)
    return HistoryPage(Frames(bytes(data)), position if more else None)


def _number(value: int | None) -> bytes:
    return b"" if value is None else b"=%d" % value


def _summary(row: list[Any]) -> ThreadSummary:
    thread_id, name, agent_id, archived, running, runs, created_at, updated_at, scope = row
    return ThreadSummary(
        text(thread_id), maybe(name), maybe(agent_id), archived is not None, bool(running), runs,
        int(created_at), int(updated_at), maybe(scope),
    )  # fmt: skip


def _stored(row: tuple[bytes, bytes, list[bytes | None]]) -> StoredRun | None:
    run_id, last_seq, (parent, first, events, given, created) = row
    if first is None or events is None or given is None or created is None:
        return None
    try:
        _core.run_frames(events, 0, 0)
        return StoredRun(
            text(run_id), maybe(parent), int(first), int(last_seq), events, text(given), int(created)
        )  # fmt: skip
    except (AgentRunnerError, ValueError):
        return None
