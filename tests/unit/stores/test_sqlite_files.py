"""Files that SQLite stores refuse, and stores after a fork."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from agentrunner import (
    SqliteAgentRunner,
    StoreCorrupt,
    StoreError,
    StoreTooNew,
)

if TYPE_CHECKING:
    from pathlib import Path


def test_an_empty_path_raises_ValueError() -> None:
    for path in (":memory:", ""):
        with pytest.raises(ValueError, match="needs a file"):
            SqliteAgentRunner(path)


async def expect_refusal(path: Path, error: type[StoreError]) -> str:
    runner = SqliteAgentRunner(path)
    with pytest.raises(error) as refusal:
        await runner.threads.list()
    assert type(refusal.value) is error
    await runner.aclose()
    return str(refusal.value)


async def test_a_file_that_is_no_database_is_refused_and_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_bytes(b"Dear reader, " * 1000)
    await expect_refusal(path, StoreCorrupt)
    assert path.read_bytes() == b"Dear reader, " * 1000


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
async def test_a_file_of_another_program_is_refused_and_unchanged(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "notes.db"
    with closing(sqlite3.connect(path)) as notes:
        notes.execute(f"PRAGMA journal_mode = {mode}")
        notes.execute("CREATE TABLE notes (text TEXT)")
        notes.commit()
    before = path.read_bytes()
    assert "no tables of agentrunner" in await expect_refusal(path, StoreError)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.db"]
    assert path.read_bytes() == before


async def test_a_database_without_tables_becomes_a_store(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"
    with closing(sqlite3.connect(path)) as empty:
        empty.execute("CREATE TABLE gone (text TEXT)")
        empty.execute("DROP TABLE gone")
        empty.commit()
    assert path.stat().st_size > 0
    async with SqliteAgentRunner(path) as runner:
        assert await runner.threads.list() == []


async def test_a_newer_schema_is_refused_and_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 999")
    assert "999" in await expect_refusal(path, StoreTooNew)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
        assert db.execute("PRAGMA user_version").fetchone() == (999,)


async def test_a_directory_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    assert str(tmp_path) in await expect_refusal(tmp_path, StoreError)
    await expect_refusal(tmp_path / "missing" / "threads.db", StoreError)
    assert list(tmp_path.iterdir()) == []


FORKS = """
import asyncio, os, sys, traceback
from agentrunner import RunnerClosed, SqliteAgentRunner, SqliteStore, StoreForked

async def expect_refusal(verb, refusal):
    try:
        await verb
    except refusal as error:
        print(type(error).__name__, error, flush=True)
    else:
        raise AssertionError("nothing was refused")

def child(loop, store, runner):
    try:
        # On the inherited loop, then on a new one, as `asyncio.run` in the child makes it.
        loop.run_until_complete(expect_refusal(runner.threads.list(), StoreForked))
        asyncio.run(expect_refusal(store.threads(10, None, False, None, None), StoreForked))
        asyncio.run(expect_refusal(runner.threads.list(), RunnerClosed))
        asyncio.run(store.aclose())
        return 7
    except BaseException:
        traceback.print_exc()
        return 9

loop = asyncio.new_event_loop()
store, runner = SqliteStore(sys.argv[1]), SqliteAgentRunner(sys.argv[1])
loop.run_until_complete(store.open())
assert loop.run_until_complete(runner.threads.list()) == []
pid = os.fork()
if pid == 0:
    os._exit(child(loop, store, runner))
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
# The parent's are as good as before.
assert loop.run_until_complete(store.threads(10, None, False, None, None)) == []
assert loop.run_until_complete(runner.threads.list()) == []
loop.run_until_complete(runner.aclose())
loop.run_until_complete(store.aclose())
loop.close()
sys.exit(code)
"""


def test_a_forked_store_is_refused_and_the_parent_continues(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKS, str(tmp_path / "threads.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=os.environ)
    assert done.returncode == 7, done.stderr
    words = [line.split()[0] for line in done.stdout.splitlines()]
    assert words == ["StoreForked", "StoreForked", "RunnerClosed"]
