"""The connection over which a thread extends leases while the event loop is blocked."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentrunner.stores._held_leases import HeldLease
    from agentrunner.stores.postgres.sessions import PostgresServers


class PostgresLeaseConnection:
    """A connection with an event loop of its own, in the thread that uses it."""

    def __init__(self, servers: PostgresServers, statement: bytes, lease_ttl: float) -> None:
        self._statement = statement
        self._lease_ttl = lease_ttl
        self._runner = asyncio.Runner()
        try:
            self._session = self._runner.run(servers.connect())
        except BaseException:
            self._runner.close()
            raise

    def extend(self, leases: list[HeldLease]) -> None:
        """Extend these leases, except those of runs that were asked to stop."""
        values = {
            "threads": [lease.thread_id for lease in leases],
            "keys": [lease.key for lease in leases],
            "ttl": self._lease_ttl,
        }
        execution = self._session.execute(self._statement, values, prepare=False, binary=True)
        # A later response is of no use, and a server that is silent would keep the thread from trying another session.
        self._runner.run(asyncio.wait_for(execution, self._lease_ttl))

    def close(self) -> None:
        """Close the connection."""
        try:
            self._runner.run(self._session.close())
        finally:
            self._runner.close()
