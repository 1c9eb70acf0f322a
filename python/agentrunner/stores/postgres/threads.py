"""The methods for threads: list, rename, archive, delete, move, clear, copy, prune."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from agentrunner import _core
from agentrunner.errors import StoreError, ThreadAlreadyRunning
from agentrunner.stores._errors import make_thread_not_found
from agentrunner.stores.postgres.guard import MATCHES_GUARD, encode_guard
from agentrunner.stores.postgres.text import check_texts, encode_message_id, is_storable
from agentrunner.types import AnyScope, ThreadSummary

if TYPE_CHECKING:
    from agentrunner.stores.postgres.client import PostgresClient
    from agentrunner.stores.types import StoredRun, ThreadGuard

AFTER_ALL_THREADS = (2**63 - 1, "")
"""A `before` that is after every thread, for the first page of a list."""

THREAD_COLUMNS = """thread_id, name, agent_id, archived,
  EXISTS (SELECT FROM "agentrunner".live_runs l WHERE l.thread_id = t.thread_id), runs, created_at, updated_at, scope,
  incarnation"""

READ_THREAD = f"""SELECT {THREAD_COLUMNS} FROM "agentrunner".threads t
  WHERE thread_id = %(thread_id)s::text AND {MATCHES_GUARD}"""  # noqa: S608

RENAME_THREAD = f"""UPDATE "agentrunner".threads t SET name = %(name)s::text
  WHERE thread_id = %(thread_id)s::text AND {MATCHES_GUARD} RETURNING 1"""  # noqa: S608

ARCHIVE_THREAD = f"""UPDATE "agentrunner".threads t SET archived = %(archived)s
  WHERE thread_id = %(thread_id)s::text AND {MATCHES_GUARD} RETURNING 1"""  # noqa: S608

DELETE_THREAD = """SELECT "agentrunner".delete_thread(
  %(thread_id)s::text, %(any_scope)s, %(guard_scope)s::text, %(incarnation)s::bigint), %(is_retry)s"""

MOVE_THREAD = """SELECT "agentrunner".move_thread(
  %(thread_id)s::text, %(scope)s::text, %(any_scope)s, %(guard_scope)s::text, %(incarnation)s::bigint, %(is_retry)s)"""

CLEAR_THREADS = 'SELECT "agentrunner".clear(%(all_scopes)s, %(scope)s::text)'

PUT_RUNS = """SELECT "agentrunner".put(%(thread_id)s::text, %(name)s::text, %(agent_id)s::text, %(scope)s::text,
  %(archived)s, %(created_at)s::bigint, %(updated_at)s::bigint, %(runs)b::text[], %(firsts)b::bigint[],
  %(lasts)b::bigint[], %(events)b::bytea[], %(inputs)b::text[], %(times)b::bigint[],
  %(ids)b::bytea[], %(id_runs)b::bigint[])"""

LIST_THREADS_TO_PRUNE = """SELECT thread_id FROM "agentrunner".threads WHERE runs > %(max_runs)s::bigint
  UNION SELECT thread_id FROM "agentrunner".runs WHERE created_at < %(before)s::bigint LIMIT %(limit)s"""

PRUNE_THREAD = """SELECT "agentrunner".prune_thread(
  %(thread_id)s::text, %(max_runs)s::bigint, %(before)s::bigint, %(limit)s::bigint)"""


def render_thread_query(scopes: Literal["all", "none", "one"]) -> str:
    """Return the statement that lists threads of all scopes, without a scope, or of one scope."""
    condition = {"all": "", "none": "scope IS NULL AND", "one": "scope = %(scope)s::text AND"}[scopes]
    # With the scope in the order, PostgreSQL reads the index of scopes backwards for `none` too, and need not sort.
    order = "" if scopes == "all" else "scope DESC, "
    return f"""SELECT {THREAD_COLUMNS} FROM "agentrunner".threads t
      WHERE {condition} (updated_at, thread_id) < (%(before_time)s::bigint, %(before_id)s::text COLLATE "C")
        AND (%(archived)s OR NOT archived) AND (%(agent_id)s::text IS NULL OR agent_id = %(agent_id)s::text)
      ORDER BY {order}updated_at DESC, thread_id DESC LIMIT %(limit)s"""  # noqa: S608


class PostgresThreads:
    """The store's methods for threads."""

    _client: PostgresClient

    async def threads(
        self,
        limit: int,
        before: tuple[int, str] | None,
        include_archived: bool,
        agent_id: str | None,
        scope: str | AnyScope | None,
    ) -> list[ThreadSummary]:
        one_scope = None if isinstance(scope, AnyScope) else scope
        if not is_storable(agent_id or "") or not is_storable(one_scope or ""):
            return []
        before_time, before_id = before or AFTER_ALL_THREADS
        if not is_storable(before_id):
            # No thread has this id. Cut before the character that cannot be stored, plus U+0001, it has the same place.
            before_id = before_id[: next(n for n in range(len(before_id)) if not is_storable(before_id[n]))] + "\1"
        rows = await self._client.fetch(
            render_thread_query("all" if isinstance(scope, AnyScope) else "none" if scope is None else "one"),
            before_time=before_time,
            before_id=before_id,
            archived=include_archived,
            agent_id=agent_id,
            scope=one_scope,
            limit=limit,
        )
        return [ThreadSummary(*row) for row in rows]

    async def thread(self, thread_id: str, *, guard: ThreadGuard | None = None) -> ThreadSummary:
        return ThreadSummary(*(await self._fetch_one(READ_THREAD, thread_id, guard)))

    async def rename(self, thread_id: str, name: str | None, *, guard: ThreadGuard | None = None) -> None:
        check_texts(name=name)
        await self._fetch_one(RENAME_THREAD, thread_id, guard, name=name)

    async def archive(self, thread_id: str, archived: bool, *, guard: ThreadGuard | None = None) -> None:
        await self._fetch_one(ARCHIVE_THREAD, thread_id, guard, archived=archived)

    async def delete(self, thread_id: str, *, guard: ThreadGuard | None = None) -> None:
        outcome, is_retry = await self._fetch_one(DELETE_THREAD, thread_id, guard)
        if outcome == "ThreadAlreadyRunning":
            raise ThreadAlreadyRunning
        # If the reply to the first attempt was lost, that attempt has deleted the thread.
        if outcome == "ThreadNotFound" and not is_retry:
            raise make_thread_not_found(thread_id)

    async def move(self, thread_id: str, scope: str | None, *, guard: ThreadGuard | None = None) -> None:
        check_texts(scope=scope)
        [outcome] = await self._fetch_one(MOVE_THREAD, thread_id, guard, scope=scope)
        if outcome == "ThreadAlreadyRunning":
            raise ThreadAlreadyRunning
        if outcome == "ThreadNotFound":
            raise make_thread_not_found(thread_id)

    async def _fetch_one(
        self, statement: str, thread_id: str, guard: ThreadGuard | None, **values: Any
    ) -> tuple[Any, ...]:
        """Run a statement about one thread and return its row. Raises `ThreadNotFound`."""
        if not is_storable(thread_id):
            raise make_thread_not_found(thread_id)
        rows = await self._client.fetch(statement, thread_id=thread_id, **encode_guard(guard), **values)
        if not rows:
            raise make_thread_not_found(thread_id)
        return rows[0]

    async def clear(self, scope: str | AnyScope | None) -> None:
        all_scopes = isinstance(scope, AnyScope)
        one_scope = None if isinstance(scope, AnyScope) else scope
        if is_storable(one_scope or ""):
            await self._client.fetch(CLEAR_THREADS, all_scopes=all_scopes, scope=one_scope)

    async def put(self, thread: ThreadSummary, runs: list[StoredRun]) -> None:
        check_texts(thread_id=thread.thread_id, name=thread.name, agent_id=thread.agent_id, scope=thread.scope)
        for run in runs:
            check_texts(run_id=run.run_id, input=run.input)
        ids = await asyncio.to_thread(_list_message_ids, runs)
        try:
            await self._client.fetch(
                PUT_RUNS,
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
                case "AR003":
                    raise StoreError(
                        f"thread '{thread.thread_id}' already has events at the place of a run; nothing was copied"
                    ) from None
            raise

    async def prune(self, max_runs: int | None, before: int | None, limit: int) -> int:
        removed = 0
        for (thread_id,) in await self._client.fetch(
            LIST_THREADS_TO_PRUNE, max_runs=max_runs, before=before, limit=limit
        ):
            if removed >= limit:
                break
            # If the reply to the first attempt was lost, the second counts only the runs that were left.
            [(count,)] = await self._client.fetch(
                PRUNE_THREAD, thread_id=thread_id, max_runs=max_runs, before=before, limit=limit - removed
            )
            removed += count
        return removed


def _list_message_ids(runs: list[StoredRun]) -> list[tuple[bytes, int]]:
    """Return the message ids of runs, each with the last sequence number of its run."""
    return [
        (encode_message_id(message_id), run.last_seq)
        for run in runs
        for message_id in _core.run_message_ids(run.events)
    ]
