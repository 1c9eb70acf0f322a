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
from agentrunner.harness import Harness
from agentrunner.running.retries import MAX_ATTEMPTS, UnfinishedRun
from agentrunner.stores import Change
from agentrunner.stores.urls import store_from_url
from support import backends
from support.agents import Gate, agent_with
from support.events import event_types, text_message
from support.file_faults import FILE_FAULTS, SIDE_FAULTS, FileFault, Removed, Renamed
from support.harness import Asking
from support.inputs import make_input

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

pytestmark = pytest.mark.fault("D10")


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


@pytest.mark.parametrize("kind", FILE_FAULTS)
async def test_reads_and_writes_are_refused_until_the_file_is_back(kind: type[FileFault], path: Path) -> None:
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


async def test_a_copy_put_in_the_place_of_a_removed_file_is_not_taken_for_it(path: Path) -> None:
    store = SqliteStore(path)
    await store.open()
    await store.write([record("before")])
    shutil.copy(path, copy := path.with_name("copy.db"))
    path.unlink()
    for call in (lambda: store.write([record("while")]), lambda: keys(store)):
        with pytest.raises(StoreMissing):
            await call()
    # The number of the removed file is free by now, and most file systems give it to the next one.
    shutil.copy(copy, path)
    for call in (lambda: store.write([record("while")]), lambda: keys(store)):
        with pytest.raises(StoreMissing):
            await call()
    await store.aclose()


@pytest.mark.parametrize("kind", SIDE_FAULTS)
async def test_a_log_or_index_that_is_removed_is_made_again(kind: type[FileFault], path: Path) -> None:
    # Two, because the connections of a process share the index.
    stores = [SqliteStore(path), SqliteStore(path)]
    for store in stores:
        await store.open()
    acknowledged = []
    for n in range(3):
        for store in stores:
            await store.write([record(key := f"{n} {stores.index(store)}")])
            acknowledged.append(key)
        kind(path).strike()
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


@pytest.mark.parametrize("kind", FILE_FAULTS)
@pytest.mark.parametrize("is_silent", [True, False])
async def test_a_live_run_ends_and_is_recovered_when_the_file_is_back(
    kind: type[FileFault], is_silent: bool, path: Path
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


async def test_a_harness_ends_its_run_and_continues_when_the_file_is_back(path: Path) -> None:
    fault, agent = Removed(path), Asking()
    async with AgentRunner(SqliteStore(path)) as runner, Harness(runner, {"a": agent}) as harness:
        assert (await harness.run("hi", thread_id="t", run_id="r")).state == "waiting_for_approval"
        fault.strike()
        with pytest.raises(StoreMissing):
            await harness.resume(thread_id="t", decision="approve")
        with pytest.raises(StoreMissing):
            await harness.run("hi", thread_id="other", run_id="r2")
        fault.mend()
        await until_it_works(lambda: harness.approvals())
        await until_it_works(lambda: harness.resume(thread_id="t", decision="approve"))
        assert (await harness.wait("r")).state == "completed"
        assert len(agent.answered) == 1


async def test_a_tiered_store_keeps_the_run_in_redis_until_the_file_is_back(path: Path, tmp_path: Path) -> None:
    fault, gate = Renamed(path), Gate(text_message("m", "hello"), text_message("n", "bye"))
    with backends.place("redis", tmp_path) as location:
        async with AgentRunner(store_from_url(location, history=SqliteStore(path))) as runner:
            reader = asyncio.create_task(_collect(await runner.run(gate, make_input())))
            await gate.reached.wait()
            fault.strike()
            with pytest.raises(StoreMissing):
                await runner.threads.list()
            gate.open()
            last = (await reader)[-1].to_dict()
            assert (last["type"], last["code"]) == ("RUN_ERROR", "STORE_ERROR")
            fault.mend()
            await until_it_works(lambda: _collect(runner.run(agent_with(), make_input(run="r2"))))
            texts = [each.to_dict()["delta"] for each in await runner.threads.events("t1") if "delta" in each.to_dict()]
            assert texts[0] == "hello"
