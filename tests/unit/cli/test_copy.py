"""`agentrunner copy`: all threads in another store, byte for byte, also after a kill."""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agentrunner import MemoryStore, SqliteAgentRunner
from agentrunner.stores.urls import store_from_url
from support import backends
from support.agents import Gate, agent_with
from support.commands import command, one_line, sql
from support.events import text_message
from support.inputs import make_input
from support.paths import TYPESCRIPT_SAMPLE
from support.stored_threads import copied_runs, count_runs, fill_store, read_location, read_store
from support.streams import collect

if TYPE_CHECKING:
    pass

pytest.importorskip("typer")
pytest.importorskip("rich")

from agentrunner.cli.thread_copy import compare_thread, copy_thread, thread_ids

pytestmark = pytest.mark.processes

THREADS = 200


@pytest.fixture(scope="module")
def large_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "source.db"
    asyncio.run(fill_store(path, THREADS))
    return path


def test_copy_killed_repeatedly_is_complete_in_the_end(large_source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.db"
    expected = {thread.thread_id: (thread, runs) for thread, runs, _ in read_location(large_source)}
    total = sum(len(runs) for _, runs in expected.values())
    delays = random.Random(5)  # noqa: S311 - the same delays each time
    run_counts = [0]
    for _ in range(12):
        child = subprocess.Popen(
            [sys.executable, "-m", "agentrunner", "copy", large_source, target], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        # Kill it at a random moment after it has copied another run.
        while count_runs(target) <= run_counts[-1] and child.poll() is None:
            time.sleep(0.001)
        time.sleep(delays.uniform(0, 0.03))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        stored_threads = read_location(target)
        for thread, runs, _ in stored_threads:
            assert runs == expected[thread.thread_id][1][: len(runs)]
        run_counts.append(sum(len(runs) for _, runs, _ in stored_threads))
        if run_counts[-1] == total:
            break
    assert run_counts == sorted(run_counts)
    assert len({*run_counts} - {0, total}) > 1, f"none was killed in the middle: {run_counts}"
    assert copied_runs(command("copy", large_source, target)) == total - run_counts[-1]
    assert copied_runs(command("copy", large_source, target)) == 0
    assert read_location(target) == read_location(large_source)
    code, out, _ = command("copy", large_source, target, "--verify-only")
    assert (code, out) == (0, f"compared {THREADS} threads: {THREADS} with {total} runs are equal\n")
    assert command("doctor", target)[0] == 0


@pytest.mark.parametrize("way", [("memory",), ("redis", "postgres"), ("postgres", "redis")])
async def test_copy_through_other_stores_is_equal_byte_for_byte(
    source: Path, tmp_path: Path, way: tuple[str, ...]
) -> None:
    with ExitStack() as places:
        places_of = [None if name == "memory" else places.enter_context(backends.place(name, tmp_path)) for name in way]
        stores = [MemoryStore() if place is None else store_from_url(place) for place in places_of]
        stores = [store_from_url(str(source)), *stores, store_from_url(str(tmp_path / "back.db"))]
        for store in stores:
            await store.open()
        try:
            expected = await read_store(stores[0])
            for origin, target in pairwise(stores):
                for thread_id in await thread_ids(origin):
                    await copy_thread(origin, target, thread_id, lambda _: None)
                    compared = await compare_thread(origin, target, thread_id, lambda _: None)
                    assert (compared.difference, compared.unread) == (None, 0)
                assert await read_store(target) == expected
        finally:
            for store in stores:
                await store.aclose()


@pytest.mark.parametrize("backend", backends.SERVERS)
def test_copy_to_a_server_and_back(source: Path, tmp_path: Path, backend: str) -> None:
    with backends.place(backend, tmp_path) as server:
        assert copied_runs(command("copy", source, server)) == 15
        assert copied_runs(command("copy", source, server)) == 0
        assert copied_runs(command("copy", server, tmp_path / "back.db")) == 15
        assert read_location(tmp_path / "back.db") == read_location(source)


def test_second_copy_adds_only_what_is_missing(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.db"
    assert copied_runs(command("copy", source, target)) == 15

    async def add_runs() -> None:
        async with SqliteAgentRunner(source) as runner:
            await collect(
                await runner.run(agent_with(*text_message("m", "a")), make_input("thread-2", "more"), scope="user-2")
            )
            await collect(await runner.run(agent_with(), make_input("new", "other")))
            await runner.threads.rename("thread-1", "named since")

    asyncio.run(add_runs())
    code, out, _ = command("copy", source, target, "--verify-only")
    assert code == 1
    assert [line for line in out.splitlines() if line.startswith("differs")] == [
        "differs: thread-1: its name, agent, scope, archive mark or times differ",
        "differs: thread-2: it has 3 of 4 runs",
        "differs: new: it has 0 of 1 run",
    ]
    assert copied_runs(command("copy", source, target)) == 2
    assert read_location(target) == read_location(source)


def test_diverged_threads_are_left_unchanged(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.db"

    async def differ() -> None:
        async with SqliteAgentRunner(target) as runner:
            for thread, run in (("thread-3", "own"), ("elsewhere", "run-5-1")):
                await collect(await runner.run(agent_with(), make_input(thread, run)))

    asyncio.run(differ())
    own = read_location(target)
    code, out, _ = command("copy", source, target)
    assert code == 1
    differences = [line.split(": ", 2)[1:] for line in out.splitlines() if line.startswith("differs")]
    # The run id that another thread has too is no difference.
    assert differences == [["thread-3", "the destination's thread has diverged from the source's"]]
    there = read_location(target)
    assert all(thread in there for thread in own)
    expected = [thread for thread in read_location(source) if thread[0].thread_id != "thread-3"]
    assert [thread for thread in there if thread not in own] == expected


def test_changes_at_the_destination_are_found(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.db"
    copied_runs(command("copy", source, target))
    changes = [
        "UPDATE agent_runs SET events = replace(events, 'RUN_STARTED', 'RUN_STARTEd') WHERE run_id = 'run-1-0'",
        "UPDATE agent_runs SET input = input || ' ' WHERE run_id = 'run-2-1'",
        "UPDATE agent_runs SET created_at = created_at + 1 WHERE run_id = 'run-4-1'",
        "DELETE FROM agent_runs WHERE run_id = 'run-5-0'",
    ]
    for change in changes:
        sql(target, change)
    code, out, _ = command("copy", source, target, "--verify-only")
    assert code == 1
    differing = re.findall(r"differs: (thread-\d)", out)
    assert differing == ["thread-1", "thread-2", "thread-4", "thread-5"]


def test_unreadable_run_is_skipped_and_named(source: Path, tmp_path: Path) -> None:
    sql(source, "UPDATE agent_runs SET events = '[{\"type\":' WHERE run_id IN ('run-2-1', 'run-0-0')")
    target = tmp_path / "target.db"
    outcome = command("copy", source, target)
    assert copied_runs(outcome) == 13
    lines = outcome[1].splitlines()
    assert "cannot be read, not copied: thread-0/run-0-0" in lines
    assert "cannot be read, not copied: thread-2/run-2-1" in lines
    runs = next(runs for thread, runs, _ in read_location(target) if thread.thread_id == "thread-2")
    assert [(run.run_id, run.parent_run_id) for run in runs] == [("run-2-0", None), ("run-2-2", "run-2-0")]
    assert copied_runs(command("copy", source, target)) == 0


def test_file_of_the_typescript_runner_is_copied(tmp_path: Path) -> None:
    source, target = Path(shutil.copy(TYPESCRIPT_SAMPLE, tmp_path / "sample.db")), tmp_path / "target.db"
    runs = sum(thread.runs for thread, *_ in read_location(Path(shutil.copy(TYPESCRIPT_SAMPLE, tmp_path / "read.db"))))
    assert copied_runs(command("copy", source, target)) == runs
    stuck = "SELECT count(*) FROM run_state WHERE is_running <> 0"
    code = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone()[0])"
    listing = subprocess.run([sys.executable, "-c", code, source, stuck], capture_output=True, text=True, check=True)
    assert listing.stdout == "2\n", "a copy must not free threads of its source"
    assert read_location(target) == read_location(source)
    assert command("doctor", target)[0] == 0


def test_live_run_is_named_and_continues(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.db"

    async def main() -> None:
        async with SqliteAgentRunner(source) as runner:
            gate, other = Gate(before=text_message("m", "a")), Gate()
            stream = await runner.run(gate, make_input("thread-4", "now"))
            await runner.run(other, make_input("first", "begun"))
            await gate.reached.wait()
            outcome = await asyncio.to_thread(command, "copy", source, target)
            assert copied_runs(outcome) == 15
            assert "live, not copied: thread-4/now" in outcome[1].splitlines()
            assert "live, not copied: first/begun" in outcome[1].splitlines()
            async with SqliteAgentRunner(target) as there:
                assert not any(thread.running for thread in await there.threads.list(include_archived=True))
                # A thread with a live run at the destination is not copied.
                await there.run(Gate(), make_input("thread-1", "busy"), scope="user-1")
                gate.open()
                other.open()
                assert (await collect(stream))[-1]["type"] == "RUN_FINISHED"
                code, out, _ = await asyncio.to_thread(command, "copy", source, target)
                assert "copied 2 runs" in out
                assert (code, re.findall("differs: (.*)", out)) == (
                    1,
                    ["thread-1: it has a live run at the destination"],
                )

    asyncio.run(main())


COPY_HALF = """
import asyncio
from agentrunner.__main__ import main
from agentrunner.stores.sqlite import SqliteStore

put, puts = SqliteStore.put, 0


async def put_or_wait(store, *arguments):
    global puts
    puts += 1
    if puts == 20:
        print("waiting", flush=True)
        await asyncio.Event().wait()
    await put(store, *arguments)


SqliteStore.put = put_or_wait
main()
"""
"""Program that runs the command line and waits for ever once 19 pages are copied."""


def test_ctrl_c_keeps_the_copied_threads(large_source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.db"
    command_line = [sys.executable, "-c", COPY_HALF, "copy", large_source, target]
    with subprocess.Popen(command_line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "waiting\n"
        child.send_signal(signal.SIGINT)
        _, err = child.communicate()
    assert (child.returncode, err.count("\n")) == (130, 1), err
    assert "repeat the command to resume the copy" in err
    copied_runs(command("copy", large_source, target))
    assert read_location(target) == read_location(large_source)


@pytest.mark.fault("D17")
def test_copies_can_be_given_another_scope(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.db"
    assert copied_runs(command("copy", source, target, "--scope", "alice")) == 15
    expected = [(replace(thread, scope="alice"), *rest) for thread, *rest in read_location(source)]
    assert read_location(target) == expected
    assert copied_runs(command("copy", source, target, "--scope", "alice")) == 0
    code, out, _ = command("copy", source, target, "--verify-only")
    assert (code, len(re.findall("differs: .*scope", out))) == (1, 8)
    # A copy without the option gives every thread back to its own scope.
    assert copied_runs(command("copy", source, target)) == 0
    assert read_location(target) == read_location(source)
    code, out, err = command("copy", source, tmp_path / "other.db", "--scope", "")
    assert (code, out, "--scope: a scope must have" in err) == (2, "", True)
    assert not (tmp_path / "other.db").exists()


def test_missing_source_creates_no_destination(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.db"
    one_line(command("copy", tmp_path / "none.db", target), "there is no file")
    one_line(command("copy", source, target, "--verify-only"), "there is no file")
    assert not target.exists()
    assert not (tmp_path / "none.db").exists()
    one_line(command("copy", source, tmp_path / "no" / "such" / "folder.db"), "folder.db")
