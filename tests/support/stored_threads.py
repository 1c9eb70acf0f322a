"""Stores with many threads, and how the tests of `agentrunner copy` read them."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentrunner import SqliteAgentRunner
from agentrunner.stores.urls import store_from_url
from agentrunner.types import ANY_SCOPE
from support.agents import scripted_agent
from support.fixtures import fixture_lines
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from agentrunner import Store

ALL_BYTES = 1 << 30


async def fill_store(path: Path, threads: int) -> None:
    """Store threads of one to three runs, some with a name, a scope or an archive mark."""
    cases = [case["events"] for case in fixture_lines("sequential")]
    async with SqliteAgentRunner(path) as runner:
        for n in range(threads):
            thread, scope = f"thread-{n}", f"user-{n % 3}" if n % 4 else None
            for k in range(n % 3 + 1):
                run, events = f"run-{n}-{k}", cases[(n + k * 7) % len(cases)]
                events = [{**events[0], "threadId": thread, "runId": run}, *events[1:]]
                events[-1] = {**events[-1], "threadId": thread, "runId": run}
                agent = scripted_agent(event for event in events if "input" not in event or event.pop("input"))
                await collect(await runner.run(agent, make_input(thread, run, [f"q{k}"]), agent_id="a", scope=scope))
            if n % 5 == 0:
                await runner.threads.rename(thread, f"the {n}th")
            if n % 7 == 0:
                await runner.threads.archive(thread)


async def read_store(store: Store) -> list[tuple[Any, list[Any], bytes]]:
    threads = []
    before = None
    while page := await store.threads(50, before, True, None, ANY_SCOPE):
        for thread in page:
            runs = await store.runs(thread.thread_id, 0, ALL_BYTES)
            frames = bytes((await store.history(thread.thread_id, (0, None), None, ALL_BYTES)).frames)
            threads.append((thread, runs, frames))
        before = (page[-1].updated_at, page[-1].thread_id)
    return threads


def read_location(location: object) -> list[tuple[Any, list[Any], bytes]]:
    async def read() -> list[tuple[Any, list[Any], bytes]]:
        store = store_from_url(str(location))
        await store.open()
        try:
            return await read_store(store)
        finally:
            await store.aclose()

    return asyncio.run(read())


def copied_runs(outcome: tuple[int, str, str]) -> int:
    """Return the number of runs that a successful copy reports."""
    code, out, err = outcome
    assert (code, err) == (0, ""), outcome
    match = re.search(r"copied ([\d,]+) runs?\b", out)
    assert match is not None, out
    return int(match[1].replace(",", ""))


def count_runs(path: Path) -> int:
    """Return the number of stored runs in a SQLite file that another process may be writing."""
    # No store of this process may have the file open: two copies of SQLite drop each other's locks.
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        (count,) = database.execute("SELECT count(*) FROM agent_runs").fetchone()
        return int(count)
    return 0


def file_sizes(path: Path) -> list[int]:
    sizes = []
    for file in sorted(path.parent.glob(f"{path.name}*")):
        with suppress(FileNotFoundError):
            sizes.append(file.stat().st_size)
    return sizes
