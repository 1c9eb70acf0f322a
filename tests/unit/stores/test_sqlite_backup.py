"""Backups of a SQLite store in use, and copies of it that lack its log."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import SqliteAgentRunner, StoreCorrupt, StoreError
from agentrunner.stores import Change
from agentrunner.stores.sqlite import SqliteStore
from support.agents import agent_with
from support.commands import sql
from support.database_files import copy_files, find_texts, log_of
from support.events import run_started, text_message
from support.inputs import make_input

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from ag_ui.core import RunAgentInput

    from agentrunner import EventStream

pytestmark = [pytest.mark.processes, pytest.mark.fault("D11")]

SHELL = """
import sqlite3, sys
source = sqlite3.connect(sys.argv[1])
if len(sys.argv) > 2:
    with sqlite3.connect(sys.argv[2]) as copy:
        source.backup(copy)
    copy.close()
else:
    source.execute("SELECT count(*) FROM agent_runs").fetchall()
source.close()
"""
"""Another program that copies the store, or only reads it."""
KILLED = """
import asyncio, os, sys
from agentrunner.stores import Change
from agentrunner.stores.sqlite import SqliteStore
async def main():
    store = SqliteStore(sys.argv[1])
    await store.open()
    await store.write([Change("kind", sys.argv[2], "t", b"value")])
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""


def run_program(code: str, *args: object) -> None:
    subprocess.run([sys.executable, "-c", code, *map(str, args)], check=code != KILLED)


async def store_run(runner: SqliteAgentRunner, run: str, text: str) -> None:
    async for _ in await runner.run(agent_with(*text_message(f"m-{run}", text)), make_input("t", run)):
        pass


async def read(stream: EventStream, begun: asyncio.Event) -> None:
    """Read a stream to its end, and set `begun` when a message's content is shown."""
    async for event in stream:
        if event.type == "TEXT_MESSAGE_CONTENT":
            begun.set()


async def list_contents(path: Path) -> tuple[list[str], int | None]:
    """Return the contents of the messages of the thread `t`, and when the log was lost."""
    async with SqliteAgentRunner(path) as runner:
        threads = [thread.thread_id for thread in await runner.threads.list()]
        contents = [str(message["content"]) for message in await runner.threads.messages("t")] if threads else []
        return contents, (await (await runner.open()).inspect(fix=False)).missing_log


async def test_backup_has_everything_while_runs_are_written(tmp_path: Path) -> None:
    path, copy = tmp_path / "threads.db", tmp_path / "backup.db"
    begun, ends = asyncio.Event(), asyncio.Event()

    async def agent(input: RunAgentInput) -> AsyncIterator[dict[str, Any]]:
        yield run_started(input.thread_id, input.run_id)
        for event in text_message("m-live", "half a sentence")[:2]:
            yield event
        await ends.wait()

    async with SqliteAgentRunner(path) as runner:
        await store_run(runner, "r1", "first")
        store = await runner.open()
        await store.write([Change("kind", "key", "t", b"value")])
        live = asyncio.ensure_future(read(await runner.run(agent, make_input("live", "l1")), begun))
        await begun.wait()
        progress: list[tuple[int, int]] = []
        backup = await SqliteStore(path).backup(copy, on_progress=lambda *sizes: progress.append(sizes))
        assert (backup.threads, backup.runs, backup.records, backup.missing_log) == (1, 1, 1, None)
        assert backup.bytes == copy.stat().st_size
        await store_run(runner, "r2", "second")
        ends.set()
        await live
    # It is complete in itself, with the rights of the original.
    assert sorted(file.name for file in tmp_path.glob("backup*")) == ["backup.db"]
    assert copy.stat().st_mode == path.stat().st_mode
    assert await list_contents(copy) == (["first"], None)
    async with SqliteAgentRunner(copy) as runner:
        events = await runner.threads.events("live")
        assert events[-1].to_dict()["code"] == "INTERRUPTED"
        assert any(b"half a sentence" in bytes(event) for event in events)
        record = await (await runner.open()).record("kind", "key")
        assert record is not None
        assert record.value == b"value"


async def test_backup_contains_no_deleted_text(tmp_path: Path) -> None:
    path, copy = tmp_path / "threads.db", tmp_path / "backup.db"
    async with SqliteAgentRunner(path) as runner:
        await store_run(runner, "r1", "deleted-text " * 5000)
        await runner.threads.delete("t")
        await SqliteStore(path).backup(copy)
        assert find_texts(copy, "deleted-text") == []


async def test_backup_refuses_targets_it_would_damage(tmp_path: Path) -> None:
    path, copy = tmp_path / "threads.db", tmp_path / "backup.db"
    store = SqliteStore(path)
    async with SqliteAgentRunner(path) as runner:
        await store_run(runner, "r1", "first")
        with pytest.raises(StoreError, match="the database itself"):
            await store.backup(path, overwrite=True)
        with pytest.raises(StoreError, match="folder"):
            await store.backup(tmp_path, overwrite=True)
        copy.write_bytes(b"precious")
        with pytest.raises(StoreError, match="exists; nothing was written"):
            await store.backup(copy)
        assert copy.read_bytes() == b"precious"
        log_of(copy).write_bytes(b"its log")
        with pytest.raises(StoreError, match="open or was not closed"):
            await store.backup(copy, overwrite=True)
        log_of(copy).unlink()
        await store.backup(copy, overwrite=True)
    assert await list_contents(copy) == (["first"], None)
    with pytest.raises(StoreError):
        await SqliteStore(tmp_path / "missing.db").backup(tmp_path / "other.db")
    assert not (tmp_path / "missing.db").exists()
    assert not list(tmp_path.glob("*.part*"))


async def test_damaged_store_gives_no_backup(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    async with SqliteAgentRunner(path) as runner:
        await store_run(runner, "r1", "first " * 20_000)
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 20] = os.urandom(4096 * 17)
    path.write_bytes(data)
    with pytest.raises(StoreCorrupt):
        await SqliteStore(path).backup(tmp_path / "backup.db")
    assert not list(tmp_path.glob("backup*"))


async def test_cancelled_backup_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    async with SqliteAgentRunner(path) as runner:
        await store_run(runner, "r1", "first")
    loop, reported, continues = asyncio.get_running_loop(), asyncio.Event(), threading.Event()

    def on_progress(written: int, total: int) -> None:
        loop.call_soon_threadsafe(reported.set)
        continues.wait(30)

    copying = asyncio.ensure_future(SqliteStore(path).backup(tmp_path / "backup.db", on_progress=on_progress))
    await reported.wait()
    copying.cancel()
    loop.call_later(0.01, continues.set)
    with pytest.raises(asyncio.CancelledError):
        await copying
    assert not list(tmp_path.glob("backup*"))


async def test_copy_of_a_live_store_without_its_log_is_recognized(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, copy = tmp_path / "threads.db", tmp_path / "copy.db"
    async with SqliteAgentRunner(path) as runner:
        await store_run(runner, "r1", "first")
        copy_files(path, copy, "")
        await store_run(runner, "r2", "second")
    with caplog.at_level(logging.WARNING, "agentrunner"):
        contents, missing_log = await list_contents(copy)
    assert contents == []
    assert missing_log is not None
    assert "was copied without its -wal file" in caplog.text
    # It is told until it is accepted, however often the file is opened.
    assert (await list_contents(copy))[1] == missing_log
    async with SqliteAgentRunner(copy) as runner:
        report = await (await runner.open()).inspect(fix=True)
        assert not report.is_sound
        assert report.can_be_fixed
    assert (await list_contents(copy))[1] is None
    assert await list_contents(path) == (["first", "second"], None)


@pytest.mark.parametrize("is_closed_by_another", [False, True])
async def test_copy_is_recognized_after_checkpoints(tmp_path: Path, is_closed_by_another: bool) -> None:
    path, copy = tmp_path / "threads.db", tmp_path / "copy.db"
    async with SqliteAgentRunner(path) as runner:
        store = await runner.open()
        await store_run(runner, "r1", "first")
        async for _ in await runner.run(agent_with(), make_input("deleted", "d1")):
            pass
        # This empties the log.
        await runner.threads.delete("deleted")
        async with asyncio.timeout(20):
            while log_of(path).stat().st_size > 30_000:
                await asyncio.sleep(0.02)
        if is_closed_by_another:
            other = SqliteStore(path)
            await other.open()
            await other.write([Change("kind", "key", "other", b"value")])
            await other.aclose()
        for number in range(20):
            # More than the log holds before it is copied into the file.
            await store.write([Change("kind", f"{number}", "other", bytes(2 << 20))])
        await store_run(runner, "r2", "second")
        copy_files(path, copy, "")
    contents, missing_log = await list_contents(copy)
    assert contents == ["first"]
    assert missing_log is not None


@pytest.mark.parametrize("how", ["closed", "both files", "backup of another program", "killed", "killed, then read"])
async def test_complete_copies_and_crashes_are_not_taken_for_one(tmp_path: Path, how: str) -> None:
    path, copy = tmp_path / "threads.db", tmp_path / "copy.db"
    async with SqliteAgentRunner(path) as runner:
        await store_run(runner, "r1", "first")
        if how == "both files":
            copy_files(path, copy)
        elif how == "backup of another program":
            await asyncio.to_thread(run_program, SHELL, path, copy)
    if how == "closed":
        copy_files(path, copy, "")
    elif how.startswith("killed"):
        for key in ("a", "b"):
            await asyncio.to_thread(run_program, KILLED, path, key)
        assert log_of(path).exists()
        if how == "killed, then read":
            # The last of its connections removes the log, as that of any program does.
            await asyncio.to_thread(run_program, SHELL, path)
            assert not log_of(path).exists()
        copy = path
    for _ in range(2):
        assert await list_contents(copy) == (["first"], None)


async def test_log_that_was_removed_after_a_crash_is_missed(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    await asyncio.to_thread(run_program, KILLED, path, "a")
    log_of(path).unlink()
    assert (await list_contents(path))[1] is not None


async def test_original_that_lost_its_log_is_told_by_its_backup(tmp_path: Path) -> None:
    path, copy, backup = tmp_path / "threads.db", tmp_path / "copy.db", tmp_path / "backup.db"
    async with SqliteAgentRunner(path) as runner:
        await store_run(runner, "r1", "first")
        copy_files(path, copy, "")
    missing_log = (await SqliteStore(copy).backup(backup)).missing_log
    assert missing_log is not None
    assert await list_contents(backup) == ([], missing_log)


async def test_marks_do_not_appear_to_readers(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    async with SqliteAgentRunner(path) as runner:
        await store_run(runner, "r1", "first")
        sql(path, "CREATE TABLE seen AS SELECT value FROM counters WHERE name = 'log_since'")
        await SqliteStore(path).backup(tmp_path / "backup.db")
    check = "import sqlite3, sys; print(*sqlite3.connect(sys.argv[1]).execute('SELECT value FROM seen').fetchall())"
    done = subprocess.run(
        [sys.executable, "-c", check, tmp_path / "backup.db"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "(0,)\n"
