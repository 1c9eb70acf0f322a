"""Appends and journals on PostgreSQL: the indexes statements use, long runs, damaged rows."""

from __future__ import annotations

import contextlib
import os
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from agentrunner import (
    InvalidEvent,
    LeaseLost,
    StoreCorrupt,
    StoreError,
)
from agentrunner._core import Batch
from agentrunner.stores.postgres import history, listener, runs, threads
from agentrunner.testing.writer import Writer, begin, claim, read_journal, wait_and_recover
from agentrunner.testing.writer import history as stored
from support.events import event_types
from support.postgres import database, opened, plan, until

if TYPE_CHECKING:
    pass
pytestmark = pytest.mark.postgres


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
            (history.READ_HISTORY, {"seq": 19_000, "inside": False, "until": 2**62, "most": 9}, "runs_chain"),
            (history.READ_RUNS, {"after": 19_000}, "runs_chain"),
            (history.READ_JOURNAL, {"after": 19_000, "until": 2**62}, "journal_pkey"),
            (history.LOCATE_CURSOR, {"seq": 19_000}, "runs_chain"),
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

        async def has_enough_updates() -> bool:
            [(updated, hot)] = await execute(
                "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables"
                " WHERE schemaname = %s AND relname = 'live_runs'",
                store.schema,
            )
            assert hot == updated
            return bool(updated >= 100)

        await until(has_enough_updates)


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
        appends = [
            (b, batch(3)),
            (b, batch(2)),
            (b, batch(1)),
            (b, batch(1, b"other")),
            (a, batch(1)),
            (a, batch(9)),
            (c, batch(1)),
        ]
        outcomes = await store._commit_appends(appends)
        kinds = [next((kind for kind in (LeaseLost, StoreError) if isinstance(each, kind)), None) for each in outcomes]
        assert kinds == [None, None, None, StoreError, None, StoreError, LeaseLost]
        assert [event.seq for event in await read_journal(store, "b")] == [1, 2, 3]
        assert [event.seq for event in await read_journal(store, "a")] == [1]
        assert await read_journal(store, "c") == []


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
        assert events[1].to_dict() == (await read_journal(store, "t"))[1].to_dict()


@pytest.mark.parametrize("damaged", [b"\0\xff", b"", b'id: 9\ndata: {"type":"CUSTOM"}\n\n', b"id: 3\ndata: {\n\n"])
async def test_only_the_unreadable_part_of_a_damaged_journal_is_lost(location: str, damaged: bytes) -> None:
    async with opened(location) as gone, database(gone) as execute:
        writer = await begin(gone, "t", "r")
        for value in range(4):
            await writer.write({"type": "CUSTOM", "name": "n", "value": value})
        # Who could not read it for another reason does not cut it.
        with pytest.raises(StoreError, match="do not follow"):
            await gone.append(writer.claim, Batch(b'id: 3\ndata: {"type":"CUSTOM"}\n\n', 3, 1), False)
        assert len(await read_journal(gone, "t")) == 5
        await execute('UPDATE "agentrunner".journal SET frames = %s WHERE first_seq = 3', damaged)
    async with opened(location) as store:
        [left] = await wait_and_recover(store)
        writer = Writer(store, left)
        with contextlib.suppress(StoreCorrupt, InvalidEvent):
            while len(frames := (await store.journal("t", writer.recorder.last_seq, None, 1)).frames):
                writer.recorder.replay(frames)
        assert writer.recorder.last_seq == 2
        await writer.end()
        events = await stored(store, "t")
        assert event_types(events) == ["RUN_STARTED", "CUSTOM", "RUN_FINISHED"]
        assert event_types(await read_journal(store, "t")) == event_types(events)
        assert (await begin(store, "t", "r2")).claim.first_seq == 4
