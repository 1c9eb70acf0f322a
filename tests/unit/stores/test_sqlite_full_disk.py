"""A full disk raises a typed error and ends the run; the file stays intact and usable."""

import asyncio
import os
import subprocess

import pytest

import agentrunner
from agentrunner import SqliteAgentRunner, StoreError, StoreFull
from support.agents import agent_with
from support.events import event_types, text_message
from support.inputs import make_input

pytestmark = pytest.mark.processes

MESSAGE = "x" * 8_000


def make_run_input(thread: str, run: str) -> dict:
    return {"threadId": thread, "runId": run, "messages": []}


async def small(about):
    yield {"type": "RUN_STARTED", "threadId": about.thread_id, "runId": about.run_id}
    yield {"type": "RUN_FINISHED", "threadId": about.thread_id, "runId": about.run_id}


async def endless(about):
    yield {"type": "RUN_STARTED", "threadId": about.thread_id, "runId": about.run_id}
    yield {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"}
    while True:
        yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": MESSAGE}
        await asyncio.sleep(0)


async def collect(stream) -> list:
    return [event async for event in stream]


async def run_when_possible(runner, agent, run_input) -> list:
    """Run an agent as soon as the store can be written again."""
    while True:
        try:
            return await collect(await runner.run(agent, run_input))
        except StoreError:
            # Ending the run before is tried again after a pause.
            await asyncio.sleep(0.01)


@pytest.fixture
def small_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("not run: a file system of 2 MiB needs root to be mounted")
    yield disk
    subprocess.run(["umount", disk], check=True)


async def test_a_full_disk_ends_the_run_with_a_typed_error(small_disk):
    assert issubclass(StoreFull, StoreError)
    async with SqliteAgentRunner(small_disk / "threads.db", lease_ttl=1) as runner:
        await collect(await runner.run(small, make_run_input("before", "r0")))
        stream = await runner.run(endless, make_run_input("t", "r1"))
        late = await runner.connect("t")
        events, others = await asyncio.gather(collect(stream), collect(late))
        for seen in (events, others):
            last = seen[-1].to_dict()
            assert (last["type"], last["code"]) == ("RUN_ERROR", "STORE_ERROR")
            agentrunner.verify(seen)
        shown = [event.seq for event in events[:-1]]
        assert shown == list(range(1, len(shown) + 1))
        assert len(shown) > 10

        filler = small_disk / "filler"
        filler.write_bytes(b"")
        subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=4k"], capture_output=True, check=False)
        with pytest.raises(StoreFull):  # noqa: PT012 - which of them finds no room is not known
            while True:
                await collect(await runner.run(small, make_run_input("full", os.urandom(8).hex())))
        filler.unlink()
        subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)

        assert len(await run_when_possible(runner, small, make_run_input("new", "r2"))) == 2
        assert [event.type for event in await runner.threads.events("before")] == ["RUN_STARTED", "RUN_FINISHED"]
        assert (await runner._store.inspect(fix=False)).integrity == "ok"
        for _ in range(50):
            try:
                await collect(await runner.run(small, make_run_input("t", "r3")))
                break
            except agentrunner.ThreadAlreadyRunning:
                await asyncio.sleep(0.1)  # until the lease of the run that could not end has ended
        history = await runner.threads.events("t")
        agentrunner.verify(history)
        assert [event.to_dict()["code"] for event in history if event.type == "RUN_ERROR"] == ["INTERRUPTED"]
        kept = agentrunner.fold(history).messages[0]["content"]
        told = agentrunner.fold(events[:-1]).messages[0]["content"]
        assert kept.startswith(told)


@pytest.mark.fault("D12")
async def test_threads_can_be_deleted_on_a_full_disk_which_frees_space(small_disk):
    path = small_disk / "threads.db"
    async with SqliteAgentRunner(path) as runner:
        stored = []
        with pytest.raises(StoreFull):  # noqa: PT012 - which of them finds no room is not known
            while True:
                thread = f"t{len(stored)}"
                agent = agent_with(*text_message("m", MESSAGE))
                events = await collect(await runner.run(agent, make_input(thread, thread)))
                assert event_types(events)[-1] == "RUN_FINISHED" or len(stored) > 10
                stored.append(thread)
        # Another program takes what is left.
        filler = small_disk / "filler"
        subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=4k"], capture_output=True, check=False)
        for thread in stored[: len(stored) // 2]:
            await runner.threads.delete(thread)
        async with asyncio.timeout(20):
            while not await can_run(runner, f"new-{os.urandom(4).hex()}"):
                await asyncio.sleep(0.05)
        assert (await runner._store.inspect(fix=False)).integrity == "ok"
    assert sorted(file.name for file in small_disk.iterdir()) == ["filler", "threads.db"]


async def can_run(runner, thread) -> bool:
    try:
        return event_types(await collect(await runner.run(small, make_input(thread, thread))))[-1] == "RUN_FINISHED"
    except StoreError:
        return False


async def _failing(*_):
    raise StoreError("disk I/O error")


async def test_late_readers_of_a_run_that_cannot_end_get_the_same_error(sqlite_factory, monkeypatch):
    runner = sqlite_factory()
    store = await runner.open()
    with monkeypatch.context() as broken:
        broken.setattr(store, "finish", _failing)
        agent = agent_with(*text_message("m", "hello"))
        seen = await collect(await runner.run(agent, make_input()))
        assert event_types(seen)[-2:] == ["RUN_FINISHED", "RUN_ERROR"]
        for after in (None, "2"):
            late = await collect(await runner.connect("t1", after=after))
            assert [bytes(event) for event in late[-2:]] == [bytes(event) for event in seen[-2:]]
        with pytest.raises(StoreError):
            await runner.run(agent, make_input(run="r2"))
    assert event_types(await run_when_possible(runner, agent_with(), make_input(run="r3"))) == [
        "RUN_STARTED",
        "RUN_FINISHED",
    ]
    assert event_types(await runner.threads.events("t1"))[-3] == "RUN_FINISHED"


async def test_a_run_with_an_error_gets_no_second_one_if_it_cannot_end(sqlite_factory, monkeypatch):
    runner = sqlite_factory()
    monkeypatch.setattr(await runner.open(), "finish", _failing)

    async def agent(about):
        yield {"type": "RUN_STARTED", "threadId": about.thread_id, "runId": about.run_id}
        yield {"type": "RUN_ERROR", "message": "the agent's own"}

    seen = await collect(await runner.run(agent, make_input()))
    assert event_types(seen) == ["RUN_STARTED", "RUN_ERROR"]
    late = await collect(await runner.connect("t1"))
    assert event_types(late) == ["RUN_STARTED", "RUN_ERROR"]
