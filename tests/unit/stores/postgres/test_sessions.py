"""Sessions on one of several servers."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from agentrunner.stores.postgres.sessions import PostgresServers, PostgresSession, StandbyError

pytestmark = [pytest.mark.postgres, pytest.mark.fault("D13")]


@pytest.mark.parametrize(
    ("address", "servers"),
    [
        ("postgresql://a/db", [("a", None)]),
        ("postgresql://a:1,b:2/db", [("a", "1"), ("b", "2")]),
        ("host=a,b port=7", [("a", "7"), ("b", "7")]),
        ("port=1,2", [("c", "1"), ("d", "2")]),
        ("", [("c", None), ("d", None)]),
        # These lists do not fit together, as libpq will say.
        ("host=a,b,c port=1,2", [("a,b,c", "1,2")]),
        # libpq finds the server that the user wants.
        ("host=a,b target_session_attrs=any", [("a,b", None)]),
    ],
)
def test_an_address_is_split_into_its_servers(
    address: str, servers: list[tuple[str, str | None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGHOST", "c,d")
    options = PostgresServers(conninfo_to_dict(address))._servers
    assert [(each.get("host"), each.get("port")) for each in options] == servers


class FakeServers:
    """Servers by their ports, each a `primary`, a `standby`, `read-only` or `down`."""

    def __init__(self, *states: str) -> None:
        self.states = {str(n): state for n, state in enumerate(states)}
        self.tried: list[str] = []
        self.closed: list[str] = []

    async def open(self, options: dict[str, Any]) -> FakeSession:
        port = options["port"]
        self.tried.append(port)
        if self.states[port] == "down":
            raise psycopg.OperationalError(f"{port} is down")
        return FakeSession(self, port)


class FakeSession:
    def __init__(self, servers: FakeServers, port: str) -> None:
        self.servers, self.port = servers, port
        self.may_write = servers.states[port] == "primary"
        self.is_standby = servers.states[port] == "standby"

    async def close(self) -> None:
        self.servers.closed.append(self.port)


@pytest.mark.parametrize(
    ("states", "chosen", "closed"),
    [
        (["primary", "primary"], "0", []),
        (["down", "primary"], "1", []),
        (["standby", "primary"], "1", ["0"]),
        (["read-only", "primary"], "1", ["0"]),
        (["standby", "read-only", "read-only"], "1", ["0", "2"]),
    ],
)
async def test_a_session_that_may_write_is_preferred(
    states: list[str], chosen: str, closed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeServers(*states)
    monkeypatch.setattr(PostgresSession, "open", fake.open)
    servers = PostgresServers({"port": ",".join(fake.states)})
    assert (await servers.connect()).port == chosen  # type: ignore[attr-defined]
    assert fake.closed == closed
    if states[int(chosen)] == "primary":
        fake.tried.clear()
        await servers.connect()
        assert fake.tried == [chosen], "servers that are down are tried last"


@pytest.mark.parametrize(
    ("states", "kind", "text"),
    [
        (["standby"], StandbyError, "target_session_attrs=any"),
        (["standby", "down"], StandbyError, "is a standby"),
        (["down", "down"], psycopg.OperationalError, "0 is down; 1 is down"),
    ],
)
async def test_no_session_without_a_primary(
    states: list[str], kind: type[Exception], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeServers(*states)
    monkeypatch.setattr(PostgresSession, "open", fake.open)
    with pytest.raises(kind, match=text):
        await PostgresServers({"port": ",".join(fake.states)}).connect()
    assert len(fake.closed) == states.count("standby")
