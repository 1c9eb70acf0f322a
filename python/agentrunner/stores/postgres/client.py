"""The PostgreSQL client: connections, retries, and the server's errors as `StoreError`s."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import PoolClosed, PoolTimeout

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
from agentrunner.stores.postgres.lease_connection import PostgresLeaseConnection
from agentrunner.stores.postgres.pool import PostgresPool
from agentrunner.stores.postgres.schema import PLACEHOLDER, check_version, migrate, quote_schema
from agentrunner.stores.postgres.sessions import PostgresServers, PostgresSession, StandbyError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

R = TypeVar("R")

FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.01, 0.25
"""Seconds between two attempts, doubled after each one."""
POOL_WAIT_SECONDS = 0.5
"""Seconds to wait for a pooled connection before asking the pool again."""
LARGE_BYTES = 1 << 20
"""Size in bytes above which a value is sent over a separate connection.

libpq never gives back the memory that a connection once needed.
"""
LARGE_CONNECTIONS = 2
"""Number of connections for large values."""
TRANSIENT_STATES = frozenset({"25006", "53300", "55P03", "57P01", "57P02", "57P03", "57P05"})
"""SQLSTATEs of errors that may not recur in the next attempt.

The server has become a standby; too many clients; a lock not acquired in time; the server is shutting down, has crashed
or is starting up; an idle session was ended.
"""


class PostgresClient:
    """A pool of connections to one schema of one server.

    It keeps no state in sessions, so that it works behind PgBouncer's transaction pooling: each statement is a separate
    transaction, names its schema, and is prepared only if the client is known to own the session.

    A standby counts as a server that is unreachable for now: another attempt, in a new session, may find the primary.
    """

    def __init__(self, dsn: str, schema: str, retry_seconds: float, pool_size: int, *, read_only: bool = False) -> None:
        self.schema = schema
        self._quoted_schema = quote_schema(schema)
        self._retry_seconds = retry_seconds
        self._pool_size = pool_size
        self._read_only = read_only
        try:
            dsn_options = conninfo_to_dict(dsn)
        except psycopg.ProgrammingError as error:
            raise ValueError(f"the address of the PostgreSQL database is not valid: {error}") from None
        # A server that vanishes without closing its connections must be noticed early enough for another attempt.
        defaults = {
            "application_name": "agentrunner",
            "connect_timeout": max(2, int(retry_seconds / 2 / PostgresServers(dsn_options).count)),
            "keepalives_idle": 30,
            "tcp_user_timeout": max(1000, int(retry_seconds * 500)),
        }
        self._servers = PostgresServers(
            {**defaults, **dsn_options, "client_encoding": "utf8", "autocommit": True, "prepare_threshold": None},
            read_only=read_only,
        )
        self._pool: PostgresPool | None = None
        self._append_connection: PostgresSession | None = None
        self._pid = 0
        self._statements: dict[str, bytes] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._large_slots = asyncio.Semaphore(LARGE_CONNECTIONS)

    async def open(self) -> None:
        """Bring the schema up to date and open the pool."""
        if self._pool is not None:
            return
        await self._retry(self._migrate)
        self._pid = os.getpid()
        pool = self._pool = PostgresPool(
            connection_class=PostgresSession,
            kwargs={"servers": self._servers},
            min_size=1,
            max_size=self._pool_size,
            max_idle=60.0,
            # The pool's own reconnects would wait longer and longer, for all callers together; `_retry` does not.
            reconnect_timeout=FIRST_RETRY_SECONDS,
            configure=_configure,
            open=False,
            name=f"agentrunner {self.schema}",
        )
        await pool.open()

    async def aclose(self) -> None:
        """Wait for the statements under way, then close the connections."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if self._append_connection is not None:
                await pool.putconn(self._append_connection)
                self._append_connection = None
            await pool.close()

    async def connect(self) -> PostgresSession:
        """Return a new connection that does not belong to the pool."""
        return await self._servers.connect()

    def connect_for_leases(self, statement: str, lease_ttl: float) -> PostgresLeaseConnection:
        """Return a connection that needs no event loop, and runs only this statement."""
        return PostgresLeaseConnection(self._servers, self._render(statement), lease_ttl)

    async def has_schema(self) -> bool:
        """Return whether the schema exists; the client need not be open. Raises `StoreError`."""
        try:
            async with await self.connect() as connection:
                cursor = await connection.execute("SELECT to_regclass(%s)", [f"{self._quoted_schema}.schema_version"])
                return await cursor.fetchone() != (None,)
        except psycopg.Error as error:
            raise _convert_error(error) from error

    async def fetch(self, statement: str, *, large: bool = False, **values: Any) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows, with retries if the connection is lost.

        From the second attempt on, the statement's `%(is_retry)s` is true. If the caller is cancelled, the statement is
        still run to its end, so that its connection stays usable.

        Args:
            statement: The statement, with `"agentrunner"` for the schema.
            large: Whether one of its values is, or may be, larger than `LARGE_BYTES`.
            **values: The statement's parameters.

        Raises:
            StoreError: The server refused the statement, or was unreachable for too long.
        """
        pool, text = self.require_pool(), self._render(statement)
        is_retry = False

        async def run_once(connection: PostgresSession) -> list[tuple[Any, ...]]:
            nonlocal is_retry
            values["is_retry"], is_retry = is_retry, True
            return await _execute(connection, text, values, prepare=False)

        async def run_pooled() -> list[tuple[Any, ...]]:
            connection = await pool.getconn(POOL_WAIT_SECONDS)
            try:
                return await run_once(connection)
            finally:
                await pool.putconn(connection)

        async def run_large() -> list[tuple[Any, ...]]:
            async with self._large_slots, await self.connect() as connection:
                return await run_once(connection)

        task = asyncio.ensure_future(self._retry(run_large if large else run_pooled))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def fetch_prepared(self, statement: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
        """Run a frequent statement, prepared, on a connection reserved for such statements.

        The caller runs one at a time and must not be cancelled.
        """
        pool, text = self.require_pool(), self._render(statement)

        async def run_once() -> list[tuple[Any, ...]]:
            connection = self._append_connection
            if connection is None:
                connection = self._append_connection = await pool.getconn(POOL_WAIT_SECONDS)
            try:
                return await _execute(connection, text, values, prepare=None)
            except BaseException:
                self._append_connection = None
                await pool.putconn(connection)
                raise

        return await self._retry(run_once)

    @property
    def is_forked(self) -> bool:
        """Whether this process is a child of the one that opened the client."""
        return self._pool is not None and self._pid != os.getpid()

    def _render(self, statement: str) -> bytes:
        text = self._statements.get(statement)
        if text is None:
            text = self._statements[statement] = statement.replace(PLACEHOLDER, self._quoted_schema).encode()
        return text

    def require_pool(self) -> PostgresPool:
        """Return the pool. Raises `StoreClosed` or `StoreForked`."""
        if self._pool is None:
            raise StoreClosed("the store is closed")
        if self.is_forked:
            raise StoreForked("the store was opened before a fork; open it again in the child process")
        return self._pool

    async def _migrate(self) -> None:
        async with await self.connect() as connection:
            await (check_version if self._read_only else migrate)(connection, self.schema)

    async def _retry(self, attempt: Callable[[], Awaitable[R]]) -> R:
        """Repeat an attempt until it succeeds, fails for good, or the time for retries is over."""
        deadline = time.monotonic() + self._retry_seconds
        pause, is_first = FIRST_RETRY_SECONDS, True
        while True:
            try:
                return await attempt()
            except PoolClosed:
                raise StoreClosed("the store is closed") from None
            except psycopg.Error as error:
                # Try at least twice: it may be this process that was suspended, not the server.
                if not _is_transient(error) or (not is_first and time.monotonic() + pause > deadline):
                    cause = await self._find_cause(error) if isinstance(error, PoolTimeout) else error
                    raise _convert_error(cause) from cause
            await asyncio.sleep(pause)
            is_first = False
            pause = min(pause * 2, LONGEST_RETRY_SECONDS)

    async def _find_cause(self, error: psycopg.Error) -> psycopg.Error:
        """Return why no connection can be made, because the pool's own error does not say."""
        try:
            await (await self.connect()).close()
        except psycopg.Error as cause:
            return cause
        return error


async def _execute(
    connection: PostgresSession, text: bytes, values: dict[str, Any], *, prepare: bool | None
) -> list[tuple[Any, ...]]:
    try:
        # By the transaction: behind a pooler, the session may be another client's next.
        async with connection.transaction() if connection.read_only else contextlib.nullcontext():
            cursor = await connection.execute(text, values, prepare=prepare, binary=True)
            return await cursor.fetchall()
    except psycopg.errors.ReadOnlySqlTransaction:
        # Its server may have become a standby; a new session may be on the new primary.
        await connection.close()
        raise


async def _configure(connection: PostgresSession) -> None:
    if connection.is_direct:
        connection.prepare_threshold = 5


def _is_transient(error: psycopg.Error) -> bool:
    """Return whether the next attempt may succeed, as after a restart or a deadlock."""
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.OperationalError)
    return state[:2] in ("08", "40") or state in TRANSIENT_STATES


def _convert_error(error: psycopg.Error) -> AgentRunnerError:
    """Return this package's error for a server's, chosen by what a user can do about it."""
    message = error.diag.message_primary or str(error).strip()
    if (error.sqlstate or "").startswith("AR"):
        # A function in this package's schema has raised it.
        return StoreError(message)
    text = f"PostgreSQL: {message}"
    if isinstance(error, StandbyError):
        return StoreReadOnly(text)
    match error.sqlstate:
        case "53100":
            return StoreFull(f"{text}: free some space; everything that was acknowledged is kept")
        case "25006":
            return StoreReadOnly(text)
        case "54000":
            return InvalidInput(f"an id is too long for an index: {text}")
        case "XX001" | "XX002":
            return StoreCorrupt(text)
    return StoreError(text)
