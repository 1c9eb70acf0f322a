"""The methods for threads and their stored runs, in Redis."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agentrunner import _core
from agentrunner._core import Frames
from agentrunner.errors import StoreError, ThreadAlreadyRunning
from agentrunner.stores._errors import make_thread_not_found
from agentrunner.stores._held_leases import is_dead
from agentrunner.stores._run_events import is_readable, read_run
from agentrunner.stores.redis.scripts import (
    decode_optional,
    encode_guard,
    encode_optional,
    encode_optional_number,
    encode_scope,
    read_run_id,
)
from agentrunner.stores.types import HistoryPage, StoredRun, StoreReport
from agentrunner.types import ThreadSummary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentrunner.stores.redis.client import RedisClient
    from agentrunner.stores.types import Cursor, ThreadGuard
    from agentrunner.types import AnyScope

INLINE_BYTES = 1 << 20
"""Size in bytes of events up to which a page is read on the event loop."""
INSPECTED_BYTES = 1 << 20
"""Size in bytes of the runs that `inspect` reads at once."""


class RedisThreads:
    """Threads and stored runs as one hash each, with sorted sets as their order.

    Threads are sorted by the time of their last update, runs by their last sequence number.
    """

    def __init__(self, client: RedisClient) -> None:
        self._client = client

    async def history(
        self, thread_id: str, after: Cursor, until: int | None, limit: int, *, guard: ThreadGuard | None = None
    ) -> HistoryPage:
        seq, index = after
        has_more, rows = await self._client.run_script(
            "history", thread_id.encode(), seq, encode_optional_number(index), encode_optional_number(until), limit,
            *encode_guard(guard),
        )  # fmt: skip
        if sum(len(events) for *_, events in rows) <= INLINE_BYTES:
            return _make_history_page(has_more, rows, limit)
        # Many events take longer to read than the other tasks of the event loop should wait.
        return await asyncio.to_thread(_make_history_page, has_more, rows, limit)

    async def threads(
        self,
        limit: int,
        before: tuple[int, str] | None,
        include_archived: bool,
        agent_id: str | None,
        scope: str | AnyScope | None,
    ) -> list[ThreadSummary]:
        before_time, before_id = (b"=%d" % before[0], before[1].encode()) if before else (b"", b"")
        threads: list[ThreadSummary] = []
        has_more = True
        while has_more and len(threads) < limit:
            has_more, (score, before_id), rows = await self._client.run_script(
                "threads", encode_scope(scope), limit - len(threads), before_time, before_id, int(include_archived),
                encode_optional(agent_id),
            )  # fmt: skip
            before_time = b"=" + score
            threads += [_make_summary(row) for row in rows]
        return threads

    async def thread(self, thread_id: str, *, guard: ThreadGuard | None = None) -> ThreadSummary:
        row = await self._client.run_script("thread", thread_id.encode(), *encode_guard(guard))
        if row is None:
            raise make_thread_not_found(thread_id)
        return _make_summary(row)

    async def rename(self, thread_id: str, name: str | None, *, guard: ThreadGuard | None = None) -> None:
        await self._edit(thread_id, "name", name, guard)

    async def archive(self, thread_id: str, archived: bool, *, guard: ThreadGuard | None = None) -> None:
        await self._edit(thread_id, "archived", "1" if archived else None, guard)

    async def _edit(self, thread_id: str, field: str, value: str | None, guard: ThreadGuard | None) -> None:
        """Set or remove a field of a thread. Raises `ThreadNotFound`."""
        arguments = (thread_id.encode(), field, encode_optional(value), *encode_guard(guard))
        if not await self._client.run_script("edit", *arguments):
            raise make_thread_not_found(thread_id)

    async def move(self, thread_id: str, scope: str | None, *, guard: ThreadGuard | None = None) -> None:
        async def attempt(attempts: int) -> Any:
            return await self._client.run_script_once(
                "move", thread_id.encode(), encode_optional(scope), *encode_guard(guard), int(attempts > 0)
            )

        outcome = await self._client.retry(attempt)
        if outcome == b"not found":
            raise make_thread_not_found(thread_id)
        if outcome == b"running":
            raise ThreadAlreadyRunning

    async def runs(
        self, thread_id: str, after: int, limit: int, *, guard: ThreadGuard | None = None
    ) -> list[StoredRun]:
        while True:
            rows = await self._client.run_script("runs", thread_id.encode(), after, limit, *encode_guard(guard))
            runs = [run for row in rows if (run := await asyncio.to_thread(_make_run, row, thread_id)) is not None]
            if runs or not rows:
                return runs
            # None of them can be read, but an empty page would end the copy, so read the next page.
            after = int(rows[-1][1])

    async def put(self, thread: ThreadSummary, runs: list[StoredRun]) -> None:
        arguments: list[Any] = [
            thread.thread_id.encode(), encode_optional(thread.name), encode_optional(thread.agent_id),
            encode_optional("1" if thread.archived else None), encode_optional(thread.scope), thread.created_at,
            thread.updated_at,
        ]  # fmt: skip
        for run in runs:
            message_ids = await asyncio.to_thread(_core.run_message_ids, run.events)
            arguments += [
                run.run_id.encode(), run.first_seq, run.last_seq, run.events, run.input.encode(), run.created_at,
                len(message_ids), *[message_id.encode() for message_id in message_ids],
            ]  # fmt: skip
        outcome, *detail = await self._client.run_script("put", *arguments)
        if outcome == b"running":
            raise ThreadAlreadyRunning
        if outcome == b"behind":
            raise StoreError(
                f"thread '{thread.thread_id}' is at {detail[0]} already, and a run begins before that; nothing was "
                "copied"
            )

    async def prune(self, max_runs: int | None, before: int | None, limit: int) -> int:
        removed, scan_cursor = 0, b"0"
        while removed < limit:
            scan_cursor, count = await self._client.run_script(
                "prune", scan_cursor, encode_optional_number(max_runs), encode_optional_number(before), limit - removed
            )
            removed += count
            if scan_cursor == b"0":
                break
        return removed

    async def inspect(self, fix: bool) -> StoreReport:
        thread_count = run_count = 0
        corrupt: list[tuple[str, str]] = []
        orphans: list[tuple[str, str]] = []
        seen: set[bytes] = set()
        scan_cursor = b"0"
        while True:
            scan_cursor, page = await self._client.run_script("page", scan_cursor)
            # The page has each thread followed by its score, and a scan may return a thread twice.
            for thread in set(page[::2]) - seen:
                seen.add(thread)
                run_ids: set[bytes] = set()
                previous: bytes | None = None
                async for run_id, row in self._iterate_runs(thread):
                    pair = (thread.decode(), read_run_id(run_id, thread.decode()))
                    if _make_run((run_id, b"0", row), thread.decode()) is None:
                        corrupt.append(pair)
                    parent = row[0]
                    if parent is not None and parent not in run_ids:
                        orphans.append(pair)
                        if fix and previous is not None:
                            await self._client.run_script("adopt", run_id, previous)
                    run_ids.add(run_id)
                    previous = run_id
                run_count += len(run_ids)
                thread_count += bool(run_ids)
            if scan_cursor == b"0":
                records = await self._client.run_command("ZCARD", f"{self._client.prefix}:records")
                dead = await self._list_dead_runs()
                return StoreReport("ok", thread_count, run_count, 0, corrupt, orphans, [], dead, records)

    async def _list_dead_runs(self) -> list[tuple[str, str]]:
        return [
            (thread.decode(), run_id.decode())
            for thread, run_id, *_, owner, has_lease, _ in await self._client.run_script("live", encode_optional(None))
            if is_dead(owner.decode(), not has_lease)
        ]

    async def _iterate_runs(self, thread: bytes) -> AsyncIterator[tuple[bytes, list[bytes | None]]]:
        after = 0
        while rows := await self._client.run_script("runs", thread, after, INSPECTED_BYTES, *encode_guard(None)):
            for run_id, last_seq, row in rows:
                yield run_id, row
                after = int(last_seq)


def _make_history_page(has_more: int, rows: list[tuple[bytes, int, bytes]], limit: int) -> HistoryPage:
    data = bytearray()
    position: Cursor | None = None
    for last, skip, events in rows:
        if len(data) >= limit:
            return HistoryPage(Frames(bytes(data)), position)
        # A run that cannot be read is skipped; the rest of the thread can still be shown.
        if (frames := read_run(events, int(last), skip)) is not None:
            data += bytes(frames)
        position = (int(last), None)
    return HistoryPage(Frames(bytes(data)), position if has_more else None)


def _make_summary(row: list[Any]) -> ThreadSummary:
    thread_id, name, agent_id, archived, is_running, run_count, created_at, updated_at, scope, incarnation = row
    return ThreadSummary(
        thread_id.decode(), decode_optional(name), decode_optional(agent_id), archived is not None, bool(is_running),
        run_count, int(created_at), int(updated_at), decode_optional(scope), int(incarnation),
    )  # fmt: skip


def _make_run(row: tuple[bytes, bytes, list[bytes | None]], thread_id: str) -> StoredRun | None:
    """Return a row as a stored run, or `None` if it cannot be read."""
    run_id, last_seq, (parent, first_seq, events, run_input, created_at) = row
    if first_seq is None or events is None or run_input is None or created_at is None or not is_readable(events):
        return None
    try:
        return StoredRun(
            read_run_id(run_id, thread_id), None if parent is None else read_run_id(parent, thread_id), int(first_seq),
            int(last_seq), events, run_input.decode(), int(created_at),
        )  # fmt: skip
    except ValueError:
        return None
