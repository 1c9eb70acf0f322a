"""`agentrunner copy`: records are copied with their threads."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agentrunner import SqliteAgentRunner
from agentrunner.stores import Change
from agentrunner.stores.urls import store_from_url
from support import backends
from support.agents import agent_with
from support.commands import command
from support.inputs import make_input
from support.stored_threads import ALL_BYTES, copied_runs, file_sizes
from support.streams import collect

if TYPE_CHECKING:
    pass

pytest.importorskip("typer")
pytest.importorskip("rich")

pytestmark = pytest.mark.processes


async def change_records(location: object, *changes: Change) -> None:
    store = store_from_url(str(location))
    await store.open()
    try:
        await store.write(list(changes))
    finally:
        await store.aclose()


def make_change(key: str, value: bytes | None = b"value", thread_id: str = "thread-1") -> Change:
    return Change("kind", key, thread_id, value)


def read_records(location: object) -> list[tuple[str, str, bytes]]:
    async def read() -> list[tuple[str, str, bytes]]:
        store = store_from_url(str(location))
        await store.open()
        try:
            return [(r.key, r.thread_id, r.value) for r in await store.records(None, None, None, ALL_BYTES - 1)]
        finally:
            await store.aclose()

    return asyncio.run(read())


@pytest.mark.parametrize("backend", backends.SHARED)
def test_records_are_copied_with_their_threads(source: Path, tmp_path: Path, backend: str) -> None:
    many = [make_change(f"many/{n:04}", bytes(20_000), "thread-2") for n in range(250)]
    odd = [
        make_change("ü\U0001f600", bytes(range(256))),
        make_change("large", bytes(3 << 20)),
        make_change("x", b"", "no run yet"),
    ]
    asyncio.run(change_records(source, *many, *odd, make_change("of no thread", b"source", "")))
    (tmp_path / "there").mkdir()
    with backends.place(backend, tmp_path / "there") as target:
        outcome = command("copy", source, target)
        assert copied_runs(outcome) == 15
        assert "copied 15 runs and 254 records, " in outcome[1]
        assert "compared 8 threads: 8 with 15 runs and 254 records are equal" in outcome[1]
        assert read_records(target) == read_records(source)
        assert command("copy", source, target)[1].startswith("copied 0 runs, ")

        asyncio.run(
            change_records(source, make_change("large"), make_change("ü\U0001f600", None), many[7]._replace(value=b""))
        )
        # The first one belongs to the destination's processes, the second one to an earlier copy.
        asyncio.run(change_records(target, make_change("of no thread", b"own", ""), make_change("own", b"own", "")))
        code, out, _ = command("copy", source, target, "--verify-only")
        assert (code, re.findall("differs: .*", out)) == (
            1,
            ["differs: thread-1: 2 of its records differ", "differs: thread-2: 1 of its records differs"],
        )
        assert command("copy", source, target)[1].startswith("copied 0 runs and 3 records, ")
        own = {("of no thread", "", b"own"), ("own", "", b"own")}
        assert {*read_records(target)} == {*read_records(source)} - {("of no thread", "", b"source")} | own


def test_records_of_diverged_threads_are_left_unchanged(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target.db"
    copied_runs(command("copy", source, target))

    async def add_runs() -> None:
        async with SqliteAgentRunner(target) as runner:
            await collect(await runner.run(agent_with(), make_input("thread-1", "own"), scope="user-1"))
            await collect(await runner.run(agent_with(), make_input("new", "new")))
        await change_records(target, make_change("a", b"own"), make_change("c", b"own", "elsewhere"))
        await change_records(
            source, make_change("a"), make_change("b", thread_id="new"), make_change("c", thread_id="thread-3")
        )

    asyncio.run(add_runs())
    code, out, _ = command("copy", source, target)
    assert code == 1
    assert {line.split(": ", 1)[1] for line in out.splitlines() if line.startswith("differs")} == {
        "thread-1: the destination's thread has diverged from the source's",
        "new: the destination's thread has diverged from the source's",
        "thread-3: its record kind 'c' belongs to another thread at the destination, or changed during the copy",
    }
    assert ("a", "thread-1", b"own") in read_records(target)


def test_killed_copy_resumes_with_the_missing_records(source: Path, tmp_path: Path) -> None:
    asyncio.run(change_records(source, *(make_change(f"{n:04}", b"%d" % n * 9000) for n in range(800))))
    target, expected = tmp_path / "target.db", read_records(source)
    child = subprocess.Popen([sys.executable, "-m", "agentrunner", "copy", source, target])
    while sum(file_sizes(target)) < 4 << 20:
        assert child.poll() is None
    child.send_signal(signal.SIGKILL)
    child.wait()
    kept = read_records(target)
    assert 0 < len(kept) < len(expected)
    assert kept == expected[: len(kept)]
    assert f" and {len(expected) - len(kept)} records, " in command("copy", source, target)[1]
    assert read_records(target) == expected
