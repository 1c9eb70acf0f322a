"""Stores on PostgreSQL, and access to their database without them."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import psycopg

from agentrunner.stores.postgres import PostgresStore
from agentrunner.stores.urls import store_from_url
from support import backends

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import pytest


@asynccontextmanager
async def opened(location: str, **options: Any) -> AsyncIterator[PostgresStore]:
    store = store_from_url(location, **options)
    assert isinstance(store, PostgresStore)
    await store.open()
    try:
        yield store
    finally:
        await store.aclose()


@asynccontextmanager
async def database(store: PostgresStore) -> AsyncIterator[Callable[..., Any]]:
    """Yield a function that runs a statement in the store's schema, without the store."""
    async with await psycopg.AsyncConnection.connect(backends.POSTGRES, autocommit=True) as connection:

        async def execute(statement: str, *values: Any) -> list[tuple[Any, ...]]:
            cursor = await connection.execute(statement.replace('"agentrunner"', f'"{store.schema}"'), values or None)
            return await cursor.fetchall() if cursor.description else []

        yield execute


async def until(condition: Callable[[], Any]) -> None:
    while not await condition():
        await asyncio.sleep(0.01)


async def plan(store: PostgresStore, statement: str, **values: Any) -> str:
    """Return the server's plan of a statement: its steps and the indexes they use."""
    statement = statement.replace('"agentrunner"', f'"{store.schema}"')
    async with await psycopg.AsyncConnection.connect(backends.POSTGRES) as connection:
        unguarded = {"any_thread": True, "any_scope": True, "guard_scope": None, "incarnation": None}
        cursor = await connection.execute("EXPLAIN " + statement, {"is_retry": False, **unguarded, **values})
        return "\n".join(line for (line,) in await cursor.fetchall())


class Lost:
    """Loses the replies to statements that name a function or table.

    The statement is done, but its connection is closed.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.words: list[str] = []
        execute = psycopg.AsyncConnection.execute

        async def losing(connection: Any, query: Any, *arguments: Any, **options: Any) -> Any:
            cursor = await execute(connection, query, *arguments, **options)
            for word in self.words:
                if word.encode() in (query if isinstance(query, bytes) else b""):
                    self.words.remove(word)
                    await connection.close()
                    raise psycopg.OperationalError("the server closed the connection unexpectedly")
            return cursor

        monkeypatch.setattr(psycopg.AsyncConnection, "execute", losing)

    async def of(self, word: str, verb: Any) -> Any:
        self.words.append(word)
        result = await verb
        assert self.words == []
        return result
