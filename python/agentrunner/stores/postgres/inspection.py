"""What `agentrunner doctor` looks at, and mends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agentrunner._core import Owner
from agentrunner.errors import StoreCorrupt
from agentrunner.stores.postgres.history import sound
from agentrunner.stores.types import StoreReport

if TYPE_CHECKING:
    from agentrunner.stores.postgres.client import PostgresClient

ROWS = 50
"""How many runs are looked at together."""

COUNTS = """SELECT (SELECT count(*) FROM "agentrunner".threads WHERE runs > 0),
  (SELECT count(*) FROM "agentrunner".runs WHERE last_seq IS NOT NULL), (SELECT count(*) FROM "agentrunner".records)"""

NAMES = """SELECT run_id FROM "agentrunner".runs WHERE last_seq IS NOT NULL AND run_id > %(after)s::text
  ORDER BY run_id LIMIT %(rows)s"""

EVENTS = 'SELECT thread_id, run_id, events FROM "agentrunner".runs WHERE run_id = ANY (%(runs)b::text[])'

ORPHANS = """SELECT thread_id, run_id FROM "agentrunner".runs child WHERE parent_run_id IS NOT NULL AND NOT EXISTS (
  SELECT FROM "agentrunner".runs r WHERE r.run_id = child.parent_run_id AND r.thread_id = child.thread_id)
  ORDER BY thread_id, last_seq"""

# A run without an end and without a lease, a lease without its run: nothing would ever end them.
STUCK = """SELECT DISTINCT coalesce(r.thread_id, l.thread_id) FROM "agentrunner".live_runs l
  FULL JOIN (SELECT thread_id, run_id FROM "agentrunner".runs WHERE last_seq IS NULL) r USING (thread_id, run_id)
  WHERE l.token IS NULL OR r.run_id IS NULL ORDER BY 1"""

OWNERS = """SELECT thread_id, run_id, owner, expires_at < clock_timestamp() FROM "agentrunner".live_runs
  ORDER BY thread_id"""

MEND = 'SELECT "agentrunner".mend()'


class PostgresInspection:
    """The store's look at itself."""

    _client: PostgresClient

    async def inspect(self, fix: bool) -> StoreReport:
        [(threads, runs, records)] = await self._client.rows(COUNTS)
        integrity, corrupt = await self._read_all()
        owners = await self._client.rows(OWNERS)
        report = StoreReport(
            integrity,
            threads,
            runs,
            0,
            sorted(corrupt),
            await self._client.rows(ORPHANS),
            [thread_id for (thread_id,) in await self._client.rows(STUCK)],
            [(thread_id, run_id) for thread_id, run_id, owner, expired in owners if expired or Owner.is_gone(owner)],
            records,
        )
        if fix:
            await self._client.rows(MEND)
        return report

    async def _read_all(self) -> tuple[str, list[tuple[str, str]]]:
        """Read every stored run: say what the server says to that, and which cannot be read."""
        corrupt: list[tuple[str, str]] = []
        after = ""
        try:
            while names := [run_id for (run_id,) in await self._client.rows(NAMES, after=after, rows=ROWS)]:
                after = names[-1]
                rows = await self._client.rows(EVENTS, runs=names)
                corrupt += await asyncio.to_thread(
                    lambda rows: [(thread_id, run_id) for thread_id, run_id, events in rows if not sound(events)], rows
                )
        except StoreCorrupt as error:
            return str(error), corrupt
        return "ok", corrupt
