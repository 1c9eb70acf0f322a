"""Two processes on one file: followed, stopped, taken over and fenced from the other side."""

import asyncio
import signal

import pytest

import agentrunner
from agentrunner import SqliteAgentRunner
from support.peers import answer, peer, request


async def agent(run_input):
    yield {"type": "RUN_STARTED", "threadId": run_input.thread_id, "runId": run_input.run_id}
    yield {"type": "RUN_FINISHED", "threadId": run_input.thread_id, "runId": run_input.run_id}


def make_run_input(thread: str, run: str) -> dict:
    return {"threadId": thread, "runId": run, "messages": []}


@pytest.mark.fault("C7")
async def test_a_run_id_of_another_process_is_free_in_other_threads_only(tmp_path):
    async with SqliteAgentRunner(tmp_path / "threads.db") as runner:
        with peer("runs", tmp_path / "threads.db", 10) as other:
            request(other, "run", "two", "same")
            assert len(await collect(await runner.run(agent, make_run_input("one", "same")))) == 2
            assert request(other, "blind", "end") == ["put"]
            await asyncio.to_thread(request, other, "wait")
            with pytest.raises(agentrunner.RunAlreadyExists):
                await runner.run(agent, make_run_input("two", "same"))


async def collect(stream: agentrunner.EventStream, words: list[str] | None = None) -> list[agentrunner.Event]:
    events = []
    async for event in stream:
        events.append(event)
        if words is not None and event.type == "TEXT_MESSAGE_CONTENT":
            words.append(event.to_dict()["delta"])
    return events


async def test_connect_follows_the_other_process(tmp_path):
    with peer("runs", tmp_path / "threads.db", 10) as other:
        async with SqliteAgentRunner(tmp_path / "threads.db") as runner:
            for n in range(5):
                thread = f"t{n}"
                assert request(other, "run", thread, f"r{n}") == ["RUN_STARTED", "TEXT_MESSAGE_START"]
                first = await runner.connect(thread)
                reading = asyncio.create_task(collect(first))
                again = asyncio.create_task(collect(await runner.connect(thread, after="1")))
                assert await runner.is_running(thread)
                for k in range(20):
                    assert request(other, "say", f"w{k}") == ["TEXT_MESSAGE_CONTENT"]
                    await asyncio.sleep(0)
                late = asyncio.create_task(collect(await runner.connect(thread)))
                assert request(other, "blind", "end") == ["put"]
                assert (await asyncio.to_thread(request, other, "wait"))[0] == "RUN_FINISHED"
                events, behind, joined = await asyncio.gather(reading, again, late)
                raw = (await runner._store.journal(thread, 0, None, 1 << 20)).frames.events()
                assert len(raw) == 24
                bare = [event for event in events if "." not in event.cursor]
                upto = events[len(events) - len(bare) - 1].seq if len(bare) < len(events) else 0
                assert [bytes(event) for event in bare] == [bytes(event) for event in raw[upto:]]
                assert [bytes(event) for event in behind] == [bytes(event) for event in raw[1:]]
                assert agentrunner.fold(events) == agentrunner.fold(raw) == agentrunner.fold(joined)
                assert not await runner.is_running(thread)


async def test_stop_reaches_the_other_process(tmp_path):
    with peer("runs", tmp_path / "threads.db", 10) as other:
        async with SqliteAgentRunner(tmp_path / "threads.db") as runner:
            for n in range(3):
                request(other, "run", f"t{n}", f"r{n}")
                assert not await runner.stop(f"t{n}", "another run")
                assert await runner.stop(f"t{n}", f"r{n}")
                assert not await runner.is_running(f"t{n}")
                assert not await runner.stop(f"t{n}")
                assert answer(other) == ["aborted"]
                assert request(other, "wait") == ["RUN_FINISHED", "-"]
                agentrunner.verify(await runner.threads.events(f"t{n}"))


async def test_a_dead_owner_is_taken_over_at_once(tmp_path):
    async with SqliteAgentRunner(tmp_path / "threads.db") as runner:
        for n in range(5):
            with peer("runs", tmp_path / "threads.db", 10) as other:
                request(other, "run", "thread", f"r{n}")
                request(other, "say", "word")
                following = asyncio.create_task(collect(await runner.connect("thread")))
                with pytest.raises(agentrunner.ThreadAlreadyRunning):
                    await runner.run(agent, make_run_input("thread", f"early{n}"))
                other.send_signal(signal.SIGKILL)
                other.wait()
                stream = await runner.run(agent, make_run_input("thread", f"next{n}"))
                await collect(stream)
                followed = await following
                assert followed[-1].to_dict()["code"] == "INTERRUPTED"
        history = await runner.threads.events("thread")
        agentrunner.verify(history)
        codes = [event.to_dict()["code"] for event in history if event.type == "RUN_ERROR"]
        assert codes == ["INTERRUPTED"] * 5


async def test_a_process_whose_lease_ended_while_it_slept_writes_nothing(tmp_path):
    with peer("stale", tmp_path / "threads.db") as zombie:
        assert answer(zombie) == ["ready"]
        zombie.send_signal(signal.SIGSTOP)
        async with SqliteAgentRunner(tmp_path / "threads.db", on_concurrent_run="enqueue", lease_ttl=0.3) as runner:
            # Waits until the lease has ended, not longer.
            await collect(await runner.run(agent, make_run_input("stale", "next")))
            before = [bytes(event) for event in await runner.threads.events("stale")]
            zombie.send_signal(signal.SIGCONT)
            assert request(zombie, "go") == ["LeaseLost", "LeaseLost", "False"]
            assert [bytes(event) for event in await runner.threads.events("stale")] == before
            raw = (await runner._store.journal("stale", 0, None, 1 << 20)).frames.events()
            assert [event.type for event in raw] == ["RUN_STARTED", "RUN_ERROR", "RUN_STARTED", "RUN_FINISHED"]


async def test_a_runner_whose_lease_ended_while_it_slept_tells_its_readers(tmp_path):
    with peer("runs", tmp_path / "threads.db", 0.5) as zombie:
        for n in range(3):
            request(zombie, "run", f"t{n}", f"r{n}")
            zombie.send_signal(signal.SIGSTOP)
            async with SqliteAgentRunner(tmp_path / "threads.db", on_concurrent_run="enqueue") as runner:
                await collect(await runner.run(agent, make_run_input(f"t{n}", f"next{n}")))
                before = [bytes(event) for event in await runner.threads.events(f"t{n}")]
                zombie.send_signal(signal.SIGCONT)
                request(zombie, "blind", "late")
                assert request(zombie, "wait") == ["RUN_ERROR", "LEASE_LOST"]
                assert [bytes(event) for event in await runner.threads.events(f"t{n}")] == before
                raw = (await runner._store.journal(f"t{n}", 0, None, 1 << 20)).frames.events()
                assert [event.seq for event in raw] == list(range(1, 7))
