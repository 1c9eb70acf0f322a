"""The pool's workers, when their event loop ends while the server does not respond."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from agentrunner.stores.postgres.lease_connection import PostgresLeaseConnection
from agentrunner.stores.postgres.pool import PostgresPool
from agentrunner.stores.postgres.sessions import PostgresServers, PostgresSession

if TYPE_CHECKING:
    from collections.abc import Iterator

PATIENCE_SECONDS = 30.0
"""Seconds that a busy machine may take, far fewer than a connection attempt."""


@pytest.fixture
def silent() -> Iterator[tuple[socket.socket, PostgresServers]]:
    """Return a server that accepts connections and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        port = server.getsockname()[1]
        yield server, PostgresServers({"host": "127.0.0.1", "port": port, "connect_timeout": 600})


def test_a_loop_that_ends_while_the_pool_connects_can_be_closed(silent: tuple[socket.socket, PostgresServers]) -> None:
    server, servers = silent

    async def open_pool() -> None:
        pool = PostgresPool(connection_class=PostgresSession, kwargs={"servers": servers}, min_size=1, open=False)
        await pool.open()
        accepted, _ = await asyncio.get_running_loop().sock_accept(server)
        accepted.detach()

    thread = threading.Thread(target=asyncio.run, args=[open_pool()], daemon=True)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()


def test_the_extension_of_leases_has_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        async def execute(self, *_: object, **__: object) -> None:
            await asyncio.Event().wait()

        async def close(self) -> None:
            pass

    async def connect(_: PostgresServers) -> Session:
        return Session()

    monkeypatch.setattr(PostgresServers, "connect", connect)
    connection = PostgresLeaseConnection(PostgresServers({}), b"", lease_ttl=0.01)
    with pytest.raises(TimeoutError):
        connection.extend([])
    connection.close()
