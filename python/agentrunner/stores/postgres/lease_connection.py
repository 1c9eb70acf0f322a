"""The connection over which a thread extends leases while the event loop is blocked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg

if TYPE_CHECKING:
    from agentrunner._core import Claim


class PostgresLeaseConnection:
    """A connection without an event loop."""

    def __init__(self, options: dict[str, Any], statement: bytes, lease_ttl: float) -> None:
        self._statement = statement
        self._lease_ttl = lease_ttl
        self._connection = psycopg.connect(**options)

    def extend(self, claims: list[Claim]) -> None:
        """Extend the leases of these claims, except those of runs that were asked to stop."""
        values = {
            "threads": [claim.thread_id for claim in claims],
            "tokens": [claim.token for claim in claims],
            "ttl": self._lease_ttl,
        }
        self._connection.execute(self._statement, values, prepare=False, binary=True)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
