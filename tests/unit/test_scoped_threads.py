"""Threads are listed, read and cleared by scope, and files keep the scope."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import (
    AgentRunner,
    SqliteAgentRunner,
    ThreadAlreadyRunning,
    ThreadNotFound,
)
from support.agents import Gate, agent_with, failing_at_once
from support.inputs import make_input
from support.peers import peer, request
from support.scopes import ALICE, BOB, check_refused, names, run_whole
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Callable

    Factory = Callable[..., AgentRunner]


def elsewhere(path: Path, script: str) -> list[list[Any]]:
    """Run SQL on the file in another process; return the rows of the last statement."""
    code = (
        "import json, sqlite3, sys\n"
        "path, script = json.loads(sys.stdin.read())\n"
        "db = sqlite3.connect(path, timeout=10)\n"
        "for sql in script.split(';'):\n"
        "    rows = db.execute(sql).fetchall()\n"
        "db.commit()\n"
        "db.close()\n"
        "print(json.dumps(rows))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], input=json.dumps([str(path), script]), capture_output=True, text=True, check=True
    )
    rows: list[list[Any]] = json.loads(ran.stdout)
    return rows


# Verbs over threads


async def test_lists_by_scope(runner: AgentRunner) -> None:
    for thread, scope in (("a1", ALICE), ("a2", ALICE), ("b1", BOB), ("n1", None)):
        await run_whole(runner, thread, f"{thread}-run", scope)
    assert await names(runner) == {"a1", "a2", "b1", "n1"}
    assert await names(runner, scope=ALICE) == {"a1", "a2"}
    assert await names(runner, scope=BOB) == {"b1"}
    assert await names(runner, scope=None) == {"n1"}
    assert await names(runner, scope="nobody") == set()
    assert {thread.scope for thread in await runner.threads.list(scope=ALICE)} == {ALICE}


@pytest.mark.parametrize("scope", [ALICE, None])
async def test_pages_of_a_scope(runner: AgentRunner, scope: str | None) -> None:
    mine = []
    for n in range(6):
        await run_whole(runner, f"mine{n}", f"mine{n}", scope)
        await run_whole(runner, f"theirs{n}", f"theirs{n}", BOB)
        mine.append(f"mine{n}")
    threads: list[Any] = []
    while page := await runner.threads.list(limit=2, before=threads[-1] if threads else None, scope=scope):
        assert len(page) <= 2
        threads += page
    assert sorted(thread.thread_id for thread in threads) == mine
    times = [thread.updated_at for thread in threads]
    assert times == sorted(times, reverse=True)


async def test_lists_by_scope_and_all_other_filters(runner: AgentRunner) -> None:
    for thread, scope, agent_id in (("a1", ALICE, "x"), ("a2", ALICE, "y"), ("b1", BOB, "x")):
        await collect(await runner.run(agent_with(), make_input(thread, thread), scope=scope, agent_id=agent_id))
    await runner.threads.archive("a2")
    assert await names(runner, scope=ALICE) == {"a1"}
    assert await names(runner, scope=ALICE, include_archived=True) == {"a1", "a2"}
    assert await names(runner, scope=ALICE, agent_id="y") == set()
    assert await names(runner, scope=ALICE, agent_id="y", include_archived=True) == {"a2"}


@pytest.mark.parametrize(
    ("chosen", "left"),
    [
        ({}, {"live"}),
        ({"scope": ALICE}, {"b1", "n1", "live"}),
        ({"scope": BOB}, {"a1", "n1", "live"}),
        ({"scope": None}, {"a1", "b1", "live"}),
        ({"scope": "nobody"}, {"a1", "b1", "n1", "live"}),
    ],
)
async def test_clears_by_scope(runner: AgentRunner, chosen: dict[str, Any], left: set[str]) -> None:
    for thread, scope in (("a1", ALICE), ("b1", BOB), ("n1", None), ("live", ALICE)):
        await run_whole(runner, thread, f"{thread}-run", scope)
    gate = Gate()
    stream = await runner.run(gate, make_input("live", "r2"), scope=ALICE)
    await gate.reached.wait()
    await runner.threads.clear(**chosen)
    assert await names(runner) == left
    for thread, scope in (("a1", ALICE), ("b1", BOB), ("n1", None)):
        assert bool(await runner.threads.events(thread)) == (thread in left)
        if thread not in left:
            # The ids of the thread and of its run are free for any scope.
            await run_whole(runner, thread, f"{thread}-run", "other" if scope else None)
    gate.open()
    await collect(stream)
    assert (await runner.threads.get("live")).runs == 2


async def test_gets_one_thread(runner: AgentRunner) -> None:
    with pytest.raises(ThreadNotFound):
        await runner.threads.get("t1")
    await collect(await runner.run(agent_with(), make_input("t1", "r1"), scope=ALICE, agent_id="a"))
    await runner.threads.rename("t1", "name")
    assert [await runner.threads.get("t1")] == await runner.threads.list()
    await runner.threads.archive("t1")
    assert [await runner.threads.get("t1")] == await runner.threads.list(include_archived=True)
    await runner.threads.delete("t1")
    with pytest.raises(ThreadNotFound):
        await runner.threads.get("t1")


@pytest.mark.parametrize("scope", [ALICE, None])
async def test_a_thread_whose_first_run_is_live(runner: AgentRunner, scope: str | None) -> None:
    gate = Gate()
    stream = await runner.run(gate, make_input("t1", "r1"), scope=scope, agent_id="a")
    await gate.reached.wait()
    thread = await runner.threads.get("t1")
    assert (thread.thread_id, thread.runs, thread.running) == ("t1", 0, True)
    assert (thread.scope, thread.agent_id, thread.name) == (scope, "a", None)
    assert thread.created_at == thread.updated_at > 1.6e12
    assert await names(runner) == await names(runner, scope=scope) == {"t1"}
    await runner.threads.rename("t1", "named early")
    await runner.threads.archive("t1")
    assert (await runner.threads.get("t1")).name == "named early"
    with pytest.raises(ThreadAlreadyRunning):
        await runner.threads.delete("t1")
    await runner.threads.clear()
    assert (await runner.threads.get("t1")).scope == scope
    gate.open()
    await collect(stream)
    ended = await runner.threads.get("t1")
    assert (ended.runs, ended.running, ended.name, ended.archived) == (1, False, "named early", True)
    assert ended.created_at == ended.updated_at >= thread.created_at


# The file


async def test_a_scope_is_there_when_the_file_is_opened_again(sqlite_factory: Factory) -> None:
    first = sqlite_factory()
    await run_whole(first, "t1", "r1", ALICE)
    await first.aclose()
    second = sqlite_factory()
    assert (await second.threads.get("t1")).scope == ALICE
    await check_refused(second, "t1", "r2", None)
    await run_whole(second, "t1", "r2", ALICE)


async def test_two_processes_and_a_crash_in_the_first_run(tmp_path: Path) -> None:
    with peer("runs", tmp_path / "threads.db", "10", ALICE) as other:
        assert request(other, "run t1 r1") == ["RUN_STARTED", "TEXT_MESSAGE_START"]
        async with SqliteAgentRunner(tmp_path / "threads.db") as runner:
            thread = await runner.threads.get("t1")
            assert (thread.scope, thread.runs, thread.running) == (ALICE, 0, True)
            await check_refused(runner, "t1", "r2", BOB)
            with pytest.raises(ThreadAlreadyRunning):
                await runner.run(agent_with(), make_input("t1", "r2"), scope=ALICE)
            other.send_signal(signal.SIGKILL)
            other.wait()
            # Neither before nor after the dead run is recovered.
            await check_refused(runner, "t1", "r2", BOB)
            await run_whole(runner, "t1", "r2", ALICE)
            thread = await runner.threads.get("t1")
            assert (thread.scope, thread.runs, thread.running) == (ALICE, 2, False)
            await check_refused(runner, "t1", "r3", BOB)


async def test_a_file_of_the_version_before(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    async with SqliteAgentRunner(path) as runner:
        await run_whole(runner, "stored", "r1")
    with peer("runs", path, "10") as other:
        assert request(other, "run live r2")
        other.send_signal(signal.SIGKILL)
    # That version knew no scopes, kept a row for a run without events, and had none for a live first run.
    elsewhere(
        path,
        "DROP VIEW message_ids; ALTER TABLE entries DROP COLUMN seq; ALTER TABLE entries RENAME TO message_ids;"
        "DROP TRIGGER threads_floor; DROP TABLE floors; DROP TABLE leftovers;"
        "ALTER TABLE threads DROP COLUMN incarnation; ALTER TABLE threads DROP COLUMN base_seq;"
        "DROP INDEX threads_scope; ALTER TABLE threads DROP COLUMN scope;"
        "ALTER TABLE threads DROP COLUMN oldest_at; DROP TABLE boot; PRAGMA user_version = 1;"
        "DROP TABLE records; DELETE FROM counters WHERE name = 'record';"
        "DELETE FROM threads WHERE thread_id = 'live';"
        "INSERT INTO threads (thread_id, head_seq, created_at, updated_at) VALUES ('empty', 1, 0, 0)",
    )
    async with SqliteAgentRunner(path) as runner:
        await check_refused(runner, "stored", "r3", ALICE)
        await check_refused(runner, "live", "r3", ALICE)
        await run_whole(runner, "empty", "r3", ALICE)
        assert await names(runner, scope=None) == {"stored", "live"}
        assert (await runner.threads.events("live"))[-1].to_dict()["code"] == "INTERRUPTED"


async def test_threads_of_a_typescript_runner_have_no_scope(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    async with SqliteAgentRunner(path) as runner:
        await run_whole(runner, "mine", "r1", ALICE)
        elsewhere(
            path,
            "INSERT INTO agent_runs (thread_id, run_id, parent_run_id, events, input, created_at, version)"
            " VALUES ('theirs', 'x1', NULL, '[]', '{}', 1, 1), ('mine', 'x2', 'r1', '[]', '{}', 1, 1);"
            "INSERT INTO run_state VALUES ('busy', 1, 'x3', 1)",
        )
        thread = await runner.threads.get("theirs")
        assert (thread.scope, thread.runs) == (None, 1)
        thread = await runner.threads.get("mine")
        assert (thread.scope, thread.runs) == (ALICE, 2)
        await check_refused(runner, "theirs", "r2", ALICE)
        # The thread's first run is live in the TypeScript runner; other scopes must not learn that either.
        await check_refused(runner, "busy", "r2", ALICE)
        # At once: only for a run that is ending does the next one wait half a minute.
        with pytest.raises(ThreadAlreadyRunning):
            async with asyncio.timeout(20):
                await runner.run(agent_with(), make_input("busy", "r2"))
        await run_whole(runner, "theirs", "r2")
        assert await names(runner, scope=None) == {"theirs"}


@pytest.mark.parametrize("scope", [ALICE, None])
async def test_the_file_keeps_no_row_of_a_run_without_events(tmp_path: Path, scope: str | None) -> None:
    path = tmp_path / "threads.db"
    async with SqliteAgentRunner(path) as runner:
        await collect(await runner.run(failing_at_once, make_input("t1", "r1"), scope=scope))
        assert elsewhere(path, "SELECT thread_id FROM threads") == []
