"""The way to the server: connections, statements tried again, errors made ours."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import AsyncConnectionPool, PoolClosed, PoolTimeout

from agentrunner.errors import (
    AgentRunnerError,
    InvalidInput,
    StoreClosed,
    StoreCorrupt,
    StoreError,
    StoreForked,
    StoreFull,
    StoreReadOnly,
)
from agentrunner.stores.postgres.schema import PLACEHOLDER, migrate, quoted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

R = TypeVar("R")

FIRST_PAUSE, LONGEST_PAUSE = 0.01, 0.25
"""Seconds between tries."""
QUEUE = 0.5
"""Seconds to wait for a connection before asking for it anew."""
LARGE = 1 << 20
"""Bytes of a value that is sent or fetched over a connection of its own: libpq never gives back what one took."""
LARGE_AT_ONCE = 2
PASSING = frozenset({"53300", "55P03", "57P01", "57P02", "57P03", "57P05"})
"""Too many clients; a lock not had in time; the server shuts down, has crashed, starts up; a session too long idle."""


class PostgresClient:
    """One schema of one server, over a pool of connections.

    Nothing is kept in a session, so that it works behind PgBouncer's transaction pooling: each statement is a
    transaction of its own, names its schema, and is prepared only where the session is known to be ours.
    """

    def __init__(self, dsn: str, schema: str, patience: float, size: int) -> None:
        self.schema = schema
        self._quoted = quoted(schema)
        self._patience = patience
        self._size = size
        try:
            given = conninfo_to_dict(dsn)
        except psycopg.ProgrammingError as error:
            raise ValueError(f"that is no address of a PostgreSQL database: {error}") from None
        # A server that has vanished without a word is noticed while there is time for another try.
        own = {
            "application_name": "agentrunner",
            "connect_timeout": max(2, int(patience / 2)),
            "keepalives_idle": 30,
            "tcp_user_timeout": max(1000, int(patience * 500)),
        }
        self._options: dict[str, Any] = {
            **own, **given, "client_encoding": "utf8", "autocommit": True, "prepare_threshold": None
        }  # fmt: skip
        self._pool: AsyncConnectionPool[AsyncConnection[Any]] | None = None
        self._kept: AsyncConnection[Any] | None = None
        self._pid = 0
        self._statements: dict[str, bytes] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._apart = asyncio.Semaphore(LARGE_AT_ONCE)

    async def open(self) -> None:
        """Bring the schema up to date and make ready for statements."""
        if self._pool is not None:
            return
        await self._persist(self._migrate)
        self._pid = os.getpid()
        pool = self._pool = AsyncConnectionPool(
            kwargs=self._options,
            min_size=1,
            max_size=self._size,
            max_idle=60.0,
            # It waits longer and longer, whoever asks; we do not.
            reconnect_timeout=FIRST_PAUSE,
            configure=_configure,
            open=False,
            name=f"agentrunner {self.schema}",
        )
        await pool.open()

    async def aclose(self) -> None:
        """Let what is under way end, and close the connections."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if self._kept is not None:
                await pool.putconn(self._kept)
                self._kept = None
            await pool.close()

    async def connect(self) -> AsyncConnection[Any]:
        """Give a connection that is not the pool's."""
        return await AsyncConnection.connect(**self._options)

    async def has_schema(self) -> bool:
        """Return whether the schema exists, without opening the client. Raises `StoreError`."""
        try:
            async with await self.connect() as connection:
                cursor = await connection.execute("SELECT to_regclass(%s)", [f"{self._quoted}.schema_version"])
                return await cursor.fetchone() != (None,)
        except psycopg.Error as error:
            raise _ours(error) from error

    async def rows(self, statement: str, *, large: bool = False, **values: Any) -> list[tuple[Any, ...]]:
        """Run a statement that has rows and give them; tried again when the connection is lost, with `%(again)s` true.

        `large`: a value of it is, or may be. Whoever waits for it may be cancelled: it is run to its end, and its
        connection is as good as before. Raises `StoreError`.
        """
        pool, text = self._check(), self._text(statement)
        again = False

        async def once(connection: AsyncConnection[Any]) -> list[tuple[Any, ...]]:
            nonlocal again
            values["again"], again = again, True
            return await _fetch(connection, text, values, prepare=False)

        async def pooled() -> list[tuple[Any, ...]]:
            connection = await pool.getconn(QUEUE)
            try:
                return await once(connection)
            finally:
                await pool.putconn(connection)

        async def apart() -> list[tuple[Any, ...]]:
            async with self._apart, await self.connect() as connection:
                return await once(connection)

        task = asyncio.ensure_future(self._persist(apart if large else pooled))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def steady(self, statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Do the same for what comes all the time, one after the other: prepared, on a connection kept for it.

        Who waits is not to be cancelled.
        """
        pool, text = self._check(), self._text(statement)

        async def once() -> list[tuple[Any, ...]]:
            connection = self._kept
            if connection is None:
                connection = self._kept = await pool.getconn(QUEUE)
            try:
                return await _fetch(connection, text, values, prepare=None)
            except BaseException:
                self._kept = None
                await pool.putconn(connection)
                raise

        return await self._persist(once)

    def _text(self, statement: str) -> bytes:
        text = self._statements.get(statement)
        if text is None:
            text = self._statements[statement] = statement.replace(PLACEHOLDER, self._quoted).encode()
        return text

    @property
    def forked(self) -> bool:
        """Whether this is a child of the process that opened it."""
        return self._pool is not None and self._pid != os.getpid()

    def _check(self) -> AsyncConnectionPool[AsyncConnection[Any]]:
        if self._pool is None:
            raise StoreClosed("the store is closed")
        if self.forked:
            raise StoreForked("the store was opened before a fork; open it again in the child process")
        return self._pool

    async def _migrate(self) -> None:
        async with await self.connect() as connection:
            await migrate(connection, self.schema)

    async def _persist(self, attempt: Callable[[], Awaitable[R]]) -> R:
        """Try until it works, or what is wrong does not pass, or patience is at its end."""
        deadline = time.monotonic() + self._patience
        pause, tried = FIRST_PAUSE, False
        while True:
            try:
                return await attempt()
            except PoolClosed:
                raise StoreClosed("the store is closed") from None
            except psycopg.Error as error:
                # Tried twice at least: it may be this process that was away, not the server.
                if not _passes(error) or (tried and time.monotonic() + pause > deadline):
                    cause = await self._why(error) if isinstance(error, PoolTimeout) else error
                    raise _ours(cause) from cause
            await asyncio.sleep(pause)
            tried = True
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _why(self, error: psycopg.Error) -> psycopg.Error:
        """Say why there is no connection, which the pool keeps to itself."""
        try:
            await (await self.connect()).close()
        except psycopg.Error as cause:
            return cause
        return error


async def _fetch(
    connection: AsyncConnection[Any], text: bytes, values: dict[str, Any], *, prepare: bool | None
) -> list[tuple[Any, ...]]:
    cursor = await connection.execute(text, values, prepare=prepare, binary=True)
    return await cursor.fetchall()


async def direct(connection: AsyncConnection[Any]) -> bool:
    """Say whether nobody stands between us and the server who may give each transaction another session."""
    cursor = await connection.execute("SELECT pg_backend_pid()")
    return await cursor.fetchone() == (connection.info.backend_pid,)


async def _configure(connection: AsyncConnection[Any]) -> None:
    if await direct(connection):
        connection.prepare_threshold = 5


def _passes(error: psycopg.Error) -> bool:
    """Say whether it may be gone at the next try: a lost connection, a restart, a deadlock."""
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.OperationalError)
    return state[:2] in ("08", "40") or state in PASSING


def _ours(error: psycopg.Error) -> AgentRunnerError:
    """Give an error of the server, sorted by what a user can do about it."""
    said = error.diag.message_primary or str(error).strip()
    if (error.sqlstate or "").startswith("AR"):
        # Raised by a function of ours.
        return StoreError(said)
    text = f"PostgreSQL: {said}"
    match error.sqlstate:
        case "53100":
            return StoreFull(f"{text}: free some space; what was acknowledged before is kept")
        case "25006":
            return StoreReadOnly(text)
        case "54000":
            return InvalidInput(f"an id is too long for an index: {text}")
        case "XX001" | "XX002":
            return StoreCorrupt(text)
    return StoreError(text)
