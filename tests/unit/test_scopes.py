"""A thread belongs to the scope it was made in, and for any other it is not there."""

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
    InvalidInput,
    RunAlreadyExists,
    SqliteAgentRunner,
    ThreadAlreadyRunning,
    ThreadNotFound,
    current_run,
)
from support.agents import Gate, agent_with, failing_at_once
from support.events import run_finished, run_started
from support.inputs import make_input
from support.peers import peer, told
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Callable

    Factory = Callable[..., AgentRunner]

ALICE, BOB = "alice", "bob"


async def run_whole(runner: AgentRunner, thread: str, run: str, scope: str | None = None) -> None:
    await collect(await runner.run(agent_with(), make_input(thread, run), scope=scope))


async def names(runner: AgentRunner, **chosen: Any) -> set[str]:
    return {thread.thread_id for thread in await runner.threads.list(**chosen)}


async def refused(runner: AgentRunner, thread: str, run: str, scope: str | None) -> None:
    """The run is refused in the words of a thread that is not there."""
    with pytest.raises(ThreadNotFound) as missing:
        await runner.threads.rename("nowhere", "name")
    with pytest.raises(ThreadNotFound) as error:
        await runner.run(agent_with(), make_input(thread, run), scope=scope)
    assert str(error.value) == str(missing.value).replace("nowhere", thread)


def elsewhere(path: Path, script: str) -> list[list[Any]]:
    """Run SQL on the file in a process of its own; give what its last statement gives."""
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


# Starting runs


@pytest.mark.parametrize("other", [BOB, None, "Alice", "alice "])
async def test_another_scopes_thread_is_not_found(runner: AgentRunner, other: str | None) -> None:
    await run_whole(runner, "t1", "r1", ALICE)
    before = await runner.threads.get("t1")
    await refused(runner, "t1", "r2", other)
    # Not even that the run id is taken is told.
    await refused(runner, "t1", "r1", other)
    assert await runner.threads.get("t1") == before
    await run_whole(runner, "t1", "r2", ALICE)
    assert (await runner.threads.get("t1")).runs == 2


@pytest.mark.parametrize("how", ["reject", "supersede", "enqueue"])
async def test_a_running_thread_is_not_found_by_another_scope(runner_factory: Factory, how: str) -> None:
    runner = runner_factory(on_concurrent_run=how)
    gate = Gate()
    stream = await runner.run(gate, make_input("t1", "r1"), scope=ALICE)
    await gate.reached.wait()
    for other in (BOB, None):
        await refused(runner, "t1", "r2", other)
        await refused(runner, "t1", "r1", other)
    assert await runner.is_running("t1")
    assert not gate.cancelled
    gate.open()
    assert (await collect(stream))[-1]["type"] == "RUN_FINISHED"


@pytest.mark.parametrize("running", [True, False])
async def test_nobody_waits_in_the_queue_of_another_scope(
    runner_factory: Factory, running: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = runner_factory(on_concurrent_run="enqueue")
    store = await runner.opened()
    claim, claimed, told = store.claim, asyncio.Event(), asyncio.Event()

    async def slow(*asked: Any) -> Any:
        answer = await claim(*asked)
        claimed.set()
        await told.wait()
        return answer

    monkeypatch.setattr(store, "claim", slow)
    gate = Gate()
    first = asyncio.ensure_future(runner.run(gate, make_input("t1", "r1"), scope=ALICE))
    await claimed.wait()
    if running:
        told.set()
        await gate.reached.wait()
    second = asyncio.ensure_future(runner.run(agent_with(), make_input("t1", "r2"), scope=ALICE))
    await asyncio.sleep(0)
    with pytest.raises(ThreadNotFound):
        await runner.run(agent_with(), make_input("t1", "r3"), scope=BOB)
    assert not second.done()
    told.set()
    gate.open()
    await collect(await first)
    await collect(await second)
    assert (await runner.threads.get("t1")).runs == 2


async def test_its_own_scope_gets_the_usual_answers(runner: AgentRunner) -> None:
    await run_whole(runner, "other", "taken", ALICE)
    gate = Gate()
    stream = await runner.run(gate, make_input("t1", "r1"), scope=ALICE)
    await gate.reached.wait()
    with pytest.raises(ThreadAlreadyRunning):
        await runner.run(agent_with(), make_input("t1", "r2"), scope=ALICE)
    gate.open()
    await collect(stream)
    with pytest.raises(RunAlreadyExists):
        await runner.run(agent_with(), make_input("t1", "taken"), scope=ALICE)


async def test_a_thread_without_a_scope_is_for_those_without(runner: AgentRunner) -> None:
    await run_whole(runner, "t1", "r1")
    await refused(runner, "t1", "r2", ALICE)
    gate = Gate()
    stream = await runner.run(gate, make_input("t2", "r3"))
    await gate.reached.wait()
    await refused(runner, "t2", "r4", ALICE)
    gate.open()
    await collect(stream)
    await run_whole(runner, "t1", "r2")
    assert (await runner.threads.get("t1")).scope is None


@pytest.mark.parametrize("owner", [ALICE, None])
async def test_a_first_run_that_leaves_nothing_leaves_the_thread_to_anybody(
    runner: AgentRunner, owner: str | None
) -> None:
    ended = await collect(await runner.run(failing_at_once, make_input("t1", "r1"), scope=owner))
    assert [event["type"] for event in ended] == ["RUN_ERROR"]
    with pytest.raises(ThreadNotFound):
        await runner.threads.get("t1")
    # Whoever had a place in it loses nothing by that.
    assert await collect(await runner.connect("t1", after="1")) == []
    stream = await runner.run(agent_with(), make_input("t1", "r2"), scope=BOB)
    assert [event.seq async for event in stream] == [2, 3]
    assert (await runner.threads.get("t1")).scope == BOB
    await refused(runner, "t1", "r3", owner)


async def test_a_later_run_that_leaves_nothing_leaves_the_thread_its_scope(runner: AgentRunner) -> None:
    await run_whole(runner, "t1", "r1", ALICE)
    await collect(await runner.run(failing_at_once, make_input("t1", "r2"), scope=ALICE))
    await refused(runner, "t1", "r3", BOB)
    assert (await runner.threads.get("t1")).scope == ALICE


async def test_a_name_does_not_outlive_a_first_run_that_leaves_nothing(runner: AgentRunner) -> None:
    reached, go = asyncio.Event(), asyncio.Event()

    async def silent(_: Any) -> Any:
        reached.set()
        await go.wait()
        raise RuntimeError("nothing to say")
        yield

    stream = await runner.run(silent, make_input("t1", "r1"), scope=ALICE, agent_id="a")
    await reached.wait()
    await runner.threads.rename("t1", "alice's secret")
    await runner.threads.archive("t1")
    go.set()
    await collect(stream)
    await run_whole(runner, "t1", "r2", BOB)
    thread = await runner.threads.get("t1")
    assert (thread.name, thread.archived, thread.agent_id) == (None, False, None)


async def test_deleted_it_is_free_for_another_scope(runner: AgentRunner) -> None:
    await run_whole(runner, "t1", "r1", ALICE)
    await runner.threads.delete("t1")
    await run_whole(runner, "t1", "r1", BOB)
    assert (await runner.threads.get("t1")).scope == BOB
    await refused(runner, "t1", "r2", ALICE)


async def test_of_two_scopes_that_start_at_once_one_wins(runner: AgentRunner) -> None:
    for n in range(20):
        outcomes = await asyncio.gather(
            *(runner.run(agent_with(), make_input(f"t{n}", f"{scope}{n}"), scope=scope) for scope in (ALICE, BOB)),
            return_exceptions=True,
        )
        lost = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert [type(error) for error in lost] == [ThreadNotFound]
        winner = (ALICE, BOB)[outcomes.index(lost[0]) - 1]
        assert (await runner.threads.get(f"t{n}")).scope == winner


@pytest.mark.parametrize("scope", ["", "x" * 1025, "ü" * 513, "\ud800"])
async def test_a_scope_that_is_refused(runner: AgentRunner, scope: str) -> None:
    with pytest.raises(InvalidInput):
        await runner.run(agent_with(), make_input("t1", "r1"), scope=scope)
    with pytest.raises(ThreadNotFound):
        await runner.threads.get("t1")


@pytest.mark.parametrize("scope", ["x" * 1024, "ü" * 512, "'; DROP TABLE threads; --", "\U0001f511"])
async def test_any_other_text_is_a_scope(runner: AgentRunner, scope: str) -> None:
    await run_whole(runner, "t1", "r1", scope)
    assert (await runner.threads.get("t1")).scope == scope
    assert await names(runner, scope=scope) == {"t1"}


async def test_a_scope_with_a_nul_is_a_scope_or_refused(runner: AgentRunner) -> None:
    await run_whole(runner, "t1", "r1", ALICE)
    with pytest.raises((ThreadNotFound, InvalidInput)):
        await run_whole(runner, "t1", "r2", f"{ALICE}\0")
    try:
        await run_whole(runner, "t2", "r2", "a\0b")
    except InvalidInput:
        # PostgreSQL has no text with one.
        assert await names(runner) == {"t1"}
    else:
        assert (await runner.threads.get("t2")).scope == "a\0b"


async def test_the_agent_knows_its_scope_and_headers(runner: AgentRunner) -> None:
    seen = []

    async def agent(input: Any) -> Any:
        seen.append(current_run())
        yield run_started(input.thread_id, input.run_id)
        yield run_finished(input.thread_id, input.run_id)

    given = {"authorization": "Bearer x"}
    await collect(await runner.run(agent, make_input("t1", "r1"), scope=ALICE, headers=given))
    await collect(await runner.run(agent, make_input("t2", "r2")))
    assert [(run.thread_id, run.scope, run.headers) for run in seen] == [("t1", ALICE, given), ("t2", None, {})]


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
    found: list[Any] = []
    while page := await runner.threads.list(limit=2, before=found[-1] if found else None, scope=scope):
        assert len(page) <= 2
        found += page
    assert sorted(thread.thread_id for thread in found) == mine
    times = [thread.updated_at for thread in found]
    assert times == sorted(times, reverse=True)


async def test_lists_by_scope_and_all_else(runner: AgentRunner) -> None:
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
            # Its id and its run's are free, for any scope.
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
    await refused(second, "t1", "r2", None)
    await run_whole(second, "t1", "r2", ALICE)


async def test_two_processes_and_a_crash_in_the_first_run(tmp_path: Path) -> None:
    with peer("runs", tmp_path / "threads.db", "10", ALICE) as other:
        assert told(other, "run t1 r1") == ["RUN_STARTED", "TEXT_MESSAGE_START"]
        async with SqliteAgentRunner(tmp_path / "threads.db") as runner:
            thread = await runner.threads.get("t1")
            assert (thread.scope, thread.runs, thread.running) == (ALICE, 0, True)
            await refused(runner, "t1", "r2", BOB)
            with pytest.raises(ThreadAlreadyRunning):
                await runner.run(agent_with(), make_input("t1", "r2"), scope=ALICE)
            other.send_signal(signal.SIGKILL)
            other.wait()
            # Neither before the dead run is recovered nor after.
            await refused(runner, "t1", "r2", BOB)
            await run_whole(runner, "t1", "r2", ALICE)
            thread = await runner.threads.get("t1")
            assert (thread.scope, thread.runs, thread.running) == (ALICE, 2, False)
            await refused(runner, "t1", "r3", BOB)


async def test_a_file_of_the_version_before(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    async with SqliteAgentRunner(path) as runner:
        await run_whole(runner, "stored", "r1")
    with peer("runs", path, "10") as other:
        assert told(other, "run live r2")
        other.send_signal(signal.SIGKILL)
    # As that version left it: no scopes, a row for what a run without events was, none for a live first run.
    elsewhere(
        path,
        "DROP INDEX threads_scope; ALTER TABLE threads DROP COLUMN scope;"
        "ALTER TABLE threads DROP COLUMN oldest_at; DROP TABLE boot; PRAGMA user_version = 1;"
        "DROP TABLE records; DELETE FROM counters WHERE name = 'record';"
        "DELETE FROM threads WHERE thread_id = 'live';"
        "INSERT INTO threads (thread_id, head_seq, created_at, updated_at) VALUES ('empty', 1, 0, 0)",
    )
    async with SqliteAgentRunner(path) as runner:
        await refused(runner, "stored", "r3", ALICE)
        await refused(runner, "live", "r3", ALICE)
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
        await refused(runner, "theirs", "r2", ALICE)
        # Its first run is live over there: that too is nobody's business.
        await refused(runner, "busy", "r2", ALICE)
        with pytest.raises(ThreadAlreadyRunning):
            await runner.run(agent_with(), make_input("busy", "r2"))
        await run_whole(runner, "theirs", "r2")
        assert await names(runner, scope=None) == {"theirs"}


@pytest.mark.parametrize("scope", [ALICE, None])
async def test_the_file_keeps_no_row_of_a_run_that_leaves_nothing(tmp_path: Path, scope: str | None) -> None:
    path = tmp_path / "threads.db"
    async with SqliteAgentRunner(path) as runner:
        await collect(await runner.run(failing_at_once, make_input("t1", "r1"), scope=scope))
        assert elsewhere(path, "SELECT thread_id FROM threads") == []
