"""What is kept of runs: their journal, their compacted form, where a cursor is."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from agentrunner import _core
from agentrunner._core import Batch, Claim, Frames
from agentrunner.errors import CursorAhead, CursorExpired, InvalidEvent, StoreCorrupt
from agentrunner.stores.postgres.client import LARGE
from agentrunner.stores.postgres.text import keepable
from agentrunner.stores.types import CursorLocation, HistoryPage, JournalPage, StoredRun

if TYPE_CHECKING:
    from agentrunner.stores.postgres.client import PostgresClient
    from agentrunner.stores.types import Cursor

ROWS = 200
"""How many runs a page is made of at most."""
BATCHES = 1000
"""How many rows of the journal a page is made of at most."""
END = 2**63 - 1
UNREADABLE = (InvalidEvent, StoreCorrupt)
"""What is raised for a stored run's events that cannot be read."""

# One statement: the lease and the frames are of one moment.
JOURNAL = """SELECT l.token, j.first_seq, j.last_seq, j.frames
  FROM (SELECT max(token) AS token FROM "agentrunner".live_runs WHERE thread_id = %(thread_id)s::text) l
  LEFT JOIN (
    SELECT *, sum(octet_length(frames)) OVER (ORDER BY last_seq) - octet_length(frames) AS before FROM (
      SELECT first_seq, last_seq, frames FROM "agentrunner".journal
        WHERE thread_id = %(thread_id)s::text AND last_seq > %(after)s::bigint AND first_seq <= %(until)s::bigint
        ORDER BY last_seq LIMIT %(rows)s) page) j ON j.before < %(limit)s
  ORDER BY j.last_seq"""

# The events only of rows that begin within the limit, and not those of large ones; of the row behind them it is enough
# that it is there.
HISTORY = """SELECT run_id, last_seq, before < %(limit)s,
    CASE WHEN before < %(limit)s AND octet_length(events) <= %(most)s THEN events END FROM (
  SELECT *, sum(octet_length(events)) OVER (ORDER BY last_seq) - octet_length(events) AS before FROM (
    SELECT run_id, last_seq, events FROM "agentrunner".runs
      WHERE thread_id = %(thread_id)s::text AND last_seq >= %(seq)s::bigint AND first_seq < %(until)s::bigint
        AND (first_seq > %(seq)s::bigint OR (%(inside)s AND last_seq = %(seq)s::bigint))
      ORDER BY last_seq LIMIT %(rows)s) page) sized
  ORDER BY last_seq"""

EVENTS = 'SELECT events FROM "agentrunner".runs WHERE run_id = %(run_id)s::text'

LOCATE = """SELECT
  (SELECT first_seq FROM "agentrunner".live_runs WHERE thread_id = %(thread_id)s::text),
  coalesce((SELECT head_seq FROM "agentrunner".threads WHERE thread_id = %(thread_id)s::text),
    (SELECT max(last_seq) FROM "agentrunner".journal_expiry WHERE thread_id = %(thread_id)s::text), 0),
  r.first_seq, r.last_seq,
  EXISTS (SELECT FROM "agentrunner".journal_expiry e WHERE e.thread_id = %(thread_id)s::text
    AND e.first_seq = r.first_seq AND e.expires_at > clock_timestamp())
  FROM (SELECT 1) one LEFT JOIN (
    SELECT first_seq, last_seq FROM "agentrunner".runs
      WHERE thread_id = %(thread_id)s::text AND last_seq >= %(seq)s::bigint ORDER BY last_seq LIMIT 1) r ON true"""

RUNS = """SELECT run_id, parent_run_id, first_seq, last_seq, events, input, created_at FROM (
  SELECT *, sum(size) OVER (ORDER BY last_seq) - size AS before FROM (
    SELECT *, octet_length(events) + octet_length(input) AS size FROM "agentrunner".runs
      WHERE thread_id = %(thread_id)s::text AND last_seq > %(after)s::bigint
      ORDER BY last_seq LIMIT %(rows)s) page) sized
  WHERE before < %(limit)s OR before = 0 ORDER BY last_seq"""


class PostgresHistory:
    """The store's verbs for what is kept of runs."""

    _client: PostgresClient

    async def journal(self, thread_id: str, after: int, until: int | None, limit: int) -> JournalPage:
        if not keepable(thread_id):
            return JournalPage(Frames(b""), None)
        rows = await self._client.rows(
            JOURNAL,
            thread_id=thread_id,
            after=after,
            until=END if until is None else until,
            limit=limit,
            rows=BATCHES,
        )
        data = bytearray()
        for _, first_seq, last_seq, frames in rows:
            if first_seq is None or len(data) >= limit:
                break
            data += Batch(frames, first_seq, last_seq - first_seq + 1).after(after, limit - len(data))
        return JournalPage(Frames(bytes(data)), rows[0][0])

    async def history(self, thread_id: str, after: Cursor, until: int | None, limit: int) -> HistoryPage:
        if not keepable(thread_id):
            return HistoryPage(Frames(b""), None)
        seq, index = after
        rows = await self._client.rows(
            HISTORY,
            thread_id=thread_id,
            seq=seq,
            inside=index is not None,
            until=END if until is None else until,
            limit=max(limit, 1),
            rows=ROWS,
            most=LARGE,
        )
        parts: list[Frames] = []
        runs = [(run_id, last_seq, events) for run_id, last_seq, within, events in rows if within]
        for run_id, last_seq, events in runs:
            skip = index + 1 if index is not None and last_seq == seq else 0
            # A corrupt run costs that run, never the thread.
            with contextlib.suppress(*UNREADABLE):
                parts.append(_core.run_frames(events or await self._large(run_id), last_seq, skip))
        more = len(runs) < len(rows) or len(rows) == ROWS
        frames = parts[0] if len(parts) == 1 else Frames(b"".join(map(bytes, parts)))
        return HistoryPage(frames, (runs[-1][1], None) if more else None)

    async def _large(self, run_id: str) -> bytes:
        rows = await self._client.rows(EVENTS, large=True, run_id=run_id)
        # Removed meanwhile, it has none.
        return rows[0][0] if rows else b"[]"

    async def locate(self, thread_id: str, cursor: Cursor) -> CursorLocation:
        seq = cursor[0]
        live, head, first_seq, last_seq, kept = None, 0, None, None, False
        if keepable(thread_id):
            [(live, head, first_seq, last_seq, kept)] = await self._client.rows(LOCATE, thread_id=thread_id, seq=seq)
        if live is not None and seq >= live:
            return CursorLocation("live", 0, 0)
        if seq > head:
            raise CursorAhead(f"cursor {seq} is ahead of thread '{thread_id}'; connect without a cursor")
        if first_seq is None or last_seq is None or seq < first_seq or seq == last_seq:
            return CursorLocation("stored", 0, 0)
        if not kept:
            raise CursorExpired(
                f"cursor {seq} of thread '{thread_id}' is inside a finished run whose raw events are gone; "
                "connect without a cursor for the whole thread"
            )
        return CursorLocation("journal", first_seq, last_seq)

    async def runs(self, thread_id: str, after: int, limit: int) -> list[StoredRun]:
        if not keepable(thread_id):
            return []
        while rows := await self._client.rows(RUNS, thread_id=thread_id, after=after, limit=limit, rows=ROWS):
            found = [StoredRun(*row) for row in rows]
            if readable := await asyncio.to_thread(lambda runs: [run for run in runs if sound(run.events)], found):
                return readable
            after = found[-1].last_seq
        return []


def sound(events: bytes) -> bool:
    """Say whether a stored run's events can be read."""
    try:
        _core.run_frames(events, 0, 0)
    except UNREADABLE:
        return False
    return True


def replayable(claim: Claim, seq: int, frames: Frames) -> bool:
    """Say whether raw frames can be read, the first of them of this number."""
    no_limits = dict.fromkeys(("event_bytes", "id_bytes", "window_bytes", "pending_bytes"), END)
    recorder = _core.Recorder(claim.thread_id, claim.run_id, claim.input, set(), seq, **no_limits)
    try:
        recorder.replay(frames)
    except UNREADABLE:
        return False
    return recorder.recorded > 0
