"""A SQLite store that is only read: no file appears, and none changes."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import AgentRunner, SqliteStore, StoreError, StoreReadOnly
from agentrunner.stores import Change
from agentrunner.types import ANY_SCOPE
from support.agents import agent_with
from support.events import text_message
from support.inputs import make_input
from support.sqlite_stores import opened
from support.streams import collect

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.fault("D16")

WRITER = """
import asyncio, sys
from agentrunner import SqliteStore
from agentrunner.stores import Change
async def main():
    store = SqliteStore(sys.argv[1])
    await store.open()
    for line in sys.stdin:
        await store.write([Change("kind", line.strip(), "t", b"value")])
        print("written", flush=True)
    await store.aclose()
asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder / "threads.db"


def state_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.iterdir()}


async def fill(path: Path) -> None:
    """Store a thread `t` with two runs."""
    async with AgentRunner(SqliteStore(path)) as runner:
        for run in ("r1", "r2"):
            await collect(await runner.run(agent_with(*text_message(run, "hello")), make_input("t", run)))


async def keys(store: SqliteStore) -> list[str]:
    return [each.key for each in await store.records(None, None, None, 100)]


class Writer:
    """Another process with the file open."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-c", WRITER, str(path)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    async def write(self, key: str) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{key}\n")
        self._process.stdin.flush()
        assert await asyncio.to_thread(self._process.stdout.readline) == "written\n"

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture
def writer(path: Path) -> Any:
    process = Writer(path)
    yield process
    process.kill()


async def read_all(path: Path) -> list[str]:
    """Call every method that reads; return the keys of the records."""
    async with opened(path, read_only=True) as store:
        for thread in await store.threads(10, None, True, None, ANY_SCOPE):
            assert await store.thread(thread.thread_id) == thread
            await store.history(thread.thread_id, (0, None), None, 1 << 20)
            await store.runs(thread.thread_id, 0, 1 << 20)
            await store.journal(thread.thread_id, 0, None, 1 << 20)
            await store.locate(thread.thread_id, (0, None))
            await store.known_ids(thread.thread_id, ["m"])
            await store.live(thread.thread_id)
        assert (await store.inspect(fix=False)).integrity == "ok"
        await store.stops()
        await store.record("kind", "a")
        return await keys(store)


async def test_a_file_that_was_closed_is_read_without_a_change(path: Path) -> None:
    await fill(path)
    async with opened(path) as store:
        await store.write([Change("kind", "a", "t", b"value")])
    before = state_of(path.parent)
    assert list(before) == ["threads.db"]
    assert await read_all(path) == ["a"]
    assert state_of(path.parent) == before


async def test_what_a_killed_process_left_is_read_without_a_change(path: Path, writer: Writer) -> None:
    await writer.write("a")
    writer.kill()
    before = state_of(path.parent)
    assert {"threads.db", "threads.db-wal", "threads.db-shm"} <= set(before)
    assert before["threads.db-wal"][0]
    assert await read_all(path) == ["a"]
    assert state_of(path.parent) == before


async def test_a_log_without_its_index_is_read_from_a_copy(path: Path, writer: Writer, tmp_path: Path) -> None:
    await writer.write("a")
    writer.kill()
    path.with_name("threads.db-shm").unlink()
    before = state_of(path.parent)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    # In a process of its own, whose folder for temporary files is known.
    done = subprocess.run(
        [sys.executable, "-c", READ, str(path)],
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "['a']\n", done.stderr
    assert state_of(path.parent) == before
    assert list(temporary.iterdir()) == []


READ = """
import asyncio, sys
from agentrunner import SqliteStore
async def main():
    store = SqliteStore(sys.argv[1], read_only=True)
    await store.open()
    print([each.key for each in await store.records(None, None, None, 100)])
    await store.aclose()
asyncio.run(main())
"""


async def test_a_reader_follows_a_process_that_writes(path: Path, writer: Writer) -> None:
    await writer.write("a")
    async with opened(path, read_only=True) as store:
        seen = ["a"]
        for n in range(5):
            await writer.write(str(n))
            seen.append(str(n))
            assert await keys(store) == sorted(seen)
        writer.close()
        assert await keys(store) == sorted(seen)


async def test_a_reader_of_a_closed_file_notices_that_a_process_begins_to_write(path: Path) -> None:
    async with opened(path):
        pass
    async with opened(path, read_only=True) as reader:
        assert await keys(reader) == []
        process = Writer(path)
        await process.write("a")
        assert await keys(reader) == ["a"]
        process.close()
        assert await keys(reader) == ["a"]


async def test_a_reader_shares_a_file_with_a_store_of_its_process(path: Path) -> None:
    async with opened(path) as store, opened(path, read_only=True) as reader:
        for n in range(3):
            await store.write([Change("kind", str(n), "t", b"value")])
            assert len(await keys(reader)) == n + 1


async def test_files_that_are_not_a_store_are_refused_and_unchanged(path: Path) -> None:
    folder = path.parent
    (folder / "empty.db").touch()
    (folder / "letter.txt").write_bytes(b"Dear reader, " * 1000)
    for name, mode in (("foreign.db", "DELETE"), ("foreign-wal.db", "WAL")):
        with closing(sqlite3.connect(folder / name)) as db:
            db.execute(f"PRAGMA journal_mode = {mode}")
            db.execute("CREATE TABLE notes (text TEXT)")
            db.commit()
    before = state_of(folder)
    expected = {
        "missing.db": "there is no such file",
        "empty.db": "has no tables of agentrunner",
        "foreign.db": "has no tables of agentrunner",
        "foreign-wal.db": "has no tables of agentrunner",
        "letter.txt": "not a database",
    }
    for name, text in expected.items():
        with pytest.raises(StoreError, match=text):
            await SqliteStore(folder / name, read_only=True).open()
    assert state_of(folder) == before


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
async def test_a_file_of_a_TypeScript_runner_is_read_from_a_copy(path: Path, mode: str) -> None:
    await fill(path)
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP VIEW message_ids")
        for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall():
            if name not in ("agent_runs", "run_state", "schema_version", "sqlite_sequence"):
                db.execute(f"DROP TABLE {name}")
        db.execute("PRAGMA user_version = 0")
        db.commit()
        db.execute(f"PRAGMA journal_mode = {mode}")
    before = state_of(path.parent)
    async with opened(path, read_only=True) as store:
        (thread,) = await store.threads(10, None, False, None, ANY_SCOPE)
        assert (thread.thread_id, thread.runs) == ("t", 2)
        assert state_of(path.parent) == before
        # Rows that are added later are seen too.
        process = [sys.executable, "-c", ADD_RUN, str(path)]
        subprocess.run(process, check=True)
        (thread,) = await store.threads(10, None, False, None, ANY_SCOPE)
        assert thread.runs == 3


ADD_RUN = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
db.execute("INSERT INTO agent_runs SELECT NULL, thread_id, 'added', run_id, events, input, created_at + 1, version"
           " FROM agent_runs ORDER BY id DESC LIMIT 1")
db.commit()
db.close()
"""


async def test_rows_that_a_TypeScript_runner_has_added_are_read_from_a_copy(path: Path) -> None:
    await fill(path)
    subprocess.run([sys.executable, "-c", ADD_RUN, str(path)], check=True)
    before = state_of(path.parent)
    async with opened(path, read_only=True) as store:
        for _ in range(2):
            (thread,) = await store.threads(10, None, False, None, ANY_SCOPE)
            assert thread.runs == 3
    assert state_of(path.parent) == before


async def test_a_name_with_any_characters_is_opened(path: Path) -> None:
    odd = path.with_name("a?b#c%41 'é\\.db")
    async with opened(odd) as store:
        await store.write([Change("kind", "a", "t", b"value")])
    assert await read_all(odd) == ["a"]
    assert [each.name for each in path.parent.iterdir()] == [odd.name]


async def test_a_store_that_only_reads_keeps_the_process_from_writing(path: Path) -> None:
    process = Writer(path)
    await process.write("a")
    try:
        async with opened(path, read_only=True) as reader:
            assert await keys(reader) == ["a"]
            with pytest.raises(StoreReadOnly, match="close that store first"):
                await SqliteStore(path).open()
        async with opened(path) as store:
            await store.write([Change("kind", "b", "t", b"value")])
            assert await keys(store) == ["a", "b"]
    finally:
        process.kill()


@pytest.fixture
def read_only_disk(path: Path) -> Any:
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "tmpfs", path.parent], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("not run: a read-only file system needs root to be mounted")

    def protect() -> None:
        subprocess.run(["mount", "-o", "remount,ro", path.parent], check=True)

    yield protect
    subprocess.run(["umount", path.parent], check=True)


@pytest.mark.processes
@pytest.mark.parametrize("left", ["nothing", "log", "log and index"])
async def test_read_only_media_are_read(path: Path, read_only_disk: Any, left: str) -> None:
    process = Writer(path)
    await process.write("a")
    process.close() if left == "nothing" else process.kill()
    if left == "log":
        path.with_name("threads.db-shm").unlink()
    read_only_disk()
    assert await read_all(path) == ["a"]
