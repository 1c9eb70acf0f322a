"""What is special about the store on PostgreSQL; what holds for every store is in `conformance/`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import uuid
from asyncio.subprocess import PIPE
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
import pytest

from agentrunner import (
    AgentRunner,
    InvalidEvent,
    InvalidInput,
    LeaseLost,
    PostgresAgentRunner,
    StoreClosed,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreTooNew,
    ThreadAlreadyRunning,
    ThreadNotFound,
    ThreadSummary,
)
from agentrunner._core import Batch
from agentrunner.stores import Change
from agentrunner.stores.postgres import PostgresStore, history, listener, runs, schema, threads
from agentrunner.stores.urls import store_from_url
from agentrunner.testing.writer import Writer, begin, claim, lines, raw, recovered, text, whole
from agentrunner.testing.writer import history as stored
from agentrunner.types import ANY_SCOPE
from support import backends
from support.agents import agent_with
from support.events import event_types, run_finished, run_started
from support.inputs import make_input
from support.postgres import Lost, database, opened, plan, until
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from ag_ui.core import RunAgentInput


@pytest.fixture
def location(tmp_path: Path) -> Iterator[str]:
    with backends.place("postgres", tmp_path) as location:
        yield location


@pytest.fixture
def fresh() -> Iterator[str]:
    """Give a location where there is no schema yet; it goes at the end."""
    backends.needs("postgres")
    schema = f"agentrunner-fresh-{uuid.uuid4().hex[:12]}"
    yield f"{backends.POSTGRES}?schema={schema}"
    with psycopg.connect(backends.POSTGRES, autocommit=True, options="-c client_min_messages=warning") as connection:
        connection.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')


# The schema


async def test_processes_that_open_a_new_schema_at_once(fresh: str) -> None:
    stores = [store_from_url(fresh) for _ in range(6)]
    await asyncio.gather(*(store.open() for store in stores))
    for n, store in enumerate(stores):
        await whole(store, "t", f"r{n}")
    assert (await stores[0].thread("t")).runs == 6
    for store in stores:
        await store.aclose()


async def test_a_schema_of_a_newer_version_is_refused(fresh: str) -> None:
    async with opened(fresh) as store, database(store) as execute:
        await execute('UPDATE "agentrunner".schema_version SET version = version + 1')
        with pytest.raises(StoreTooNew, match="update agentrunner"):
            await store_from_url(fresh).open()


async def test_a_schema_that_was_made_for_us(fresh: str) -> None:
    async with database(PostgresStore("", schema=fresh.rpartition("=")[2])) as execute:
        await execute('CREATE SCHEMA "agentrunner"')
    async with opened(fresh) as store:
        await whole(store, "t", "r")


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


async def test_a_schema_of_the_version_before_is_upgraded(fresh: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = schema.migrations()[:1]
    with monkeypatch.context() as before:
        before.setattr(schema, "migrations", lambda: first)
        async with opened(fresh) as store:
            await whole(store, "t", "r1", ["u1"], scope="alice")
            await begin(store, "live", "r2")
            kept = lines(await stored(store, "t"))
    async with opened(fresh) as store, database(store) as execute:
        assert await execute('SELECT version FROM "agentrunner".schema_version') == [(len(schema.migrations()),)]
        assert lines(await stored(store, "t")) == kept
        await store.write([Change("kind", "a", "t", b"1"), Change("kind", "b", "live", b"2")])
        [taken] = await recovered(store)
        await (await Writer(store, taken).replay()).end()
        await whole(store, "t", "r3", scope="alice")
        assert (await store.thread("t")).runs == 2
        # The functions that were there know of records now.
        await store.delete("t")
        assert [record.key for record in await store.records(None, None, None, 9)] == ["b"]
        assert await store.prune(None, 1 << 60, 9) == 1
        assert await store.records(None, None, None, 9) == []


async def test_processes_upgrade_at_once_beside_one_that_serves(fresh: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = schema.migrations()[:1]
    with monkeypatch.context() as before:
        before.setattr(schema, "migrations", lambda: first)
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
    assert [said for said, _ in await upgrades] == [b"written\n"] * 3
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
def test_names_that_are_no_schema(name: str) -> None:
    with pytest.raises(ValueError, match="schema"):
        PostgresStore("", schema=name)


def test_what_is_no_address() -> None:
    with pytest.raises(ValueError, match="no address"):
        PostgresStore("host = 'unclosed")


def test_without_its_client_the_extra_is_named() -> None:
    code = "import sys; sys.modules['psycopg'] = None\nimport agentrunner\nagentrunner.PostgresAgentRunner('')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "agentrunner[postgres]" in done.stderr.splitlines()[-1]


def test_who_does_not_use_it_does_not_import_its_client() -> None:
    code = "import sys, agentrunner; sys.exit('psycopg' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_the_runner(location: str) -> None:
    schema = location.rpartition("=")[2]
    async with PostgresAgentRunner(backends.POSTGRES, schema=schema, lease_ttl=5) as runner:
        assert event_types(await collect(await runner.run(agent_with(), make_input()))) == [
            "RUN_STARTED",
            "RUN_FINISHED",
        ]
        assert repr(runner) == f"PostgresAgentRunner(schema={schema!r})"


# Statements


async def test_statements_read_their_part_of_an_index(fresh: str) -> None:
    async with opened(fresh) as store, database(store) as execute:
        await execute(
            'INSERT INTO "agentrunner".threads (thread_id, scope, runs, created_at, updated_at)'
            " SELECT 't' || n, CASE WHEN n % 50 > 0 THEN 's' || n % 50 END, 1, n, n FROM generate_series(1, 20000) n"
        )
        await execute(
            'INSERT INTO "agentrunner".runs (run_id, thread_id, input, first_seq, last_seq, events, created_at)'
            " SELECT 'r' || n, 't' || n % 200, '{}', n, n, '[]', n FROM generate_series(1, 20000) n"
        )
        await execute(
            "INSERT INTO \"agentrunner\".journal SELECT 't' || n % 200, n, n, 'x' FROM generate_series(1, 20000) n"
        )
        await execute(
            "INSERT INTO \"agentrunner\".journal_expiry SELECT 't' || n, 1, 1, now() + n * interval '1s'"
            " FROM generate_series(1, 20000) n"
        )
        await execute(
            'INSERT INTO "agentrunner".live_runs'
            " (thread_id, run_id, token, owner, call, expires_at, first_seq, last_seq)"
            " SELECT 't' || n, 'r' || n, n, 'o', 1, now(), 1, 1 FROM generate_series(1, 5000) n"
        )
        for table in ("threads", "runs", "journal", "journal_expiry", "live_runs"):
            await execute(f'ANALYZE "agentrunner".{table}')

        page = {"before_time": 2**62, "before_id": "", "archived": True, "agent_id": None, "limit": 100}
        for whose, scope, index in (
            ("all", None, "threads_updated"),
            ("none", None, "threads_scope"),
            ("one", "s7", "threads_scope"),
        ):
            steps = await plan(store, threads.render_thread_query(whose), scope=scope, **page)
            assert f"Index Scan Backward using {index}" in steps, steps
            assert "Sort" not in steps, steps
        thread = {"thread_id": "t7", "limit": 1000, "rows": 100}
        for statement, values, index in (
            (history.READ_HISTORY, {"seq": 100, "inside": False, "until": 2**62, "most": 9}, "runs_chain"),
            (history.READ_RUNS, {"after": 100}, "runs_chain"),
            (history.READ_JOURNAL, {"after": 100, "until": 2**62}, "journal_pkey"),
            (history.LOCATE_CURSOR, {"seq": 100}, "runs_chain"),
            (runs.LIST_STOPS, {}, "live_runs_stops"),
            (f"{runs.LIST_LIVE_RUNS} WHERE l.thread_id = %(thread_id)s::text", {}, "live_runs_pkey"),
            (runs.LIST_OWNERS, {}, "journal_expiry_time"),
            (threads.READ_THREAD, {}, "threads_pkey"),
            (listener.READ_FOLLOWED_RUNS, {"threads": ["t1", "t2"]}, "live_runs_pkey"),
            (threads.LIST_THREADS_TO_PRUNE, {"max_runs": 5, "before": 10}, "threads_runs"),
            (threads.LIST_THREADS_TO_PRUNE, {"max_runs": 5, "before": 10}, "runs_age"),
        ):
            steps = await plan(store, statement, **{**thread, **values})
            assert index in steps, steps
            # The owners of live runs are read all.
            assert "Seq Scan" not in steps.replace("Seq Scan on live_runs", "") or statement == runs.LIST_OWNERS, steps


async def test_appends_change_no_index(fresh: str) -> None:
    async with opened(fresh) as store, database(store) as execute:
        writer = await begin(store, "t", "r")
        for n in range(300):
            await writer.write({"type": "CUSTOM", "name": "n", "value": n})

        async def counted() -> bool:
            [(updated, hot)] = await execute(
                "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables"
                " WHERE schemaname = %s AND relname = 'live_runs'",
                store.schema,
            )
            assert hot == updated
            return bool(updated >= 100)

        await until(counted)


async def test_one_statement_appends_for_all_and_says_what_came_of_each(location: str) -> None:
    def batch(first: int, word: bytes = b"a") -> Batch:
        return Batch(b'id: %d\ndata: {"type":"%s"}\n\n' % (first, word), first, 1)

    async with opened(location) as store:
        b, _ = await claim(store, "b", "r1")
        a, _ = await claim(store, "a", "r2")
        await store.append(b, batch(1), False)
        c, _ = await claim(store, "c", "r3")
        await store.finish(c, Writer(store, c).recorder, False)
        # Two of one run, in either order, one of it again, one with a gap, one whose lease is gone.
        given = [
            (b, batch(3)),
            (b, batch(2)),
            (b, batch(1)),
            (b, batch(1, b"other")),
            (a, batch(1)),
            (a, batch(9)),
            (c, batch(1)),
        ]
        outcomes = await store._commit_appends(given)
        kinds = [next((kind for kind in (LeaseLost, StoreError) if isinstance(each, kind)), None) for each in outcomes]
        assert kinds == [None, None, None, StoreError, None, StoreError, LeaseLost]
        assert [event.seq for event in await raw(store, "b")] == [1, 2, 3]
        assert [event.seq for event in await raw(store, "a")] == [1]
        assert await raw(store, "c") == []


async def test_frames_past_their_window_go_a_few_at_a_time(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "TRIMMED_ROWS", 5)
    async with opened(location, resume_window=0) as store, database(store) as execute:
        for n in range(2):
            writer = await begin(store, "t", f"r{n}")
            for value in range(7):
                await writer.write({"type": "CUSTOM", "name": "n", "value": value})
            await writer.end()
        left = []
        while not left or left[-1]:
            await store.recover()
            [(rows,)] = await execute('SELECT count(*) FROM "agentrunner".journal')
            left.append(rows)
        assert left[0] >= 18 - 5
        assert all(before - after <= 5 for before, after in pairwise(left))
        await store.recover()
        assert await execute('SELECT * FROM "agentrunner".journal_expiry') == []
        assert (await begin(store, "t", "r")).claim.first_seq == 19


async def test_a_run_of_many_megabytes(location: str) -> None:
    async with opened(location) as store:
        writer = await begin(store, "t", "r")
        for n in range(6):
            await writer.write({"type": "CUSTOM", "name": "big", "value": os.urandom(1_500_000).hex() + str(n)})
        await writer.end()
        events = await stored(store, "t")
        assert sum(len(bytes(event)) for event in events) > 18_000_000
        assert events[1].to_dict() == (await raw(store, "t"))[1].to_dict()


@pytest.mark.parametrize("damaged", [b"\0\xff", b"", b'id: 9\ndata: {"type":"CUSTOM"}\n\n', b"id: 3\ndata: {\n\n"])
async def test_a_damaged_journal_costs_what_cannot_be_read_of_it(location: str, damaged: bytes) -> None:
    async with opened(location) as gone, database(gone) as execute:
        writer = await begin(gone, "t", "r")
        for value in range(4):
            await writer.write({"type": "CUSTOM", "name": "n", "value": value})
        # Who could not read it for another reason does not cut it.
        with pytest.raises(StoreError, match="do not follow"):
            await gone.append(writer.claim, Batch(b'id: 3\ndata: {"type":"CUSTOM"}\n\n', 3, 1), False)
        assert len(await raw(gone, "t")) == 5
        await execute('UPDATE "agentrunner".journal SET frames = %s WHERE first_seq = 3', damaged)
    async with opened(location) as store:
        [left] = await recovered(store)
        writer = Writer(store, left)
        with contextlib.suppress(StoreCorrupt, InvalidEvent):
            while len(frames := (await store.journal("t", writer.recorder.last_seq, None, 1)).frames):
                writer.recorder.replay(frames)
        assert writer.recorder.last_seq == 2
        await writer.end()
        events = await stored(store, "t")
        assert event_types(events) == ["RUN_STARTED", "CUSTOM", "RUN_FINISHED"]
        assert event_types(await raw(store, "t")) == event_types(events)
        assert (await begin(store, "t", "r2")).claim.first_seq == 4


# What PostgreSQL has no text for


@pytest.mark.parametrize("odd", ["\0", "a\0", "a\ud800"])
async def test_what_cannot_be_kept_is_refused_and_never_found(location: str, odd: str) -> None:
    async with opened(location) as store:
        await whole(store, "a", "r0")
        for attempt in (
            store.claim(odd, "r", "{}", None, [], None),
            store.claim("t", odd, "{}", None, [], None),
            store.claim("t", "r", "{}", odd, [], None),
            store.claim("t", "r", "{}", None, [], odd),
            store.rename("a", odd),
            store.put(ThreadSummary(odd, None, None, False, False, 0, 1, 1), []),
        ):
            with pytest.raises(InvalidInput, match="cannot keep"):
                await attempt
        for missing in (store.thread(odd), store.rename(odd, "n"), store.archive(odd, True), store.delete(odd)):
            with pytest.raises(ThreadNotFound):
                await missing
        assert await store.live(odd) == await store.recover(odd) == await store.runs(odd, 0, 1) == []
        assert not await store.request_stop(odd, None)
        assert not await store.request_stop("a", odd)
        assert (await store.locate(odd, (0, None))).kind == "stored"
        assert await raw(store, odd) == await stored(store, odd) == []
        for scope, agent_id in ((odd, None), (None, odd)):
            assert await store.threads(9, None, True, agent_id, scope) == []
        await store.changed(odd, 0)
        await store.clear(odd)
        assert [thread.thread_id for thread in await store.threads(9, None, True, None, ANY_SCOPE)] == ["a"]


async def test_a_page_behind_a_thread_no_store_of_this_kind_has(location: str) -> None:
    async with opened(location) as store:
        for n, thread in enumerate(("a", "a\1", "aa", "b")):
            await store.put(ThreadSummary(thread, None, None, False, False, 0, 7, 7), [])
            await store.claim(thread, f"r{n}", "{}", None, [], None)
        at = (await store.thread("b")).updated_at
        for behind in ("a\0", "a\0z", "a\ud800"):
            page = await store.threads(9, (at + 10_000, behind), True, None, None)
            assert len(page) == 4, behind
        async with database(store) as execute:
            await execute('UPDATE "agentrunner".threads SET updated_at = 5')
        page = await store.threads(9, (5, "a\0z"), True, None, None)
        assert [thread.thread_id for thread in page] == ["a"]


async def test_message_ids_have_any_character(location: str) -> None:
    ids = ["\0", "a\0b", "\ud800", "ü", "a"]
    async with opened(location) as store:
        writer = Writer(store, *await claim(store, "t", "r1"))
        await writer.write({"type": "RUN_STARTED", "threadId": "t", "runId": "r1"}, *text("a\0b", "x"), *text("ü", "x"))
        await writer.end()
        _, known = await store.claim("t", "r2", "{}", None, ids, None)
        assert known == ["a\0b", "ü"]


# When the server or the connection fails


async def test_a_lost_answer_changes_nothing(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = Lost(monkeypatch)
    async with opened(location, lease_ttl=3) as store, opened(location) as other, database(store) as execute:
        claimed, _ = await lost.of('".claim(', store.claim("t", "r1", "{}", None, [], None))
        assert await execute('SELECT token FROM "agentrunner".live_runs') == [(claimed.token,)]
        # The same asked again by itself is no retry.
        with pytest.raises(ThreadAlreadyRunning):
            await store.claim("t", "r1", "{}", None, [], None)

        writer = Writer(store, claimed)
        started = {"type": "RUN_STARTED", "threadId": "t", "runId": "r1"}
        await lost.of('".append_one(', writer.write(started))
        await writer.write(*text("m", "word"))
        assert [event.seq for event in await raw(store, "t")] == [1, 2, 3, 4]
        assert await lost.of("stop_call =", other.request_stop("t", None)) is True
        assert await other.request_stop("t", None) is False
        writer.recorder.finalize(stop_requested=True)
        await writer._append()
        await lost.of('".finish(', writer.finish())
        with pytest.raises(LeaseLost):
            await writer.finish()
        assert (await store.thread("t")).runs == 1

        nothing = Writer(store, *await claim(store, "empty", "r2"))
        await lost.of('".finish(', nothing.finish(stored=False))
        with pytest.raises(LeaseLost):
            await nothing.finish(stored=False)

        await begin(store, "left", "r3")
        await execute("UPDATE \"agentrunner\".live_runs SET expires_at = now() - interval '1s'")
        [taken] = await lost.of("SKIP LOCKED", other.recover())
        assert await other.renew([taken]) == [True]
        assert await other.recover() == []

        await whole(store, "t", "r4")
        assert await lost.of('".prune_thread(', store.prune(1, None, 10)) == 0
        [left] = await store.runs("t", 0, 1)
        assert (left.run_id, left.parent_run_id) == ("r4", None)
        await lost.of('".put(', store.put(ThreadSummary("copy", None, None, False, False, 1, 1, 1), [
            left._replace(run_id="r5", first_seq=1, last_seq=5)]))  # fmt: skip
        assert (await store.thread("copy")).runs == 1
        await lost.of('".delete_thread(', store.delete("copy"))
        with pytest.raises(ThreadNotFound):
            await store.delete("copy")


@pytest.mark.parametrize("state", ["57P01", "57P03", "40P01", "40001", "53300", "08006"])
async def test_what_passes_is_tried_again(fresh: str, state: str) -> None:
    async with opened(fresh) as store, database(store) as execute:
        await failing(execute, state, times=3)
        await begin(store, "t", "r")
        assert len(await raw(store, "t")) == 1


async def failing(execute: Callable[..., Any], state: str, times: int = 1_000_000) -> None:
    """Let so many writes of the journal fail with this SQLSTATE."""
    await execute('CREATE SEQUENCE "agentrunner".failures')
    await execute(
        'CREATE FUNCTION "agentrunner".fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN'
        f" IF nextval('\"agentrunner\".failures') <= {times} THEN"
        f" RAISE EXCEPTION 'no more room' USING ERRCODE = '{state}'; END IF; RETURN NEW; END $$"
    )
    await execute('CREATE TRIGGER fail BEFORE INSERT ON "agentrunner".journal EXECUTE FUNCTION "agentrunner".fail()')


@pytest.mark.parametrize(
    ("state", "kind"), [("53100", StoreFull), ("25006", StoreReadOnly), ("XX000", StoreError), ("42501", StoreError)]
)
async def test_what_does_not_pass_is_said_at_once(fresh: str, state: str, kind: type[StoreError]) -> None:
    async with opened(fresh) as store, database(store) as execute:
        await failing(execute, state)
        writer = Writer(store, *await claim(store, "t", "r"))
        with pytest.raises(kind, match="no more room") as raised:
            await writer.write({"type": "RUN_STARTED", "threadId": "t", "runId": "r"})
        assert type(raised.value) is kind
        assert await execute('SELECT last_value FROM "agentrunner".failures') == [(1,)]
        assert await raw(store, "t") == []


async def test_a_session_that_may_not_write(fresh: str) -> None:
    reading = f"{fresh}&options={quote('-c default_transaction_read_only=on')}"
    with pytest.raises(StoreReadOnly):
        await store_from_url(reading).open()
    async with opened(fresh), opened(reading) as store:
        assert await store.threads(9, None, True, None, None) == []
        with pytest.raises(StoreReadOnly):
            await claim(store, "t", "r")


async def test_sessions_that_look_but_once_are_refused(location: str) -> None:
    options = quote("-c default_transaction_isolation=repeatable\\ read")
    with pytest.raises(StoreError, match="read committed"):
        await store_from_url(f"{location}&options={options}").open()


async def test_a_server_that_is_not_there() -> None:
    store = PostgresStore("postgresql://postgres@127.0.0.1:1/test", lease_ttl=0.1)
    with pytest.raises(StoreError, match="refused"):
        await store.open()
    with pytest.raises(StoreClosed):
        await store.stops()
    await store.aclose()


async def test_cancelled_calls_leave_no_trace(location: str) -> None:
    async with opened(location, pool_size=2) as store, database(store) as execute:
        writer = await whole(store, "t", "r")
        for n in range(40):
            calls = [
                asyncio.ensure_future(call)
                for call in (
                    stored(store, "t"), raw(store, "t"), store.threads(9, None, True, None, None), store.recover(),
                    store.claim(f"t{n}", f"r{n}", "{}", None, [], None), store.renew([writer.claim]),
                )
            ]  # fmt: skip
            await asyncio.sleep(n * 0.00015)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        # More of them at once than there are connections.
        assert await asyncio.gather(*(store.stops() for _ in range(6))) == [[]] * 6

        async def idle() -> bool:
            sessions = await execute(
                "SELECT state FROM pg_stat_activity WHERE query LIKE %s AND pid <> pg_backend_pid()",
                f"%{store.schema}%",
            )
            return {state for (state,) in sessions} == {"idle"}

        await until(idle)


async def test_what_was_begun_for_who_is_cancelled_is_done(location: str) -> None:
    async with opened(location) as store, database(store) as execute:
        await whole(store, "t", "r")
        async with await psycopg.AsyncConnection.connect(backends.POSTGRES) as other:
            await other.execute(f'SELECT 1 FROM "{store.schema}".threads FOR UPDATE')  # noqa: S608
            renaming = asyncio.create_task(store.rename("t", "named"))

            async def waits() -> bool:
                return bool(
                    await execute(
                        "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE %s",
                        f"%{store.schema}%",
                    )
                )

            await until(waits)
            renaming.cancel()
            with pytest.raises(asyncio.CancelledError):
                await renaming
            assert await waits()

        async def named() -> bool:
            return (await store.thread("t")).name == "named"

        await until(named)


FORKS = """
import asyncio, os, sys
from agentrunner import StoreForked, ThreadSummary
from agentrunner.stores.urls import store_from_url

async def child(store):
    for verb in (lambda: store.stops(), lambda: store.claim("t", "r", "{}", None, [], None)):
        try:
            await verb()
        except StoreForked:
            continue
        return 9
    await store.aclose()
    return 7

async def parent(store):
    await store.claim("t", "r", "{}", None, [], None)
    assert await store.stops() == []
    await store.aclose()

loop = asyncio.new_event_loop()
store = store_from_url(sys.argv[1])
loop.run_until_complete(store.open())
if (pid := os.fork()) == 0:
    sys.exit(asyncio.run(child(store)))
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
loop.run_until_complete(parent(store))
loop.close()
sys.exit(code)
"""


def test_a_forked_child_is_refused_and_the_parent_goes_on(location: str) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKS, location]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 7, done.stderr


# Following


async def never() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("way", ["told", "looking"])
async def test_a_run_elsewhere_is_followed(location: str, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    monkeypatch.setattr(listener, "MAX_WAIT_SECONDS", 1000.0)
    if way == "told":
        # One look, by which the run is known to be followed.
        monkeypatch.setattr(listener, "FOLLOWED_POLL_SECONDS", 1000.0)
    else:
        monkeypatch.setattr(listener.PostgresListener, "_listen", lambda self: never())
    said: asyncio.Queue[int | None] = asyncio.Queue()

    async def agent(given: RunAgentInput) -> AsyncIterator[dict[str, Any]]:
        yield run_started(given.thread_id, given.run_id)
        while (value := await said.get()) is not None:
            yield {"type": "CUSTOM", "name": "said", "value": value}
        yield run_finished(given.thread_id, given.run_id)

    async with AgentRunner(store_from_url(location)) as here, AgentRunner(store_from_url(location)) as there:
        await anext(await there.run(agent, make_input()))
        stream = await here.connect("t1")
        assert (await anext(stream)).type == "RUN_STARTED"
        await until(lambda: followed(here._store))
        if way == "told":
            await until(lambda: listening(here._store._listener))  # type: ignore[attr-defined]
        for value in range(3):
            said.put_nowait(value)
            assert (await anext(stream)).to_dict()["value"] == value
        said.put_nowait(None)
        assert event_types(await collect(stream)) == ["RUN_FINISHED"]


async def followed(store: Any) -> bool:
    async with database(store) as execute:
        return bool(await execute('SELECT 1 FROM "agentrunner".live_runs WHERE followed_until > now()'))


async def listening(told: listener.PostgresListener) -> bool:
    return told.is_listening


async def test_nobody_is_told_of_a_run_nobody_follows(location: str) -> None:
    async with opened(location) as store:
        before = set(store._listener._tasks)
        writer = await begin(store, "t", "r")
        await writer.write(*text("m", "a"))
        assert set(store._listener._tasks) == before


async def test_one_notification_names_as_many_as_it_has_room_for(location: str) -> None:
    async with opened(location) as here, opened(location) as there:
        waiting = asyncio.create_task(here.changed("t", 0))
        await until(lambda: listening(here._listener))
        for count in (1, listener.NOTIFIED_KEYS, listener.NOTIFIED_KEYS + 1):
            heard: list[str] = []
            here._listener._handle_notification = heard.append  # type: ignore[method-assign]
            for n in range(count):
                there._listener.notify(f"t{n}")

            async def arrived(heard: list[str] = heard) -> list[str]:
                return heard

            await until(arrived)
            assert [len(keys) for keys in heard] == [8 * count if count <= listener.NOTIFIED_KEYS else 0]
        await waiting


pytestmark = pytest.mark.postgres
