"""The connection over which a thread extends leases while the event loop is blocked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from agentrunner.stores.redis.scripts import load_script

if TYPE_CHECKING:
    from agentrunner.stores._held_leases import HeldLease

LEASES_PER_CALL = 1000
"""The greatest number of leases that one script extends; the server does nothing else meanwhile."""


class RedisLeaseConnection:
    """A connection without an event loop."""

    def __init__(self, url: str, prefix: str, lease_ms: int) -> None:
        self._prefix = prefix.encode()
        self._lease_ms = lease_ms
        timeout = max(lease_ms / 4000, 1.0)
        pool = redis.ConnectionPool.from_url(url, protocol=2)
        # These override the URL, as they do in the store's other connections.
        pool.connection_kwargs.update(
            decode_responses=False, socket_connect_timeout=timeout, socket_timeout=timeout, retry=Retry(NoBackoff(), 0)
        )
        self._client = redis.Redis(connection_pool=pool)

    def extend(self, leases: list[HeldLease]) -> None:
        """Extend these leases, except those of runs that were asked to stop."""
        text = load_script("extend").text
        for part in (leases[n : n + LEASES_PER_CALL] for n in range(0, len(leases), LEASES_PER_CALL)):
            arguments = [value for lease in part for value in (lease.thread_id.encode(), lease.key)]
            self._client.eval(text, 1, self._prefix, self._lease_ms, *arguments)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
        self._client.connection_pool.disconnect()
