"""The store that a location makes, and the locations that are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import AgentRunner, SqliteStore
from agentrunner.stores.urls import store_from_url

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("url", "servers"),
    [
        ("postgresql://", [{}]),
        ("postgresql:///agents", [{"dbname": "agents"}]),
        ("postgresql:///agents?schema=s&application_name=a%20b", [{"dbname": "agents", "application_name": "a b"}]),
        ("postgresql://?schema=s&host=h", [{"host": "h"}]),
        (
            "postgresql://me@h1,h2:5433/db?schema=s",
            [{"user": "me", "host": "h1", "port": ""}, {"user": "me", "host": "h2", "port": "5433", "dbname": "db"}],
        ),
    ],
)
def test_a_url_of_postgresql_may_lack_a_host(url: str, servers: list[dict[str, str]]) -> None:
    pytest.importorskip("psycopg")
    store: Any = store_from_url(url)
    assert store.schema == ("s" if "schema" in url else "agentrunner")
    for options, expected in zip(store._client._servers._servers, servers, strict=True):
        assert options.items() >= expected.items()


def test_a_path_is_a_sqlite_file(tmp_path: Path) -> None:
    for location in (tmp_path / "a.db", f"sqlite:///{tmp_path / 'a.db'}", str(tmp_path / "a.db")):
        store = AgentRunner.from_url(location, lease_ttl=3.0)._store
        assert isinstance(store, SqliteStore)
        assert (store.path, store.lease_ttl) == (str(tmp_path / "a.db"), 3.0)


@pytest.mark.parametrize("location", ["C:\\threads.db", "prod:threads.db", "./redis:x", "what?.db", "a#b.db"])
def test_a_path_may_have_odd_characters(location: str) -> None:
    store: Any = store_from_url(location)
    assert store.path == location


@pytest.mark.parametrize("location", ["memory://", "sqlite://x.db", "SQLITE:///x", "sqlite:x.db", "redis:localhost",
                                      "Redis:localhost", "postgresql:x", "memory:x", "file:x.db"])  # fmt: skip
def test_a_misspelled_location_is_refused_with_the_right_forms(location: str) -> None:
    with pytest.raises(ValueError, match="memory: or sqlite:///path"):
        store_from_url(location)


def test_a_sqlite_url_with_options_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="write them as keywords"):
        store_from_url(f"sqlite:///{tmp_path}/x.db?durability=strict")


@pytest.mark.parametrize("location", [None, 5, b"threads.db"])
def test_a_location_of_another_type_is_a_type_error(location: Any) -> None:
    with pytest.raises(TypeError, match="must be a str or a Path, not"):
        store_from_url(location)
