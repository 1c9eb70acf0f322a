"""The methods that read runs: their journal, their stored events, and where a cursor is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agentrunner import _core
from agentrunner._core import Batch, Claim, Frames
from agentrunner.stores._errors import make_cursor_ahead, make_cursor_expired, make_cursor_of_deleted_thread
from agentrunner.stores._run_events import UNREADABLE, is_readable, read_run
from agentrunner.stores.postgres.client import LARGE_BYTES
from agentrunner.stores.postgres.guard import IS_MEANT, encode_guard
from agentrunner.stores.postgres.text import encode_message_id, is_storable, match_known_ids
from agentrunner.stores.types import CursorLocation, HistoryPage, JournalPage, StoredRun

if TYPE_CHECKING:
    from agentrunner.stores.postgres.client import PostgresClient
    from agentrunner.stores.types import Cursor, ThreadGuard

PAGE_RUNS = 200
"""The greatest number of runs on a page."""
PAGE_BATCHES = 1000
"""The greatest number of journal rows on a page."""
MAX_BIGINT = 2**63 - 1

# One statement, so that the live token and the frames are of the same moment.
READ_JOURNAL = f"""SELECT l.token, j.first_seq, j.last_seq, j.frames
  FROM (SELECT max(token) AS token FROM "agentrunner".live_runs
    WHERE thread_id = %(thread_id)s::text AND {IS_MEANT}) l
  LEFT JOIN (
    SELECT *, sum(octet_length(frames)) OVER (ORDER BY last_seq) - octet_length(frames) AS before FROM (
      SELECT first_seq, last_seq, frames FROM "agentrunner".journal
        WHERE thread_id = %(thread_id)s::text AND last_seq > %(after)s::bigint AND first_seq <= %(until)s::bigint
          AND {IS_MEANT} AND (%(incarnation)s::bigint IS NULL OR last_seq > coalesce(
            (SELECT base_seq FROM "agentrunner".known_threads WHERE thread_id = %(thread_id)s::text), 0))
        ORDER BY last_seq LIMIT %(rows)s) page) j ON j.before < %(limit)s
  ORDER BY j.last_seq"""  # noqa: S608

# Fetch events only of the runs that begin within the limit, and not of large ones. One more row without events shows
# that there are more runs.
READ_HISTORY = f"""SELECT run_id, last_seq, before < %(limit)s,
    CASE WHEN before < %(limit)s AND octet_length(events) <= %(most)s THEN events END FROM (
  SELECT *, sum(octet_length(events)) OVER (ORDER BY last_seq) - octet_length(events) AS before FROM (
    SELECT run_id, last_seq, events FROM "agentrunner".runs
      WHERE thread_id = %(thread_id)s::text AND last_seq >= %(seq)s::bigint AND first_seq < %(until)s::bigint
        AND (first_seq > %(seq)s::bigint OR (%(inside)s AND last_seq = %(seq)s::bigint)) AND {IS_MEANT}
      ORDER BY last_seq LIMIT %(rows)s) page) sized
  ORDER BY last_seq"""  # noqa: S608

READ_EVENTS = f"""SELECT events FROM "agentrunner".runs
  WHERE thread_id = %(thread_id)s::text AND run_id = %(run_id)s::text AND {IS_MEANT}"""  # noqa: S608

LOCATE_CURSOR = f"""SELECT {IS_MEANT}, coalesce(
  (SELECT base_seq FROM "agentrunner".known_threads WHERE thread_id = %(thread_id)s::text), 0),
  (SELECT first_seq FROM "agentrunner".live_runs WHERE thread_id = %(thread_id)s::text),
  coalesce((SELECT head_seq FROM "agentrunner".threads WHERE thread_id = %(thread_id)s::text),
    (SELECT max(last_seq) FROM "agentrunner".journal_expiry WHERE thread_id = %(thread_id)s::text), 0),
  r.first_seq, r.last_seq,
  EXISTS (SELECT FROM "agentrunner".journal_expiry e WHERE e.thread_id = %(thread_id)s::text
    AND e.first_seq = r.first_seq AND e.expires_at > clock_timestamp())
  FROM (SELECT 1) one LEFT JOIN (
    SELECT first_seq, last_seq FROM "agentrunner".runs
      WHERE thread_id = %(thread_id)s::text AND last_seq >= %(seq)s::bigint ORDER BY last_seq LIMIT 1) r ON true"""  # noqa: S608

READ_RUNS = f"""SELECT run_id, parent_run_id, first_seq, last_seq, events, input, created_at FROM (
  SELECT *, sum(size) OVER (ORDER BY last_seq) - size AS before FROM (
    SELECT *, octet_length(events) + octet_length(input) AS size FROM "agentrunner".runs
      WHERE thread_id = %(thread_id)s::text AND last_seq > %(after)s::bigint AND {IS_MEANT}
      ORDER BY last_seq LIMIT %(rows)s) page) sized
  WHERE before < %(limit)s OR before = 0 ORDER BY last_seq"""  # noqa: S608


KNOWN_IDS = f"""SELECT message_id, last_seq FROM "agentrunner".message_ids
  WHERE thread_id = %(thread_id)s::text AND message_id = ANY (%(ids)s::bytea[]) AND {IS_MEANT}"""  # noqa: S608


class PostgresHistory:
    """The store's methods that read runs."""

    _client: PostgresClient

    async def known_ids(self, thread_id: str, ids: list[str], *, guard: ThreadGuard | None = None) -> dict[str, int]:
        if not is_storable(thread_id):
            return {}
        encoded_ids = [encode_message_id(each) for each in ids]
        rows = await self._client.fetch(KNOWN_IDS, thread_id=thread_id, ids=encoded_ids, **encode_guard(guard))
        return match_known_ids(ids, rows)

    async def journal(
        self, thread_id: str, after: int, until: int | None, limit: int, *, guard: ThreadGuard | None = None
    ) -> JournalPage:
        if not is_storable(thread_id):
            return JournalPage(Frames(b""), None)
        rows = await self._client.fetch(
            READ_JOURNAL,
            thread_id=thread_id,
            after=after,
            until=MAX_BIGINT if until is None else until,
            limit=limit,
            rows=PAGE_BATCHES,
            **encode_guard(guard),
        )
        data = bytearray()
        for _, first_seq, last_seq, frames in rows:
            if first_seq is None or len(data) >= limit:
                break
            data += Batch(frames, first_seq, last_seq - first_seq + 1).after(after, limit - len(data))
        return JournalPage(Frames(bytes(data)), rows[0][0])

    async def history(
        self, thread_id: str, after: Cursor, until: int | None, limit: int, *, guard: ThreadGuard | None = None
    ) -> HistoryPage:
        if not is_storable(thread_id):
            return HistoryPage(Frames(b""), None)
        seq, index = after
        rows = await self._client.fetch(
            READ_HISTORY,
            thread_id=thread_id,
            seq=seq,
            inside=index is not None,
            until=MAX_BIGINT if until is None else until,
            limit=max(limit, 1),
            rows=PAGE_RUNS,
            most=LARGE_BYTES,
            **encode_guard(guard),
        )
        page: list[Frames] = []
        runs = [(run_id, last_seq, events) for run_id, last_seq, is_within_limit, events in rows if is_within_limit]
        for run_id, last_seq, events in runs:
            skip = index + 1 if index is not None and last_seq == seq else 0
            frames = read_run(events or await self._fetch_large_events(thread_id, run_id, guard), last_seq, skip)
            # A run that cannot be read is skipped; the rest of the thread can still be shown.
            if frames is not None:
                page.append(frames)
        has_more = len(runs) < len(rows) or len(rows) == PAGE_RUNS
        joined = page[0] if len(page) == 1 else Frames(b"".join(map(bytes, page)))
        return HistoryPage(joined, (runs[-1][1], None) if has_more else None)

    async def _fetch_large_events(self, thread_id: str, run_id: str, guard: ThreadGuard | None) -> bytes:
        rows = await self._client.fetch(
            READ_EVENTS, large=True, thread_id=thread_id, run_id=run_id, **encode_guard(guard)
        )
        # A run that was removed meanwhile has no events.
        return rows[0][0] if rows else b"[]"

    async def locate(self, thread_id: str, cursor: Cursor, *, guard: ThreadGuard | None = None) -> CursorLocation:
        seq = cursor[0]
        is_meant, base_seq, live_seq, head_seq, first_seq, last_seq, has_journal = True, 0, None, 0, None, None, False
        if is_storable(thread_id):
            [row] = await self._client.fetch(LOCATE_CURSOR, thread_id=thread_id, seq=seq, **encode_guard(guard))
            is_meant, base_seq, live_seq, head_seq, first_seq, last_seq, has_journal = row
        if not is_meant and seq == 0:
            return CursorLocation("stored", 0, 0)
        if not is_meant:
            raise make_cursor_ahead(thread_id, seq)
        if live_seq is not None and seq >= live_seq:
            return CursorLocation("live", 0, 0)
        if seq > head_seq:
            raise make_cursor_ahead(thread_id, seq)
        if 0 < seq <= base_seq:
            raise make_cursor_of_deleted_thread(thread_id, seq)
        if first_seq is None or last_seq is None or seq < first_seq or seq == last_seq:
            return CursorLocation("stored", 0, 0)
        if not has_journal:
            raise make_cursor_expired(thread_id, seq)
        return CursorLocation("journal", first_seq, last_seq)

    async def runs(
        self, thread_id: str, after: int, limit: int, *, guard: ThreadGuard | None = None
    ) -> list[StoredRun]:
        if not is_storable(thread_id):
            return []
        while rows := await self._client.fetch(
            READ_RUNS, thread_id=thread_id, after=after, limit=limit, rows=PAGE_RUNS, **encode_guard(guard)
        ):
            page = [StoredRun(*row) for row in rows]
            if readable := await asyncio.to_thread(_keep_readable, page):
                return readable
            # None of them can be read, but an empty page would end the copy, so read the next page.
            after = page[-1].last_seq
        return []


def _keep_readable(runs: list[StoredRun]) -> list[StoredRun]:
    return [run for run in runs if is_readable(run.events)]


def can_replay(claim: Claim, seq: int, frames: Frames) -> bool:
    """Return whether a recorder can replay raw frames whose first has this sequence number."""
    no_limits: dict[str, Any] = dict.fromkeys(("event_bytes", "id_bytes", "window_bytes", "pending_bytes"), MAX_BIGINT)
    recorder = _core.Recorder(claim.thread_id, claim.run_id, claim.input, set(), seq, **no_limits)
    try:
        recorder.replay(frames)
    except UNREADABLE:
        return False
    return recorder.recorded > 0
