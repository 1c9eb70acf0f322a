"""Where the stores under test are: SQLite files, and a Redis and a PostgreSQL server.

To test a new backend, add its fixture and a row in `UNDER_TEST`: the tests, the conformance suite and the campaigns
read the rows. Other test runs may use the same servers.

`AGENTRUNNER_TEST_REDIS` and `AGENTRUNNER_TEST_POSTGRES` name other servers than those at the standard local addresses.
"""

from __future__ import annotations

import atexit
import os
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest

from agentrunner import _core
from agentrunner.stores.backends import BACKENDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

in_memory = pytest.mark.parametrize("runner_factory", ["memory"], indirect=True)
"""Runs a test with the fixture `runner` in memory only: no store takes part in what it checks."""
embedded = pytest.mark.parametrize("runner_factory", ["memory", "sqlite"], indirect=True)
"""Runs a test with the fixture `runner` in memory and on SQLite: one durable store is enough."""

REDIS = os.environ.get("AGENTRUNNER_TEST_REDIS", "redis://127.0.0.1:6379/0")
POSTGRES = os.environ.get("AGENTRUNNER_TEST_POSTGRES", "postgresql://postgres@127.0.0.1:5432/test")

_spare: list[str] = []
"""Empty schemas of earlier tests, since creating one takes longer than most tests."""
SPARE_BYTES = 4 << 20
"""Size in bytes above which a schema is dropped instead of used again."""


@dataclass(frozen=True, slots=True)
class BackendUnderTest:
    """What the tests need to know of a backend."""

    make_location: Callable[[Path], AbstractContextManager[str]]
    """Fixture: takes an empty folder, yields an unused location and removes it afterwards."""
    read_version: Callable[[], str]
    """Returns the store's version; raises an exception if its server cannot be reached."""
    server: str | None = None
    """URL of its server; `None` for a store that needs none."""


@cache
def missing(backend: str) -> str | None:
    """Return why the backend's tests cannot run here, or `None`; checked once."""
    url = UNDER_TEST[backend].server if backend in UNDER_TEST else None
    if url is None:
        return None
    try:
        UNDER_TEST[backend].read_version()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is why there is no server
        (title,) = (row.title for row in BACKENDS if row.name == backend)
        address = urlsplit(url)
        why = str(error).strip().splitlines()[0]
        return f"no {title} at {address.hostname}:{address.port} (AGENTRUNNER_TEST_{backend.upper()}): {why}"
    return None


def needs(backend: str) -> None:
    """Skip the test if what the backend needs is not there."""
    if why := missing(backend):
        pytest.skip(f"not run: {why}")


@contextmanager
def place(backend: str, folder: Path) -> Iterator[str]:
    """Yield an unused location for this process and its children, and remove it afterwards."""
    needs(backend)
    with UNDER_TEST[backend].make_location(folder) as location:
        yield location


def _with(url: str, key: str, value: str) -> str:
    return f"{url}{'&' if urlsplit(url).query else '?'}{key}={quote(value)}"


def _unused_name() -> str:
    return f"agentrunner-test-{uuid.uuid4().hex[:12]}"


@contextmanager
def _sqlite_location(folder: Path) -> Iterator[str]:
    yield str(folder / "threads.db")


def _sqlite_version() -> str:
    return _core.SQLITE_VERSION


@contextmanager
def _redis_location(folder: Path) -> Iterator[str]:
    prefix = f"{{{_unused_name()}}}"
    try:
        yield _with(REDIS, "prefix", prefix)
    finally:
        _drop_prefix(prefix)


def _redis_version() -> str:
    import redis

    with redis.Redis.from_url(REDIS, socket_connect_timeout=2) as client:
        return str(client.info("server")["redis_version"])


def _drop_prefix(prefix: str) -> None:
    import redis

    with redis.Redis.from_url(REDIS) as client:
        # A prefix of ours has nothing in it that a pattern reads otherwise.
        if keys := list(client.scan_iter(f"{prefix}*", count=10_000)):
            client.unlink(*keys)


@contextmanager
def _postgres_location(folder: Path) -> Iterator[str]:
    schema = _spare.pop() if _spare else _unused_name()
    try:
        yield _with(POSTGRES, "schema", schema)
    finally:
        _empty_schema(schema)


def _postgres_version() -> str:
    import psycopg

    with psycopg.connect(POSTGRES, connect_timeout=2) as connection:
        return str(connection.info.parameter_status("server_version")).split()[0]


def _empty_schema(schema: str) -> None:
    import psycopg

    with psycopg.connect(POSTGRES, autocommit=True) as connection:
        tables = connection.execute(
            "SELECT relname, pg_total_relation_size(oid) FROM pg_class WHERE relnamespace = to_regnamespace(%s)"
            " AND relkind = 'r' AND relname <> 'schema_version'",
            [f'"{schema}"'],
        ).fetchall()
        if tables and sum(size for _, size in tables) < SPARE_BYTES:
            # The deletion of a thread writes to the table of floors, so that table comes last.
            names = sorted((table for table, _ in tables), key=lambda table: table == "floors")
            connection.execute("; ".join(f'DELETE FROM "{schema}".{table}' for table in names))  # noqa: S608
            _spare.append(schema)
        else:
            _drop_schema(schema)


def _drop_schema(schema: str) -> None:
    import psycopg

    with psycopg.connect(POSTGRES, autocommit=True, options="-c client_min_messages=warning") as connection:
        connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')


@atexit.register
def _drop_spare() -> None:
    for schema in _spare:
        _drop_schema(schema)


UNDER_TEST = {
    "sqlite": BackendUnderTest(_sqlite_location, _sqlite_version),
    "redis": BackendUnderTest(_redis_location, _redis_version, REDIS),
    "postgres": BackendUnderTest(_postgres_location, _postgres_version, POSTGRES),
}
"""One row for each row of `agentrunner.stores.backends.BACKENDS`, by its name."""

SHARED = tuple(UNDER_TEST)
"""Names of the stores that several processes can open by one location."""
ALL = ("memory", *SHARED)
SERVERS = tuple(name for name, row in UNDER_TEST.items() if row.server is not None)
"""Names of the stores that need a server; also the markers of their tests."""
