"""Sessions on the primary server, whichever of an address's servers that is."""

from __future__ import annotations

import os
from typing import Any, Self

import psycopg
from psycopg import AsyncConnection

SERVER_OPTIONS = {"host": "PGHOST", "hostaddr": "PGHOSTADDR", "port": "PGPORT"}
"""Options that may list several servers, each with the environment variable that replaces it."""

# Ask the server instead of using libpq's `target_session_attrs`: a pooler may report to libpq the server's state from
# before its promotion.
READ_STATE = "SELECT pg_backend_pid(), current_setting('transaction_read_only') = 'on', pg_is_in_recovery()"


class StandbyError(psycopg.OperationalError):
    """Raised when only a standby can be reached."""


class PostgresSession(AsyncConnection[Any]):
    """A connection to a server."""

    is_direct = False
    """Whether no pooler is in between, which could switch sessions."""
    may_write = True
    is_standby = False
    """Whether its server was a standby when the session was opened."""

    @classmethod
    async def connect(cls, conninfo: str = "", *, servers: PostgresServers, **options: Any) -> PostgresSession:  # type: ignore[override]
        """Open a session as a connection pool does, which passes `conninfo` and perhaps options."""
        return await servers.connect(**options)

    @classmethod
    async def open(cls, options: dict[str, Any]) -> Self:
        """Open a session with libpq's options and this package's defaults."""
        session = await super().connect(**options)
        try:
            cursor = await session.execute(READ_STATE)
            ((pid, is_read_only, is_standby),) = await cursor.fetchall()
        except BaseException:
            await session.close()
            raise
        session.is_direct = pid == session.info.backend_pid
        session.may_write, session.is_standby = not is_read_only, is_standby
        return session


class PostgresServers:
    """The servers that an address names.

    After a failover, an address may still lead to the former primary, which is now a standby.
    """

    def __init__(self, options: dict[str, Any], *, read_only: bool = False) -> None:
        self._read_only = read_only
        self._takes_any = read_only or bool(
            options.get("target_session_attrs") or os.environ.get("PGTARGETSESSIONATTRS")
        )
        """Whether a standby suffices, or the user has chosen the kind of server, so that libpq finds it."""
        self._servers = [options] if self._takes_any else _split_servers(options)
        """Options for each server, in the order in which they are tried."""

    @property
    def count(self) -> int:
        """Number of servers that may be tried for one session."""
        return len(self._servers)

    async def connect(self, **options: Any) -> PostgresSession:
        """Open a session that can write, or else a read-only one on a primary.

        Raises:
            StandbyError: Only a standby can be reached.
            psycopg.Error: No server can be reached.

        """
        sessions: list[PostgresSession] = []
        errors: list[psycopg.Error] = []
        chosen: PostgresSession | None = None
        try:
            for server in self._servers:
                try:
                    sessions.append(session := await PostgresSession.open({**server, **options}))
                except psycopg.OperationalError as error:
                    errors.append(error)
                    continue
                if self._takes_any or session.may_write:
                    if self._read_only:
                        await session.set_read_only(True)
                    chosen = session
                    # The next session need not wait for servers that are down.
                    self._servers = sorted(self._servers, key=lambda other: other is not server)
                    return session
            chosen = next((session for session in sessions if not session.is_standby), None)
        finally:
            for session in sessions:
                if session is not chosen:
                    await session.close()
        if chosen is not None:
            return chosen
        if sessions:
            raise StandbyError("the server is a standby; to read from it, add target_session_attrs=any to the address")
        raise errors[0] if len(errors) == 1 else psycopg.OperationalError("; ".join(map(str, errors)))


def _split_servers(options: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the options for each server of an address."""
    values = {name: options.get(name) or os.environ.get(variable) for name, variable in SERVER_OPTIONS.items()}
    lists = {name: str(value).split(",") for name, value in values.items() if value}
    count = max(map(len, lists.values()), default=1)
    if any(len(each) not in (1, count) for each in lists.values()):
        # libpq explains what is wrong.
        return [options]
    return [{**options, **{name: each[n % len(each)] for name, each in lists.items()}} for n in range(count)]
