"""After kill -9 between any two steps the next process repeats no finished tool call."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import AgentRunner
from agentrunner.runtime import Completed
from agentrunner.stores.urls import store_from_url
from support import backends
from support.paths import child_environment
from support.programs.mortal import make_agent, make_run_input
from support.scripted_model import load_session
from support.tool_ledger import UNKNOWN_OUTCOME, load_finished_calls, without_reasoning

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

WRITES = 16
"""Number of record writes in a complete turn of `mortal`."""


async def run_process(*arguments: Any) -> tuple[int, str]:
    """Run `mortal` to its end, and return its exit status and its output."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "support.programs.mortal", *map(str, arguments), stdout=asyncio.subprocess.PIPE,
        env=child_environment(),
    )  # fmt: skip
    output, _ = await child.communicate()
    assert child.returncode is not None
    return child.returncode, output.decode().strip()


async def kill_and_finish(location: str, log: Path, points: list[tuple[int, str]]) -> None:
    """Kill one process after another at these writes, then finish the turn in this one.

    Each process counts its writes from its own start.
    """
    log.touch()
    how = "run"
    for number, (at, when) in enumerate(points):
        status, _ = await run_process(location, log, at, when, f"r{number}", how)
        assert status == -signal.SIGKILL
        how = "resume"
    store = store_from_url(location, lease_ttl=1.0)
    async with AgentRunner(store, on_concurrent_run="enqueue") as runner:
        before = Counter(log.read_text().split())
        finished = [call for _, call in await load_finished_calls(store)]
        stream = await runner.run(make_agent(log).resume, make_run_input("last"))
        assert [event.type async for event in stream][-1] == "RUN_FINISHED"
        session = await load_session(store)
        assert session.messages == without_reasoning(await runner.threads.messages("t1"))
    assert session.outcome == Completed("done")
    ran = Counter(log.read_text().split())
    assert all(ran[call] == before[call] == 1 for call in finished)
    assert max(ran.values()) == 1
    results = {m["toolCallId"]: m["content"] for m in session.messages if m["role"] == "tool"}
    assert list(results) == ["c1", "c2", "c3", "c4"]
    assert all(
        text == f"{call} done" or (text.startswith(UNKNOWN_OUTCOME) and call not in finished)
        for call, text in results.items()
    )


async def test_the_number_of_writes_in_a_turn(tmp_path: Path) -> None:
    status, output = await run_process(tmp_path / "threads.db", tmp_path / "log", WRITES, "after", "r1", "run")
    assert (status, output) == (-signal.SIGKILL, "")
    status, output = await run_process(tmp_path / "other.db", tmp_path / "log", WRITES + 1, "before", "r1", "run")
    assert (status, output) == (0, "RUN_FINISHED")


@pytest.mark.parametrize("at", range(1, WRITES + 1))
async def test_a_kill_at_each_step(at: int, tmp_path: Path) -> None:
    await kill_and_finish(str(tmp_path / "threads.db"), tmp_path / "log", [(at, "before" if at % 2 else "after")])


@pytest.mark.parametrize("backend", backends.SERVERS)
async def test_several_kills_in_one_turn(backend: str, tmp_path: Path) -> None:
    with backends.place(backend, tmp_path) as location:
        await kill_and_finish(location, tmp_path / "log", [(1, "after"), (3, "before"), (3, "after"), (2, "after")])


HARNESS_WRITES = 30
"""Largest number of record writes in the same turn within a harness, with an approval for each call of `write`."""


@pytest.mark.parametrize("at", [*range(1, HARNESS_WRITES, 3), HARNESS_WRITES])
async def test_a_harness_continues_after_a_kill(at: int, tmp_path: Path) -> None:
    location, log = tmp_path / "threads.db", tmp_path / "log"
    log.touch()
    status, output = await run_process(location, log, at, "after" if at % 2 else "before", "r1", "harness")
    assert status == -signal.SIGKILL or (at == HARNESS_WRITES and output == "completed done")
    async with open_store(location) as store:
        finished = [call for _, call in await load_finished_calls(store)]
    assert await run_process(location, log, 0, "after", "r2", "harness") == (0, "completed done")
    ran = Counter(log.read_text().split())
    assert max(ran.values()) == 1
    assert all(ran[call] == 1 for call in finished)
    async with open_store(location) as store:
        session = await load_session(store)
    unknown = {
        m["toolCallId"] for m in session.messages if m["role"] == "tool" and m["content"].startswith(UNKNOWN_OUTCOME)
    }
    assert not unknown & set(finished)
    assert ran.keys() | unknown == {"c1", "c2", "c3", "c4"}


@contextlib.asynccontextmanager
async def open_store(location: Path) -> AsyncIterator[Any]:
    """Yield an open store, and close it at the end."""
    store = store_from_url(str(location))
    await store.open()
    try:
        yield store
    finally:
        await store.aclose()
