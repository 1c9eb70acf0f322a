"""The PostgreSQL schema: concurrent creation, upgrades during service, newer versions."""

from __future__ import annotations

import asyncio
import sys
import uuid
from asyncio.subprocess import PIPE
from importlib import resources

import psycopg
import pytest

from agentrunner import (
    StoreError,
    StoreTooNew,
)
from agentrunner.stores import Change
from agentrunner.stores.postgres import PostgresStore, runs, schema
from agentrunner.stores.urls import store_from_url
from agentrunner.testing.writer import Writer, begin, claim, store_run, text, wait_and_recover
from agentrunner.testing.writer import history as stored
from support import backends
from support.postgres import database, opened

pytestmark = pytest.mark.postgres


async def test_processes_that_open_a_new_schema_at_once(fresh: str) -> None:
    stores = [store_from_url(fresh) for _ in range(6)]
    await asyncio.gather(*(store.open() for store in stores))
    for n, store in enumerate(stores):
        await store_run(store, "t", f"r{n}")
    assert (await stores[0].thread("t")).runs == 6
    for store in stores:
        await store.aclose()


async def test_a_schema_of_a_newer_version_is_refused(fresh: str) -> None:
    async with opened(fresh) as store, database(store) as execute:
        await execute('UPDATE "agentrunner".schema_version SET version = version + 1')
        with pytest.raises(StoreTooNew, match="update agentrunner"):
            await store_from_url(fresh).open()


async def test_an_empty_schema_is_used(fresh: str) -> None:
    async with database(PostgresStore("", schema=fresh.rpartition("=")[2])) as execute:
        await execute('CREATE SCHEMA "agentrunner"')
    async with opened(fresh) as store:
        await store_run(store, "t", "r")


async def test_a_database_that_is_not_in_utf_8_is_refused() -> None:
    backends.needs("postgres")
    name = f"agentrunner_latin_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(backends.POSTGRES, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        try:
            with pytest.raises(StoreError, match="LATIN1"):
                await PostgresStore(psycopg.conninfo.make_conninfo(backends.POSTGRES, dbname=name)).open()
        finally:
            connection.execute(f"DROP DATABASE {name}")


def use_first_version(before: pytest.MonkeyPatch) -> None:
    """Create schemas of version 0.1.0, and claim threads in them with its function."""
    first = schema.migrations()[:1]
    before.setattr(schema, "migrations", lambda: first)
    columns = "outcome, token, first_seq, -1::bigint, known, '{}'::bigint[]"
    old_claim = runs.CLAIM_RUN.replace("*", columns).replace("claim_run", "claim")
    before.setattr(runs, "CLAIM_RUN", old_claim)


async def test_a_schema_of_the_version_before_is_upgraded(fresh: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as before:
        use_first_version(before)
        async with opened(fresh) as store:
            await store_run(store, "t", "r1", ["u1"], scope="alice")
            await begin(store, "live", "r2")
    async with opened(fresh) as store, database(store) as execute:
        assert await execute('SELECT version FROM "agentrunner".schema_version') == [(len(schema.migrations()),)]
        assert [event.seq for event in await stored(store, "t")] == [5] * 5
        assert (await store.thread("t")).incarnation == -1
        assert await store.known_ids("t", ["u1", "u2", "m-r1"]) == {"u1": 5, "m-r1": 5}
        await store.write([Change("kind", "a", "t", b"1"), Change("kind", "b", "live", b"2")])
        [taken] = await wait_and_recover(store)
        await (await Writer(store, taken).replay()).end()
        again, known = await claim(store, "t", "r3", ["u1", "u2"], scope="alice")
        assert known == {"u1": 5}
        await Writer(store, again).end()
        assert (await store.thread("t")).runs == 2
        # The functions that were there know of records now.
        await store.delete("t")
        assert [record.key for record in await store.records(None, None, None, 9)] == ["b"]
        assert await store.prune(None, 1 << 60, 9) == 1
        assert await store.records(None, None, None, 9) == []


async def test_processes_upgrade_at_once_beside_one_that_serves(fresh: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as before:
        use_first_version(before)
        serving = store_from_url(fresh)
        await serving.open()
        writer = await begin(serving, "t", "r1")
    opening = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", OPENS, fresh, stdin=PIPE, stdout=PIPE)
        for _ in range(3)
    ]
    for process in opening:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"ready\n"
    upgrades = asyncio.gather(*(process.communicate(b"\n") for process in opening))
    while not upgrades.done():
        await writer.write(*text("m", "word"))
    assert [output for output, _ in await upgrades] == [b"written\n"] * 3
    # Who opened it before goes on, with the functions of this version.
    await writer.end()
    await serving.delete("t")
    async with opened(fresh) as store:
        assert [record.thread_id for record in await store.records(None, None, None, 9)] == ["other"] * 3
    await serving.aclose()


OPENS = """
import asyncio, os, sys
from agentrunner.stores import Change
from agentrunner.stores.urls import store_from_url

async def main():
    store = store_from_url(sys.argv[1])
    print("ready", flush=True)
    sys.stdin.readline()
    await store.open()
    key = str(os.getpid())
    await store.write([Change("kind", key, "t", b""), Change("kind", key + "o", "other", b"")])
    await store.aclose()
    print("written")

asyncio.run(main())
"""


@pytest.mark.parametrize("name", ["", "pg_temp", 'a"b', "a'b", "a;b", "a.b", "a%b", "x" * 64, "ü"])
def test_invalid_schema_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="schema"):
        PostgresStore("", schema=name)


def test_migration_files_are_numbered_without_gaps() -> None:
    files = resources.files("agentrunner.stores.postgres").joinpath("migrations").iterdir()
    names = sorted(file.name for file in files if file.name.endswith(".sql"))
    assert [name.partition("_")[0] for name in names] == [f"{n:04}" for n in range(1, len(names) + 1)]


def test_the_migrations_of_0_1_0_keep_their_places() -> None:
    # A schema that 0.1.0 has created has version 2: these two must come first, in this order.
    threads_and_runs, records, *_ = schema.migrations()
    assert 'CREATE TABLE "agentrunner".threads' in threads_and_runs
    assert 'CREATE TABLE "agentrunner".records' in records
