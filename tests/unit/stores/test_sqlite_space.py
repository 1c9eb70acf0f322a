"""Deleted text leaves all files of a SQLite store, and the file shrinks."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import pytest

from agentrunner import SqliteAgentRunner
from agentrunner.stores import Change
from support.agents import agent_with
from support.database_files import copy_files, find_texts, log_of
from support.events import text_message
from support.inputs import make_input
from support.paths import TYPESCRIPT_SAMPLE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

pytestmark = [pytest.mark.processes, pytest.mark.fault("D12")]

TEXTS = ("deleted-answer", "deleted-question", "deleted-record", "deleted-name")
KEPT = "answer-that-stays"
LENGTHS = (1, 40, 2_000, 30_000)
"""Numbers of words in messages: rows within a page, and rows of many pages."""


async def fill(runner: SqliteAgentRunner) -> None:
    """Store a thread to delete between threads that stay."""
    store = await runner.open()
    for number, length in enumerate(LENGTHS):
        for thread, text in (("stays", KEPT), ("goes", "deleted-answer")):
            agent = agent_with(*text_message(f"m{number}", f"{text} " * length))
            question = {"id": f"q{number}", "role": "user", "content": f"{text} deleted-question"}
            messages = [question] if thread == "goes" else []
            async for _ in await runner.run(agent, make_input(thread, f"{thread}{number}", messages)):
                pass
            record = f"{text} deleted-record " * length if thread == "goes" else text
            await store.write([Change("kind", f"{thread}{number}", thread, record.encode())])
    await runner.threads.rename("goes", "deleted-name")


REMOVALS: dict[str, Callable[[SqliteAgentRunner], Awaitable[object]]] = {
    "delete": lambda runner: runner.threads.delete("goes"),
    "clear": lambda runner: runner.threads.clear(),
    "prune": lambda runner: runner._store.prune(None, 1 << 60, 100),  # type: ignore[attr-defined]
}


async def wait_until_erased(path: Path, *texts: str) -> None:
    async with asyncio.timeout(20):
        while await asyncio.to_thread(find_texts, path, *texts):
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("how", REMOVALS)
async def test_deleted_text_is_erased_and_space_given_back_while_the_store_is_open(tmp_path: Path, how: str) -> None:
    path = tmp_path / "threads.db"
    async with SqliteAgentRunner(path) as runner:
        await fill(runner)
        assert len(find_texts(path, *TEXTS)) == len(TEXTS)
        await REMOVALS[how](runner)
        await wait_until_erased(path, *TEXTS)
        # The log is a few pages long, so the file's size is what the threads take.
        assert log_of(path).stat().st_size < 50_000
        kept = sum(LENGTHS) * len(KEPT + " ") * 2 if how == "delete" else 0
        assert path.stat().st_size < kept + 300_000
        assert ("stays" in {thread.thread_id for thread in await runner.threads.list()}) == (how == "delete")
        assert (await (await runner.open()).inspect(fix=False)).integrity == "ok"


async def test_closing_the_store_erases_first_what_was_just_deleted(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    async with SqliteAgentRunner(path) as runner:
        await fill(runner)
        size = path.stat().st_size + log_of(path).stat().st_size
        await runner.threads.delete("goes")
    assert find_texts(path, *TEXTS, KEPT) == [KEPT]
    assert path.stat().st_size < size / 2


async def test_a_record_that_is_removed_is_erased_at_the_latest_when_the_store_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    async with SqliteAgentRunner(path) as runner:
        store = await runner.open()
        for size in LENGTHS:
            await store.write([Change("kind", f"k{size}", "t", b"deleted-record " * size)])
        await store.write([Change("kind", f"k{size}", "t", None) for size in LENGTHS])
    assert find_texts(path, "deleted-record") == []


async def test_what_a_killed_process_left_is_erased_by_the_next(tmp_path: Path) -> None:
    path, copy = tmp_path / "threads.db", tmp_path / "killed.db"
    async with SqliteAgentRunner(path) as runner:
        await fill(runner)
        await runner.threads.delete("goes")
        # As if the process had been killed now.
        copy_files(path, copy)
    assert find_texts(copy, *TEXTS)
    async with SqliteAgentRunner(copy) as runner:
        await wait_until_erased(copy, *TEXTS)
        assert len(await runner.threads.messages("stays")) == len(LENGTHS)


async def test_text_is_erased_in_a_file_that_another_program_made(tmp_path: Path) -> None:
    path = tmp_path / "ts.db"
    shutil.copyfile(TYPESCRIPT_SAMPLE, path)
    async with SqliteAgentRunner(path) as runner:
        await fill(runner)
        await runner.threads.delete("goes")
        await wait_until_erased(path, *TEXTS)
