"""Where the stores under test are: SQLite files, and a Redis and a PostgreSQL server.

Other test runs may use the same servers.

`AGENTRUNNER_TEST_REDIS` and `AGENTRUNNER_TEST_POSTGRES` name other servers than those at the standard local addresses.
"""

from __future__ import annotations

import atexit
import os
import uuid
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest

from agentrunner.stores.backends import BACKENDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHARED = tuple(backend.name for backend in BACKENDS)
"""Names of the stores that several processes can open by one location."""
ALL = ("memory", *SHARED)

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


@cache
def missing(backend: str) -> str | None:
    """Return why the backend's tests cannot run here, or `None`; checked once."""
    if backend not in ("redis", "postgres"):
        return None
    try:
        _ping_redis() if backend == "redis" else _ping_postgres()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is why there is no server
        name, url = ("Redis", REDIS) if backend == "redis" else ("PostgreSQL", POSTGRES)
        address = urlsplit(url)
        why = str(error).strip().splitlines()[0]
        return f"no {name} at {address.hostname}:{address.port} (AGENTRUNNER_TEST_{backend.upper()}): {why}"
    return None


def needs(backend: str) -> None:
    """Skip the test if what the backend needs is not there."""
    if why := missing(backend):
        pytest.skip(f"not run: {why}")


@contextmanager
def place(backend: str, folder: Path) -> Iterator[str]:
    """Yield an unused location for this process and its children, and remove it afterwards."""
    needs(backend)
    name = f"agentrunner-test-{uuid.uuid4().hex[:12]}"
    if backend == "redis":
        try:
            yield _with(REDIS, "prefix", f"{{{name}}}")
        finally:
            _drop_prefix(f"{{{name}}}")
    elif backend == "postgres":
        schema = _spare.pop() if _spare else name
        try:
            yield _with(POSTGRES, "schema", schema)
        finally:
            _empty_schema(schema)
    else:
        yield str(folder / "threads.db")


def _with(url: str, key: str, value: str) -> str:
    return f"{url}{'&' if urlsplit(url).query else '?'}{key}={quote(value)}"


def _ping_redis() -> None:
    import redis

    with redis.Redis.from_url(REDIS, socket_connect_timeout=2) as client:
        client.ping()


def _drop_prefix(prefix: str) -> None:
    import redis

    with redis.Redis.from_url(REDIS) as client:
        # A prefix of ours has nothing in it that a pattern reads otherwise.
        if keys := list(client.scan_iter(f"{prefix}*", count=10_000)):
            client.unlink(*keys)


def _ping_postgres() -> None:
    import psycopg

    psycopg.connect(POSTGRES, connect_timeout=2).close()


def _empty_schema(schema: str) -> None:
    import psycopg

    with psycopg.connect(POSTGRES, autocommit=True) as connection:
        tables = connection.execute(
            "SELECT relname, pg_total_relation_size(oid) FROM pg_class WHERE relnamespace = to_regnamespace(%s)"
            " AND relkind = 'r' AND relname <> 'schema_version'",
            [f'"{schema}"'],
        ).fetchall()
        if tables and sum(size for _, size in tables) < SPARE_BYTES:
            connection.execute("; ".join(f'DELETE FROM "{schema}".{table}' for table, _ in tables))  # noqa: S608
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
