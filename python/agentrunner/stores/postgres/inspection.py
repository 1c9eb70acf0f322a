"""What `agentrunner doctor` checks and repairs in the database."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agentrunner.errors import StoreCorrupt
from agentrunner.stores._held_leases import is_dead
from agentrunner.stores._run_events import is_readable
from agentrunner.stores.types import StoreReport

if TYPE_CHECKING:
    from agentrunner.stores.postgres.client import PostgresClient

INSPECTED_RUNS = 50
"""Number of runs whose events are read at once."""

COUNT_ROWS = """SELECT (SELECT count(*) FROM "agentrunner".threads WHERE runs > 0),
  (SELECT count(*) FROM "agentrunner".runs WHERE last_seq IS NOT NULL), (SELECT count(*) FROM "agentrunner".records)"""

LIST_RUN_IDS = """SELECT thread_id, run_id FROM "agentrunner".runs
  WHERE last_seq IS NOT NULL AND (thread_id, run_id) > (%(after_thread)s::text, %(after_run)s::text)
  ORDER BY thread_id, run_id LIMIT %(rows)s"""

READ_EVENTS_OF_RUNS = """SELECT thread_id, run_id, events FROM "agentrunner".runs
  JOIN unnest(%(threads)b::text[], %(runs)b::text[]) AS given (thread_id, run_id) USING (thread_id, run_id)"""

LIST_ORPHANS = """SELECT thread_id, run_id FROM "agentrunner".runs child
  WHERE parent_run_id IS NOT NULL AND NOT EXISTS (
    SELECT FROM "agentrunner".runs r WHERE r.run_id = child.parent_run_id AND r.thread_id = child.thread_id)
  ORDER BY thread_id, last_seq"""

# A run without an end and without a lease, or a lease without its run: nothing would ever end either of them.
LIST_STUCK_THREADS = """SELECT DISTINCT coalesce(r.thread_id, l.thread_id) FROM "agentrunner".live_runs l
  FULL JOIN (SELECT thread_id, run_id FROM "agentrunner".runs WHERE last_seq IS NULL) r USING (thread_id, run_id)
  WHERE l.token IS NULL OR r.run_id IS NULL ORDER BY 1"""

LIST_LEASES = """SELECT thread_id, run_id, owner, expires_at < clock_timestamp() FROM "agentrunner".live_runs
  ORDER BY thread_id"""

MEND = 'SELECT "agentrunner".mend()'


class PostgresInspection:
    """The store's method that checks the whole store."""

    _client: PostgresClient

    async def inspect(self, fix: bool) -> StoreReport:
        [(threads, runs, records)] = await self._client.fetch(COUNT_ROWS)
        integrity, corrupt = await self._read_all_runs()
        leases = await self._client.fetch(LIST_LEASES)
        report = StoreReport(
            integrity,
            threads,
            runs,
            0,
            sorted(corrupt),
            await self._client.fetch(LIST_ORPHANS),
            [thread_id for (thread_id,) in await self._client.fetch(LIST_STUCK_THREADS)],
            [(thread_id, run_id) for thread_id, run_id, owner, has_expired in leases if is_dead(owner, has_expired)],
            records,
        )
        if fix:
            await self._client.fetch(MEND)
        return report

    async def _read_all_runs(self) -> tuple[str, list[tuple[str, str]]]:
        """Read every stored run.

        Return `ok` or the server's error, and the runs whose events cannot be read.
        """
        corrupt: list[tuple[str, str]] = []
        after = ("", "")
        try:
            while rows := await self._client.fetch(
                LIST_RUN_IDS, after_thread=after[0], after_run=after[1], rows=INSPECTED_RUNS
            ):
                after = rows[-1]
                thread_ids, run_ids = [thread_id for thread_id, _ in rows], [run_id for _, run_id in rows]
                runs = await self._client.fetch(READ_EVENTS_OF_RUNS, threads=thread_ids, runs=run_ids)
                corrupt += await asyncio.to_thread(_list_unreadable, runs)
        except StoreCorrupt as error:
            return str(error), corrupt
        return "ok", corrupt


def _list_unreadable(runs: list[tuple[Any, ...]]) -> list[tuple[str, str]]:
    return [(thread_id, run_id) for thread_id, run_id, events in runs if not is_readable(events)]
