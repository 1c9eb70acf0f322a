"""The verbs for threads: list, rename, archive, delete, clear, copy, prune."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agentrunner import _core
from agentrunner.errors import RunAlreadyExists, StoreError, ThreadAlreadyRunning
from agentrunner.stores.postgres.runs import not_found
from agentrunner.stores.postgres.text import checked, keepable, octets
from agentrunner.types import AnyScope, ThreadSummary

if TYPE_CHECKING:
    from agentrunner.stores.postgres.client import PostgresClient
    from agentrunner.stores.types import StoredRun

NEWEST = (2**63 - 1, "")
"""Before which every thread is."""

COLUMNS = """thread_id, name, agent_id, archived,
  EXISTS (SELECT FROM "agentrunner".live_runs l WHERE l.thread_id = t.thread_id), runs, created_at, updated_at, scope"""

THREAD = f'SELECT {COLUMNS} FROM "agentrunner".threads t WHERE thread_id = %(thread_id)s::text'  # noqa: S608

RENAME = 'UPDATE "agentrunner".threads SET name = %(name)s::text WHERE thread_id = %(thread_id)s::text RETURNING 1'

ARCHIVE = 'UPDATE "agentrunner".threads SET archived = %(archived)s WHERE thread_id = %(thread_id)s::text RETURNING 1'

DELETE = 'SELECT "agentrunner".delete_thread(%(thread_id)s::text), %(again)s'

CLEAR = 'SELECT "agentrunner".clear(%(everyones)s, %(scope)s::text)'

PUT = """SELECT "agentrunner".put(%(thread_id)s::text, %(name)s::text, %(agent_id)s::text, %(scope)s::text,
  %(archived)s, %(created_at)s::bigint, %(updated_at)s::bigint, %(runs)b::text[], %(firsts)b::bigint[],
  %(lasts)b::bigint[], %(events)b::bytea[], %(inputs)b::text[], %(times)b::bigint[],
  %(ids)b::bytea[], %(id_runs)b::bigint[])"""

TO_PRUNE = """SELECT thread_id FROM "agentrunner".threads WHERE runs > %(max_runs)s::bigint
  UNION SELECT thread_id FROM "agentrunner".runs WHERE created_at < %(before)s::bigint LIMIT %(limit)s"""

PRUNE = """SELECT "agentrunner".prune_thread(
  %(thread_id)s::text, %(max_runs)s::bigint, %(before)s::bigint, %(limit)s::bigint)"""


def listing(whose: str) -> str:
    """Give the statement that lists threads of `all`, of those without scope (`none`), or of one scope (`one`)."""
    chosen = {"all": "", "none": "scope IS NULL AND", "one": "scope = %(scope)s::text AND"}[whose]
    # The scope stands in the order too: only so is the index of scopes read backwards for `none`.
    order = "" if whose == "all" else "scope DESC, "
    return f"""SELECT {COLUMNS} FROM "agentrunner".threads t
      WHERE {chosen} (updated_at, thread_id) < (%(at)s::bigint, %(behind)s::text COLLATE "C")
        AND (%(archived)s OR NOT archived) AND (%(agent_id)s::text IS NULL OR agent_id = %(agent_id)s::text)
      ORDER BY {order}updated_at DESC, thread_id DESC LIMIT %(limit)s"""  # noqa: S608


class PostgresThreads:
    """The store's verbs for threads."""

    _client: PostgresClient

    async def threads(
        self,
        limit: int,
        before: tuple[int, str] | None,
        include_archived: bool,
        agent_id: str | None,
        scope: str | AnyScope | None,
    ) -> list[ThreadSummary]:
        scoped = None if isinstance(scope, AnyScope) else scope
        if not keepable(agent_id or "") or not keepable(scoped or ""):
            return []
        at, behind = before or NEWEST
        if not keepable(behind):
            # No thread is called that; those that come before it come before this.
            behind = behind[: next(n for n in range(len(behind)) if not keepable(behind[n]))] + "\1"
        whose = "all" if isinstance(scope, AnyScope) else "none" if scope is None else "one"
        rows = await self._client.rows(
            listing(whose),
            at=at,
            behind=behind,
            archived=include_archived,
            agent_id=agent_id,
            scope=scoped,
            limit=limit,
        )
        return [ThreadSummary(*row) for row in rows]

    async def thread(self, thread_id: str) -> ThreadSummary:
        return ThreadSummary(*(await self._one(THREAD, thread_id)))

    async def rename(self, thread_id: str, name: str | None) -> None:
        checked(name=name)
        await self._one(RENAME, thread_id, name=name)

    async def archive(self, thread_id: str, archived: bool) -> None:
        await self._one(ARCHIVE, thread_id, archived=archived)

    async def delete(self, thread_id: str) -> None:
        outcome, again = await self._one(DELETE, thread_id)
        if outcome == "ThreadAlreadyRunning":
            raise ThreadAlreadyRunning
        # Tried again because the answer was lost, it has found its own work done.
        if outcome == "ThreadNotFound" and not again:
            raise not_found(thread_id)

    async def _one(self, statement: str, thread_id: str, **values: Any) -> tuple[Any, ...]:
        """Run a statement about one thread and give its row. Raises `ThreadNotFound` if it has none."""
        rows = await self._client.rows(statement, thread_id=thread_id, **values) if keepable(thread_id) else []
        if not rows:
            raise not_found(thread_id)
        return rows[0]

    async def clear(self, scope: str | AnyScope | None) -> None:
        everyones = isinstance(scope, AnyScope)
        scoped = None if isinstance(scope, AnyScope) else scope
        if keepable(scoped or ""):
            await self._client.rows(CLEAR, everyones=everyones, scope=scoped)

    async def put(self, thread: ThreadSummary, runs: list[StoredRun]) -> None:
        checked(thread_id=thread.thread_id, name=thread.name, agent_id=thread.agent_id, scope=thread.scope)
        for run in runs:
            checked(run_id=run.run_id, input=run.input)
        ids = await asyncio.to_thread(_message_ids, runs)
        try:
            await self._client.rows(
                PUT,
                thread_id=thread.thread_id,
                name=thread.name,
                agent_id=thread.agent_id,
                scope=thread.scope,
                archived=thread.archived,
                created_at=thread.created_at,
                updated_at=thread.updated_at,
                runs=[run.run_id for run in runs],
                firsts=[run.first_seq for run in runs],
                lasts=[run.last_seq for run in runs],
                events=[run.events for run in runs],
                inputs=[run.input for run in runs],
                times=[run.created_at for run in runs],
                ids=[message_id for message_id, _ in ids],
                id_runs=[last_seq for _, last_seq in ids],
            )
        except StoreError as error:
            match getattr(error.__cause__, "sqlstate", None):
                case "AR001":
                    raise ThreadAlreadyRunning from None
                case "AR002":
                    raise RunAlreadyExists(str(error)) from None
            raise

    async def prune(self, max_runs: int | None, before: int | None, limit: int) -> int:
        removed = 0
        for (thread_id,) in await self._client.rows(TO_PRUNE, max_runs=max_runs, before=before, limit=limit):
            if removed >= limit:
                break
            # Tried again because the answer was lost, it counts only what was left.
            [(count,)] = await self._client.rows(
                PRUNE, thread_id=thread_id, max_runs=max_runs, before=before, limit=limit - removed
            )
            removed += count
        return removed


def _message_ids(runs: list[StoredRun]) -> list[tuple[bytes, int]]:
    """Give the message ids of runs, each with the end of its run."""
    return [(octets(known), run.last_seq) for run in runs for known in _core.run_message_ids(run.events)]
