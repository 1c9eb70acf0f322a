"""Entries in a SQLite file that an earlier version or a TypeScript runner writes."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import orjson
import pytest

from agentrunner.testing.stored_threads import make_runs, make_summary
from agentrunner.testing.writer import READ_BYTES, claim, store_run, text
from support.sqlite_stores import opened
from support.typescript_file import add_row, elsewhere

if TYPE_CHECKING:
    from pathlib import Path

WITHOUT_NUMBERS = """
DROP VIEW message_ids;
ALTER TABLE entries DROP COLUMN seq;
ALTER TABLE entries RENAME TO message_ids;
PRAGMA user_version = 6;
"""
ADD_ID = "INSERT OR IGNORE INTO message_ids VALUES (?1, ?2)"
"""The statement by which earlier versions add an id."""
DELETE_ID = "DELETE FROM message_ids WHERE thread_id = ?1 AND message_id = ?2"
ASKED = ["u1", "u2", "u3", "u4", "m-r1", "m-r2", "m-r3", "m-r4"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "threads.db"


def take_numbers_away(path: Path) -> None:
    """Leave the file as the version before the numbers did."""
    code = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(sys.argv[2])"
    subprocess.run([sys.executable, "-c", code, path, WITHOUT_NUMBERS], check=True)


async def fill(path: Path) -> None:
    """Store three runs as the version before did."""
    async with opened(path) as store:
        for n in (1, 2, 3):
            await store_run(store, "t", f"r{n}", [f"u{n}"])
    take_numbers_away(path)


async def test_entries_of_an_earlier_version_are_known_without_a_number(path: Path) -> None:
    await fill(path)
    expected = {"u1": 0, "u2": 0, "u3": 0, "m-r1": 0, "m-r2": 0, "m-r3": 0}
    async with opened(path, read_only=True) as store:
        assert await store.known_ids("t", ASKED) == expected
    assert elsewhere(path, "PRAGMA user_version") == [[6]]
    async with opened(path) as store:
        assert await store.known_ids("t", ASKED) == expected
        # A run of this version that has such an entry gives it a number.
        again = make_runs("r4", first_seq=16)[0]
        events = orjson.loads(again.events)
        events[1:1] = text("m-r1", "word")
        await store.put(make_summary("t"), [again._replace(events=orjson.dumps(events))])
        _, known = await claim(store, "t", "r5", ASKED)
        assert known == expected | {"m-r1": 20, "m-r4": 20}


async def test_pruned_runs_of_an_earlier_version_take_only_their_own_entries(path: Path) -> None:
    await fill(path)
    async with opened(path) as store:
        await store_run(store, "t", "r4", ["u4"])
        assert await store.prune(3, None, 100) == 1
        left = {"u2": 0, "u3": 0, "m-r2": 0, "m-r3": 0, "u4": 20, "m-r4": 20}
        assert await store.known_ids("t", ASKED) == left
        assert await store.prune(1, None, 100) == 2
        assert await store.known_ids("t", ASKED) == {"u4": 20, "m-r4": 20}
        await store_run(store, "t", "r5")
        assert await store.prune(1, None, 100) == 1
        assert await store.known_ids("t", ASKED) == {}
    assert elsewhere(path, "SELECT DISTINCT seq FROM entries") == [[25]]


async def test_an_entry_of_two_runs_of_an_earlier_version_goes_with_the_newer(path: Path) -> None:
    first, second, third = make_runs("r1", "r2", "r3")
    async with opened(path) as store:
        await store.put(make_summary("t"), [first, second._replace(events=first.events), third])
    take_numbers_away(path)
    async with opened(path) as store:
        await store.prune(2, None, 100)
        assert await store.known_ids("t", ["m-r1", "m-r3"]) == {"m-r1": 0, "m-r3": 0}
        await store.prune(1, None, 100)
        assert await store.known_ids("t", ["m-r1", "m-r3"]) == {"m-r3": 0}


async def test_a_process_of_an_earlier_version_still_writes_to_the_file(path: Path) -> None:
    async with opened(path) as store:
        await store_run(store, "t", "r1", ["u1"])
        await store_run(store, "t", "r2", ["u2"])
        # That version adds the entries of a run that it has just indexed, here r2.
        for message_id in ("u1", "theirs", "theirs"):
            elsewhere(path, ADD_ID, "t", message_id)
        assert await store.known_ids("t", ["u1", "u2", "theirs"]) == {"u1": 10, "u2": 10, "theirs": 10}
        elsewhere(path, ADD_ID, "new", "theirs")
        assert await store.known_ids("t", ["u1"]) == {"u1": 10}
        # And it removes those of pruned runs by their ids.
        elsewhere(path, DELETE_ID, "t", "u1")
        assert await store.known_ids("t", ["u1", "u2", "theirs"]) == {"u2": 10, "theirs": 10}
        assert elsewhere(path, "SELECT count(*) FROM message_ids WHERE message_id = 'theirs'") == [[2]]


async def test_entries_of_a_typescript_runner_have_the_numbers_of_its_runs(path: Path) -> None:
    async with opened(path) as store:
        await store_run(store, "t", "r1", ["u1"])
        add_row(path, "t", "theirs", "r1", orjson.dumps([*text("m-r1", "word"), *text("x", "word")]).decode())
        runs = await store.runs("t", 0, READ_BYTES)
        assert [run.last_seq for run in runs] == [5, 11]
        assert await store.known_ids("t", ["u1", "m-r1", "x"]) == {"u1": 5, "m-r1": 11, "x": 11}


@pytest.mark.parametrize("number", ["'text'", "x'00'", "-1", "1.5"])
async def test_a_damaged_number_counts_as_unknown(path: Path, number: str) -> None:
    async with opened(path) as store:
        await store_run(store, "t", "r1", ["u1"])
        elsewhere(path, f"UPDATE entries SET seq = {number} WHERE message_id = 'u1'")  # noqa: S608 - it is meant to harm
        _, known = await claim(store, "t", "r2", ["u1", "m-r1"])
        assert known == {"u1": 0, "m-r1": 5}


async def test_a_broken_view_of_another_program_does_not_prevent_the_upgrade(path: Path) -> None:
    await fill(path)
    for sql in ("CREATE TABLE theirs (a)", "CREATE VIEW broken AS SELECT a FROM theirs", "DROP TABLE theirs"):
        elsewhere(path, sql)
    async with opened(path) as store:
        assert await store.known_ids("t", ["u1"]) == {"u1": 0}
