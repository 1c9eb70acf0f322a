"""Records on PostgreSQL: lost responses, locks and statements.

`conformance/` tests what holds for every store.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from agentrunner import RecordConflict, ThreadSummary
from agentrunner.stores import Change
from agentrunner.stores.postgres import records
from agentrunner.testing.stored_threads import make_runs
from agentrunner.testing.writer import begin
from agentrunner.types import ANY_SCOPE
from support import backends
from support.postgres import Lost, database, opened, plan, until

if TYPE_CHECKING:
    pass


async def test_a_write_whose_answer_was_lost_is_known_again(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = Lost(monkeypatch)
    async with opened(location) as store, opened(location) as other, database(store) as execute:
        writer = await begin(store, "t", "r")
        b, a = await lost.of('".write(', store.write([Change("k", "b", "t", b"1", 0), Change("k", "a", "", b"2")]))
        stored_records = await other.records(None, None, None, 9)
        assert [(record.key, record.version) for record in stored_records] == [("a", a), ("b", b)]
        changes = [Change("k", "b", "t", None, b), Change("k", "a", "", b"3", a)]
        _, a = await lost.of('".write(', store.write(changes, writer.claim))
        assert await other.records(None, None, None, 9) == [("k", "a", "", a, b"3")]
        # The same asked again by itself is no retry, and what was refused is refused again.
        with pytest.raises(RecordConflict, match="'a'"):
            await store.write([changes[1]])
        with pytest.raises(RecordConflict, match="'b'"):
            await lost.of('".write(', store.write([Change("k", "a", "", b"x"), changes[0]]))
        assert len(await execute('SELECT call FROM "agentrunner".writes')) == 2


async def test_a_lost_write_is_recognized_after_another_change(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = Lost(monkeypatch)
    async with opened(location) as store, opened(location) as other:
        writer = await begin(store, "t", "r")
        sleep = asyncio.sleep
        seen = []

        async def meanwhile(seconds: float) -> None:
            [record] = await other.records(None, None, None, 9)
            seen.append(record.version)
            await other.write([Change("k", "a", "", b"other's", record.version)])
            monkeypatch.setattr("agentrunner.stores.postgres.client.asyncio.sleep", sleep)
            await writer.end()

        monkeypatch.setattr("agentrunner.stores.postgres.client.asyncio.sleep", meanwhile)
        told = await lost.of('".write(', store.write([Change("k", "a", "", b"ours", 0)], writer.claim))
        assert told == seen
        assert [record.value for record in await store.records(None, None, None, 9)] == [b"other's"]


async def test_a_try_waits_for_the_one_before_it(location: str) -> None:
    async with opened(location) as store, database(store) as execute:
        one = {"kinds": ["k"], "keys": ["a"], "threads": ["t"], "values": [b"1"], "removed": [False]}
        values: dict[str, Any] = {**one, "call": 5, "thread_id": None, "token": None, "ttl": 1, "versions": [-1]}
        statement = records.WRITE_RECORDS.replace('"agentrunner"', f'"{store.schema}"')
        connect = psycopg.AsyncConnection.connect
        async with await connect(backends.POSTGRES) as first, await connect(backends.POSTGRES) as second:
            rows = await (await first.execute(statement, {**values, "is_retry": False})).fetchall()
            again = asyncio.create_task(second.execute(statement, {**values, "is_retry": True}))
            waiting = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND pid = %s"
            await until(lambda: execute(waiting, second.info.backend_pid))
            await first.commit()
            assert await (await again).fetchall() == rows


async def test_finished_writes_are_forgotten_after_a_while(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = iter([1, 2, 3, 64])
    monkeypatch.setattr(records, "draw_call_number", lambda: next(calls))
    async with opened(location) as store, database(store) as execute:
        for _ in range(3):
            await store.write([Change("k", "a", "t", b"")])
        await execute("UPDATE \"agentrunner\".writes SET at = now() - interval '11 minutes' WHERE call < 3")
        await store.write([Change("k", "a", "t", b"")])
        assert await execute('SELECT call FROM "agentrunner".writes ORDER BY 1') == [(3,), (64,)]


async def test_many_that_write_and_remove_do_not_wait_in_a_circle(location: str) -> None:
    dice = Random(7)  # noqa: S311 - nothing is kept secret by it
    async with opened(location) as store, opened(location) as other, database(store) as execute:
        [(before,)] = await execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        highest: dict[str, int] = {}

        async def writes() -> None:
            for _ in range(60):
                keys = dice.sample([f"{n}" for n in range(12)], dice.randint(1, 6))
                changes = [Change("k", key, f"t{int(key) % 2}", dice.choice([b"", None])) for key in keys]
                for key, version in zip(keys, await dice.choice([store, other]).write(changes), strict=True):
                    highest[key] = max(highest.get(key, 0), version)

        async def removes() -> None:
            for n in range(20):
                await store.put(ThreadSummary("t0", None, None, False, False, 1, 1, 1), make_runs(f"r{n}"))
                await dice.choice([store, other]).clear(ANY_SCOPE)

        await asyncio.gather(*(writes() for _ in range(8)), removes())
        for record in await store.records(None, None, None, 99):
            assert record.version == highest[record.key]
        await execute("SELECT pg_stat_clear_snapshot()")
        [(after,)] = await execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        assert after == before


async def test_pages_read_their_part_of_an_index(location: str) -> None:
    async with opened(location) as store, database(store) as execute:
        await execute(
            "INSERT INTO \"agentrunner\".records SELECT 'k' || n % 9, 'r' || n, 't' || n % 8, n, ''"
            " FROM generate_series(1, 20000) n"
        )
        await execute('ANALYZE "agentrunner".records')
        parameters: dict[str, Any] = {
            "kind": "k7",
            "key": "r1",
            "thread_id": "t7",
            "after_kind": "k7",
            "after_key": "r1",
        }
        for statement, index in (
            (records.READ_RECORD, "records_pkey"),
            (records.render_record_query(False, False), "records_pkey"),
            (records.render_record_query(True, False), "records_pkey"),
            (records.render_record_query(False, True), "records_thread"),
            (records.render_record_query(True, True), "records_thread"),
        ):
            steps = await plan(store, statement, limit=100, most=9, **parameters)
            assert index in steps, steps
            assert "Seq Scan" not in steps, steps


async def test_large_values_are_fetched_apart(location: str) -> None:
    async with opened(location) as store:
        values = [b"s", b"l" * (2 << 20), b"", b"m" * (2 << 20)]
        await store.write([Change("k", f"{n}", "t", value) for n, value in enumerate(values)])
        assert [record.value for record in await store.records("k", None, None, 9)] == values
        stored_record = await store.record("k", "1")
        assert stored_record is not None
        assert stored_record.value == values[1]


pytestmark = pytest.mark.postgres
