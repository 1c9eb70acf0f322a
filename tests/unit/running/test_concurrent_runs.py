"""A second run on a busy thread, and agents that are silent or ignore cancellation."""

import asyncio
import time

import pytest

from agentrunner import InMemoryAgentRunner, SqliteAgentRunner, ThreadAlreadyRunning
from agentrunner.running import agent_task
from support.event_loops import (
    Waiting,
    collect,
    make_input,
    run_finished,
    run_started,
    talker,
    types,
)


def test_reject(go, make):
    async def main():
        async with make() as runner:
            waiting = Waiting()
            stream = await runner.run(waiting, make_input("t", "r1"))
            with pytest.raises(ThreadAlreadyRunning, match=r"^Thread already running$"):
                await runner.run(waiting, make_input("t", "r2"))
            waiting.go.set()
            await collect(stream)
            await collect(await runner.run(talker(1), make_input("t", "r2")))

    go(main())


def test_supersede_keeps_the_events_of_the_stopped_run(go, make):
    async def main():
        async with make(on_concurrent_run="supersede") as runner:
            waiting = Waiting()
            first = await runner.run(waiting, make_input("t", "r1"))
            second = await runner.run(talker(1), make_input("t", "r2"))
            assert types(await collect(first)) == ["RUN_STARTED", "RUN_FINISHED"]
            await collect(second)
            assert waiting.cancelled == 1
            history = await runner.threads.events("t")
            assert [event.to_dict()["runId"] for event in history if "RUN" in event.type] == ["r1", "r1", "r2", "r2"]

    go(main())


def test_waiting_runs_start_in_order_and_may_be_cancelled(go, make):
    async def main():
        order = []

        async def agent(about):
            order.append(about.run_id)
            yield run_started(about)
            yield run_finished(about)

        async with make(on_concurrent_run="enqueue") as runner:
            waiting = Waiting()
            first = await runner.run(waiting, make_input("t", "r0"))
            queue = []
            for n in range(1, 6):
                queue.append(asyncio.create_task(runner.run(agent, make_input("t", f"r{n}"))))
                await asyncio.sleep(0)
            gone = queue.pop(2)
            gone.cancel()
            waiting.go.set()
            streams = await asyncio.gather(*queue)
            for stream in [first, *streams]:
                await collect(stream)
            assert gone.cancelled()
            assert order == ["r1", "r2", "r4", "r5"]

    go(main())


@pytest.mark.parametrize("busy", [False, True])
def test_an_agent_that_ignores_cancellation_does_not_hold_the_thread(go, make, monkeypatch, busy):
    monkeypatch.setattr(agent_task, "STOP_GRACE_SECONDS", 0.05)

    async def main():
        release = asyncio.Event()
        ended = asyncio.Event()

        async def deaf(about):
            try:
                yield run_started(about)
                while not release.is_set():
                    try:
                        await (asyncio.sleep(0.005) if busy else release.wait())
                    except asyncio.CancelledError:
                        continue
            finally:
                ended.set()

        async with make() as runner:
            try:
                stream = await runner.run(deaf, make_input("t", "r1"))
                await anext(stream)
                assert await runner.stop("t")
                assert types(await collect(stream)) == ["RUN_FINISHED"]
                assert len(await collect(await runner.run(talker(1), make_input("t", "r2")))) == 5
            finally:
                release.set()
            await ended.wait()
            assert len(await runner.threads.events("t")) == 7

    go(main())


@pytest.mark.parametrize("kind", ["sqlite", "memory"])
def test_an_agent_may_be_silent_for_longer_than_the_lease(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("agentrunner.running.maintenance.RECOVERY_POLL_SECONDS", 0.01)
    monkeypatch.setattr("agentrunner.running.maintenance.STOP_POLL_SECONDS", 0.01)

    async def main():
        runner = (
            InMemoryAgentRunner() if kind == "memory" else SqliteAgentRunner(tmp_path / "threads.db", lease_ttl=0.6)
        )
        monkeypatch.setattr(runner._store, "lease_ttl", 0.6)
        rounds, release = 0, asyncio.Event()
        recover = runner._store.recover

        async def recover_and_count(thread_id=None):
            nonlocal rounds
            rounds += 1
            return await recover(thread_id)

        monkeypatch.setattr(runner._store, "recover", recover_and_count)

        async def quiet(about):
            yield run_started(about)
            await release.wait()
            yield run_finished(about)

        async with runner:
            stream = await runner.run(quiet, make_input("t", "r"))
            await anext(stream)
            end = time.monotonic() + 2 * 0.6
            while time.monotonic() < end:
                await asyncio.sleep(0.01)
            looked = rounds
            while rounds < looked + 3:
                await asyncio.sleep(0.01)
            assert await runner.is_running("t")
            release.set()
            assert [event.type for event in await collect(stream)] == ["RUN_FINISHED"]

    asyncio.run(main())
