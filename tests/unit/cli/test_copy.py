"""`agentrunner copy`: all threads in another store, byte for byte, whatever cuts it off."""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import MemoryStore, SqliteAgentRunner
from agentrunner.stores import Change
from agentrunner.stores.urls import store_from_url
from agentrunner.types import ANY_SCOPE
from support import backends
from support.agents import Gate, agent_with, scripted_agent
from support.commands import command, one_line, sql
from support.events import text_message
from support.fixtures import FIXTURES, fixture_lines
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from agentrunner import Store

pytest.importorskip("typer")
pytest.importorskip("rich")

from agentrunner.cli.thread_copy import compare_thread, copy_thread, thread_ids

SAMPLE = FIXTURES / "ts-sqlite-runner-sample.db"
THREADS = 200
ALL = 1 << 30


async def fill(path: Path, threads: int) -> None:
    """Threads of one to three runs of the fixtures, with names, scopes, agents and archive marks."""
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


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "source.db"
    asyncio.run(fill(path, THREADS))
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.db"
    asyncio.run(fill(path, 8))
    return path


async def dump(store: Store) -> list[tuple[Any, list[Any], bytes]]:
    found = []
    before = None
    while page := await store.threads(50, before, True, None, ANY_SCOPE):
        for thread in page:
            runs = await store.runs(thread.thread_id, 0, ALL)
            frames = bytes((await store.history(thread.thread_id, (0, None), None, ALL)).frames)
            found.append((thread, runs, frames))
        before = (page[-1].updated_at, page[-1].thread_id)
    return found


def contents(location: object) -> list[tuple[Any, list[Any], bytes]]:
    async def read() -> list[tuple[Any, list[Any], bytes]]:
        store = store_from_url(str(location))
        await store.open()
        try:
            return await dump(store)
        finally:
            await store.aclose()

    return asyncio.run(read())


def copied(outcome: tuple[int, str, str]) -> int:
    """How many runs a copy that went well says it has copied."""
    code, out, err = outcome
    assert (code, err) == (0, ""), outcome
    found = re.search(r"copied ([\d,]+) runs", out)
    assert found is not None, out
    return int(found[1].replace(",", ""))


def test_killed_again_and_again_it_ends_with_a_whole_copy(filled: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.db"
    wanted = {thread.thread_id: (thread, runs) for thread, runs, _ in contents(filled)}
    total = sum(len(runs) for _, runs in wanted.values())
    moments = random.Random(5)  # noqa: S311 - to be the same each time
    kept = [0]
    for _ in range(12):
        child = subprocess.Popen([sys.executable, "-m", "agentrunner", "copy", filled, target], stdout=subprocess.PIPE)
        assert child.stdout is not None
        # From when it writes: a random moment in the middle of its work.
        size = sizes(target)
        while sizes(target) == size and child.poll() is None:
            time.sleep(0.001)
        time.sleep(moments.uniform(0, 0.03))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        found = contents(target)
        for thread, runs, _ in found:
            assert runs == wanted[thread.thread_id][1][: len(runs)]
        kept.append(sum(len(runs) for _, runs, _ in found))
        if kept[-1] == total:
            break
    assert kept == sorted(kept)
    assert len({*kept} - {0, total}) > 1, f"none was killed in the middle: {kept}"
    assert copied(command("copy", filled, target)) == total - kept[-1]
    assert copied(command("copy", filled, target)) == 0
    assert contents(target) == contents(filled)
    code, out, _ = command("copy", filled, target, "--verify-only")
    assert (code, out) == (0, f"compared {THREADS} threads: {THREADS} with {total} runs are equal\n")
    assert command("doctor", target)[0] == 0


def sizes(path: Path) -> list[int]:
    found = []
    for file in sorted(path.parent.glob(f"{path.name}*")):
        with suppress(FileNotFoundError):
            found.append(file.stat().st_size)
    return found


@pytest.mark.parametrize("way", [("memory",), ("redis", "postgres"), ("postgres", "redis")])
async def test_there_and_back_byte_for_byte(source: Path, tmp_path: Path, way: tuple[str, ...]) -> None:
    with ExitStack() as places:
        places_of = [None if name == "memory" else places.enter_context(backends.place(name, tmp_path)) for name in way]
        stores = [MemoryStore() if place is None else store_from_url(place) for place in places_of]
        stores = [store_from_url(str(source)), *stores, store_from_url(str(tmp_path / "back.db"))]
        for store in stores:
            await store.open()
        try:
            wanted = await dump(stores[0])
            for origin, target in pairwise(stores):
                for thread_id in await thread_ids(origin):
                    await copy_thread(origin, target, thread_id, lambda _: None)
                    compared = await compare_thread(origin, target, thread_id, lambda _: None)
                    assert (compared.difference, compared.unread) == (None, 0)
                assert await dump(target) == wanted
        finally:
            for store in stores:
                await store.aclose()


@pytest.mark.parametrize("backend", ["redis", "postgres"])
def test_to_a_server(source: Path, tmp_path: Path, backend: str) -> None:
    with backends.place(backend, tmp_path) as server:
        assert copied(command("copy", source, server)) == 15
        assert copied(command("copy", source, server)) == 0
        assert copied(command("copy", server, tmp_path / "back.db")) == 15
        assert contents(tmp_path / "back.db") == contents(source)


def test_only_what_is_missing_is_copied(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.db"
    assert copied(command("copy", source, target)) == 15

    async def go_on() -> None:
        async with SqliteAgentRunner(source) as runner:
            await collect(
                await runner.run(agent_with(*text_message("m", "a")), make_input("thread-2", "more"), scope="user-2")
            )
            await collect(await runner.run(agent_with(), make_input("new", "other")))
            await runner.threads.rename("thread-1", "named since")

    asyncio.run(go_on())
    code, out, _ = command("copy", source, target, "--verify-only")
    assert code == 1
    assert [line for line in out.splitlines() if line.startswith("differs")] == [
        "differs: thread-1: its name, agent, scope, archive mark or times differ",
        "differs: thread-2: it has 3 of 4 runs",
        "differs: new: it has 0 of 1 runs",
    ]
    assert copied(command("copy", source, target)) == 2
    assert contents(target) == contents(source)


def test_what_has_gone_its_own_way_is_left_alone(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.db"

    async def differ() -> None:
        async with SqliteAgentRunner(target) as runner:
            for thread, run in (("thread-3", "own"), ("elsewhere", "run-5-1")):
                await collect(await runner.run(agent_with(), make_input(thread, run)))

    asyncio.run(differ())
    own = contents(target)
    code, out, _ = command("copy", source, target)
    assert code == 1
    said = [line.split(": ", 2)[1:] for line in out.splitlines() if line.startswith("differs")]
    assert [thread for thread, _ in said] == ["thread-3", "thread-5"]
    assert said[0][1] == "the destination's thread has diverged from the source's"
    assert "run 'run-5-1' exists already" in said[1][1]
    there = contents(target)
    assert all(thread in there for thread in own)
    spared = ("thread-3", "thread-5")
    expected = [thread for thread in contents(source) if thread[0].thread_id not in spared]
    assert [thread for thread in there if thread not in own] == expected


async def change_records(location: object, *changes: Change) -> None:
    store = store_from_url(str(location))
    await store.open()
    try:
        await store.write(list(changes))
    finally:
        await store.aclose()


def record(key: str, value: bytes | None = b"value", thread_id: str = "thread-1") -> Change:
    return Change("kind", key, thread_id, value)


def records(location: object) -> list[tuple[str, str, bytes]]:
    async def read() -> list[tuple[str, str, bytes]]:
        store = store_from_url(str(location))
        await store.open()
        try:
            return [(r.key, r.thread_id, r.value) for r in await store.records(None, None, None, ALL - 1)]
        finally:
            await store.aclose()

    return asyncio.run(read())


@pytest.mark.parametrize("backend", ["sqlite", "redis", "postgres"])
def test_records_are_copied_with_their_threads(source: Path, tmp_path: Path, backend: str) -> None:
    many = [record(f"many/{n:04}", bytes(20_000), "thread-2") for n in range(250)]
    odd = [record("ü\U0001f600", bytes(range(256))), record("large", bytes(3 << 20)), record("x", b"", "no run yet")]
    asyncio.run(change_records(source, *many, *odd, record("nobody's", b"source", "")))
    (tmp_path / "there").mkdir()
    with backends.place(backend, tmp_path / "there") as target:
        outcome = command("copy", source, target)
        assert copied(outcome) == 15
        assert "copied 15 runs and 254 records, " in outcome[1]
        assert "compared 8 threads: 8 with 15 runs and 254 records are equal" in outcome[1]
        assert records(target) == records(source)
        assert command("copy", source, target)[1].startswith("copied 0 runs, ")

        asyncio.run(change_records(source, record("large"), record("ü\U0001f600", None), many[7]._replace(value=b"")))
        # Of the destination's own processes, and what an earlier copy left behind.
        asyncio.run(change_records(target, record("nobody's", b"own", ""), record("own", b"own", "")))
        code, out, _ = command("copy", source, target, "--verify-only")
        assert (code, re.findall("differs: .*", out)) == (
            1,
            ["differs: thread-1: 2 of its records differ", "differs: thread-2: 1 of its records differ"],
        )
        assert command("copy", source, target)[1].startswith("copied 0 runs and 3 records, ")
        own = {("nobody's", "", b"own"), ("own", "", b"own")}
        assert {*records(target)} == {*records(source)} - {("nobody's", "", b"source")} | own


def test_records_of_a_thread_that_has_gone_its_own_way_are_left_alone(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.db"
    copied(command("copy", source, target))

    async def go_on() -> None:
        async with SqliteAgentRunner(target) as runner:
            await collect(await runner.run(agent_with(), make_input("thread-1", "own"), scope="user-1"))
            await collect(await runner.run(agent_with(), make_input("new", "new")))
        await change_records(target, record("a", b"own"), record("c", b"own", "elsewhere"))
        await change_records(source, record("a"), record("b", thread_id="new"), record("c", thread_id="thread-3"))

    asyncio.run(go_on())
    code, out, _ = command("copy", source, target)
    assert code == 1
    assert {line.split(": ", 1)[1] for line in out.splitlines() if line.startswith("differs")} == {
        "thread-1: the destination's thread has diverged from the source's",
        "new: the destination's thread has diverged from the source's",
        "thread-3: its record kind 'c' belongs to another thread at the destination, or changed during the copy",
    }
    assert ("a", "thread-1", b"own") in records(target)


def test_killed_it_goes_on_with_the_records_that_are_missing(source: Path, tmp_path: Path) -> None:
    asyncio.run(change_records(source, *(record(f"{n:04}", b"%d" % n * 9000) for n in range(800))))
    target, wanted = tmp_path / "target.db", records(source)
    child = subprocess.Popen([sys.executable, "-m", "agentrunner", "copy", source, target])
    while sum(sizes(target)) < 4 << 20:
        assert child.poll() is None
    child.send_signal(signal.SIGKILL)
    child.wait()
    kept = records(target)
    assert 0 < len(kept) < len(wanted)
    assert kept == wanted[: len(kept)]
    assert f" and {len(wanted) - len(kept)} records, " in command("copy", source, target)[1]
    assert records(target) == wanted


def test_a_change_at_the_destination_is_seen(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.db"
    copied(command("copy", source, target))
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


def test_a_row_that_cannot_be_read_is_left_out_and_named(source: Path, tmp_path: Path) -> None:
    sql(source, "UPDATE agent_runs SET events = '[{\"type\":' WHERE run_id IN ('run-2-1', 'run-0-0')")
    target = tmp_path / "target.db"
    outcome = command("copy", source, target)
    assert copied(outcome) == 13
    lines = outcome[1].splitlines()
    assert "cannot be read, not copied: thread-0/run-0-0" in lines
    assert "cannot be read, not copied: thread-2/run-2-1" in lines
    runs = next(runs for thread, runs, _ in contents(target) if thread.thread_id == "thread-2")
    assert [(run.run_id, run.parent_run_id) for run in runs] == [("run-2-0", None), ("run-2-2", "run-2-0")]
    assert copied(command("copy", source, target)) == 0


def test_a_file_of_the_typescript_runner(tmp_path: Path) -> None:
    source, target = Path(shutil.copy(SAMPLE, tmp_path / "sample.db")), tmp_path / "target.db"
    runs = sum(thread.runs for thread, *_ in contents(Path(shutil.copy(SAMPLE, tmp_path / "read.db"))))
    assert copied(command("copy", source, target)) == runs
    stuck = "SELECT count(*) FROM run_state WHERE is_running <> 0"
    code = "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchone()[0])"
    ran = subprocess.run([sys.executable, "-c", code, source, stuck], capture_output=True, text=True, check=True)
    assert ran.stdout == "2\n", "what is only looked at is not freed"
    assert contents(target) == contents(source)
    assert command("doctor", target)[0] == 0


def test_a_live_run_is_named_and_goes_on(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.db"

    async def main() -> None:
        async with SqliteAgentRunner(source) as runner:
            gate, other = Gate(before=text_message("m", "a")), Gate()
            stream = await runner.run(gate, make_input("thread-4", "now"))
            await runner.run(other, make_input("first", "begun"))
            await gate.reached.wait()
            outcome = await asyncio.to_thread(command, "copy", source, target)
            assert copied(outcome) == 15
            assert "live, not copied: thread-4/now" in outcome[1].splitlines()
            assert "live, not copied: first/begun" in outcome[1].splitlines()
            async with SqliteAgentRunner(target) as there:
                assert not any(thread.running for thread in await there.threads.list(include_archived=True))
                # Where a run is live nothing is put in.
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
"""Runs the command line, and waits for ever once 19 pages are copied."""


def test_ctrl_c_keeps_what_is_copied_and_the_next_copy_completes_it(filled: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.db"
    command_line = [sys.executable, "-c", COPY_HALF, "copy", filled, target]
    with subprocess.Popen(command_line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "waiting\n"
        child.send_signal(signal.SIGINT)
        _, err = child.communicate()
    assert (child.returncode, err.count("\n")) == (130, 1), err
    assert "repeat the command to resume the copy" in err
    copied(command("copy", filled, target))
    assert contents(target) == contents(filled)


def test_what_is_not_there_is_not_made(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.db"
    one_line(command("copy", tmp_path / "none.db", target), "there is no file")
    one_line(command("copy", source, target, "--verify-only"), "there is no file")
    assert not target.exists()
    assert not (tmp_path / "none.db").exists()
    one_line(command("copy", source, tmp_path / "no" / "such" / "folder.db"), "folder.db")


pytestmark = pytest.mark.processes
