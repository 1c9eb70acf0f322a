"""A SQLite file that goes away under an open store: nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agentrunner import AgentRunner, SqliteStore, StoreMissing
from agentrunner.running.retries import MAX_ATTEMPTS, UnfinishedRun
from agentrunner.stores import Change
from support.agents import agent_with
from support.events import event_types, text_message
from support.inputs import make_input

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

pytestmark = pytest.mark.fault("D10")


class Fault:
    """What happens to a file, and how it is put back."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.aside = path.with_name("aside.db")

    def strike(self) -> None:
        raise NotImplementedError

    def mend(self) -> None:
        self.aside.rename(self.path)


class Removed(Fault):
    def strike(self) -> None:
        # Another name for the file, under which it is still there.
        self.aside.hardlink_to(self.path)
        self.path.unlink()


class Renamed(Fault):
    def strike(self) -> None:
        self.path.rename(self.aside)


class Replaced(Fault):
    def strike(self) -> None:
        copy = self.path.with_name("copy.db")
        shutil.copy(self.path, copy)
        self.aside.hardlink_to(self.path)
        copy.rename(self.path)


class FolderRenamed(Fault):
    def strike(self) -> None:
        self.path.parent.rename(self.path.parent.with_name("elsewhere"))

    def mend(self) -> None:
        self.path.parent.with_name("elsewhere").rename(self.path.parent)


class FolderReplaced(FolderRenamed):
    def strike(self) -> None:
        super().strike()
        self.path.parent.mkdir()
        self.path.touch()

    def mend(self) -> None:
        shutil.rmtree(self.path.parent)
        super().mend()


FAULTS = (Removed, Renamed, Replaced, FolderRenamed, FolderReplaced)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder / "threads.db"


def record(key: str) -> Change:
    return Change("kind", key, "t", b"value")


async def keys(store: SqliteStore) -> list[str]:
    return [each.key for each in await store.records(None, None, None, 100)]


async def until_it_works(call: Callable[[], Awaitable[object]]) -> None:
    while True:
        try:
            await call()
        except StoreMissing:
            await asyncio.sleep(0.02)
        else:
            return


@pytest.mark.parametrize("kind", FAULTS)
async def test_reads_and_writes_are_refused_until_the_file_is_back(kind: type[Fault], path: Path) -> None:
    store, fault = SqliteStore(path), kind(path)
    await store.open()
    await store.write([record("before")])
    fault.strike()
    there = sorted(path.parent.iterdir()) if path.parent.exists() else None
    with pytest.raises(StoreMissing, match=r"threads\.db.* was (removed or renamed|replaced by another file)"):
        await store.write([record("while")])
    with pytest.raises(StoreMissing):
        await keys(store)
    with pytest.raises(StoreMissing):
        await store.threads(10, None, False, None, None)
    assert (sorted(path.parent.iterdir()) if path.parent.exists() else None) == there, "no file appears in its place"
    fault.mend()
    await until_it_works(lambda: store.write([record("after")]))
    await until_it_works(lambda: keys(store))
    assert await keys(store) == ["after", "before"]
    await store.aclose()
    await store.open()
    assert await keys(store) == ["after", "before"]
    assert (await store.inspect(fix=False)).integrity == "ok"
    await store.aclose()


async def test_a_renamed_file_has_everything_without_its_log(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    await store.write([record("before")])
    path.rename(moved := path.with_name("moved.db"))
    with pytest.raises(StoreMissing):
        await store.write([record("while")])
    # Closed and opened again, it begins a new file in the old one's place.
    await store.aclose()
    await store.open()
    assert await keys(store) == []
    await store.aclose()
    other = SqliteStore(moved)
    await other.open()
    assert await keys(other) == ["before"]
    await other.aclose()


async def test_a_replacement_is_used_by_the_next_open_and_gets_nothing_of_the_old_log(path: Path) -> None:
    other = SqliteStore(replacement := path.with_name("replacement.db"))
    await other.open()
    await other.write([record("other")])
    await other.aclose()
    store = SqliteStore(path)
    await store.open()
    await store.write([record(f"before {n}") for n in range(100)])
    replacement.rename(path)
    with pytest.raises(StoreMissing, match="was replaced by another file"):
        await store.write([record("while")])
    with pytest.raises(StoreMissing, match="was replaced by another file"):
        await keys(store)
    await store.aclose()
    await store.open()
    assert await keys(store) == ["other"]
    assert (await store.inspect(fix=False)).integrity == "ok"
    await store.aclose()


@pytest.mark.parametrize("suffixes", [("-wal",), ("-shm",), ("-wal", "-shm")])
async def test_a_log_or_index_that_is_removed_is_made_again(suffixes: tuple[str, ...], path: Path) -> None:
    # Two, because the connections of a process share the index.
    stores = [SqliteStore(path), SqliteStore(path)]
    for store in stores:
        await store.open()
    acknowledged = []
    for n in range(3):
        for store in stores:
            await store.write([record(key := f"{n} {stores.index(store)}")])
            acknowledged.append(key)
        for suffix in suffixes:
            path.with_name(path.name + suffix).unlink()
        with pytest.raises(StoreMissing):
            await stores[n % 2].write([record("while")])
        for store in stores:
            await until_it_works(lambda store=store: store.write([record("after")]))  # type: ignore[misc]
    for store in stores:
        assert set(acknowledged) <= set(await keys(store))
        await store.aclose()
    # Of another process, with a SQLite of its own.
    command = [sys.executable, "-c", SELECT, str(path)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")
    assert set(acknowledged) <= set(lines)
    assert "ok" in lines


SELECT = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
for query in ("SELECT key FROM records", "PRAGMA integrity_check"):
    print(*[row[0] for row in db.execute(query)], sep="\\n")
"""


async def test_an_idle_store_notices_without_a_call(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    await store.write([record("before")])
    log = path.with_name(path.name + "-wal")
    assert log.stat().st_size > 0
    path.rename(path.with_name("moved.db"))
    while log.stat().st_size > 0:
        # What was in the log is now in the file, wherever it is.
        await asyncio.sleep(0.02)
    await store.aclose()


@pytest.mark.parametrize("kind", FAULTS)
@pytest.mark.parametrize("is_silent", [True, False])
async def test_a_live_run_ends_and_is_recovered_when_the_file_is_back(
    kind: type[Fault], is_silent: bool, path: Path
) -> None:
    fault, shown = kind(path), []

    async def agent(input: object) -> AsyncIterator[dict[str, object]]:
        yield {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"}
        while True:
            yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "word "}
            await (asyncio.Event().wait() if is_silent else asyncio.sleep(0.01))

    async with AgentRunner(SqliteStore(path)) as runner:
        async for event in runner.run(agent, make_input()):
            shown.append(event)
            if len(shown) == 3:
                fault.strike()
        last = shown[-1].to_dict()
        assert (last["type"], last["code"]) == ("RUN_ERROR", "STORE_ERROR")
        with pytest.raises(StoreMissing):
            await runner.run(agent_with(), make_input(thread="t2"))
        with pytest.raises(StoreMissing):
            await runner.threads.list()
        fault.mend()
        await until_it_works(lambda: _collect(runner.run(agent_with(*text_message("n", "done")), make_input(run="r2"))))
        history = await runner.threads.events("t1")
        assert event_types(history)[-1] == "RUN_FINISHED"
        assert [each.to_dict()["code"] for each in history if each.type == "RUN_ERROR"] == ["INTERRUPTED"]
        text = "".join(each.to_dict()["delta"] for each in shown if each.type == "TEXT_MESSAGE_CONTENT")
        kept = "".join(each.to_dict()["delta"] for each in history if each.type == "TEXT_MESSAGE_CONTENT")
        assert kept.startswith(text)


async def _collect(stream: object) -> list:
    return [event async for event in stream]  # type: ignore[attr-defined]


async def test_a_path_that_stays_the_same_file_raises_no_alarm(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = path.with_name("link.db")
    link.symlink_to(path)
    monkeypatch.chdir(path.parent)
    stores = [SqliteStore("threads.db"), SqliteStore("../data/threads.db"), SqliteStore(link)]
    for store in stores:
        await store.open()
    monkeypatch.chdir("/")
    os.utime(path)
    path.chmod(0o600)
    await asyncio.sleep(0.6)  # longer than two checks
    for n, store in enumerate(stores):
        await store.write([record(str(n))])
        assert str(n) in await keys(store)
        await store.aclose()
        assert path.exists()


async def test_a_link_that_leads_to_another_file_counts_as_a_replacement(path: Path) -> None:
    link = path.with_name("link.db")
    link.symlink_to(path)
    store = SqliteStore(link)
    await store.open()
    other = SqliteStore(path.with_name("other.db"))
    await other.open()
    link.unlink()
    link.symlink_to(path.with_name("other.db"))
    with pytest.raises(StoreMissing, match="replaced"):
        await store.write([record("while")])
    await store.aclose()
    await other.aclose()


def test_a_run_of_a_missing_file_keeps_its_content() -> None:
    run = UnfinishedRun(None, StoreMissing("gone"), attempts=MAX_ATTEMPTS)  # type: ignore[arg-type]
    assert not run.may_lose_content
