"""Recovery: harness runs whose process is gone continue, end, or are left alone."""

from __future__ import annotations

import asyncio

import pytest

from agentrunner import StoreError
from agentrunner.errors import RecordDamaged, RecordTooNew
from agentrunner.harness import Harness, Recovery, RunResult
from agentrunner.records.kinds import thread_key
from agentrunner.stores import Change
from support.agents import Gate, agent_with
from support.events import text_message
from support.harness import (
    Asking,
    Process,
    Steps,
    drain_listeners,
    ignore_result,
    interrupt,
    listen,
    process,
    states,
    until,
)
from support.inputs import make_input
from support.streams import collect

hello = agent_with(*text_message("m", "hello"))


async def test_run_without_checkpoints_is_failed(store_factory):
    gate = Gate(text_message("m1", "so ", "far"))
    async with process(store_factory, {"a": gate}) as one:
        asyncio.ensure_future(one.harness.run("hi", thread_id="t", run_id="r")).add_done_callback(ignore_result)
        await gate.reached.wait()
        await one.crash()
    async with process(store_factory, {"a": hello}) as two:
        assert two.harness.recovered.failed == ["r"]
        result = await two.harness.wait("r")
        assert result == RunResult("r", "t", "a", "failed", "so far", "The run was interrupted: its process ended")
        events = await two.harness.events("r")
        assert len({event.seq for event in events}) == len(events)
        assert states(events) == ["running", "failed"]
        assert (await two.harness.run("again", thread_id="t")).content == "hello"


async def test_queued_run_is_failed(store_factory):
    gate = Gate()
    async with process(store_factory, {"a": gate}, max_concurrent_runs=1) as one:
        for run in ("r1", "r2"):
            asyncio.ensure_future(one.harness.run("hi", run_id=run)).add_done_callback(ignore_result)
            while run not in [each.run_id for each in await one.harness.runs()]:
                await asyncio.sleep(0.001)
        await gate.reached.wait()
        await one.crash()
    async with process(store_factory, {"a": hello}, max_concurrent_runs=1) as two:
        assert sorted(two.harness.recovered.failed) == ["r1", "r2"]
        # Owners that are gone hold no slot.
        assert (await two.harness.run("hi")).state == "completed"


async def test_agent_with_checkpoints_continues(store_factory):
    agent = Steps()
    agent.stop_at = 1
    async with process(store_factory, {"a": agent}) as one:
        asyncio.ensure_future(one.harness.run("hi", thread_id="t", run_id="r")).add_done_callback(ignore_result)
        await agent.reached.wait()
        await one.crash()
    agent.stop_at = None
    async with process(store_factory, {"a": agent}) as two:
        assert two.harness.recovered.resumed == ["r"]
        assert (await two.harness.wait("r")).state == "completed"
        assert agent.done == [0, 1, 2]
        assert agent.starts == ["run", "resume"]
        events = await two.harness.events("r")
        assert states(events) == ["running", "resuming", "completed"]
        assert [e.data for e in events if e.type == "run.resumed"] == [{"kind": "startup-recovery", "attempt": 2}]
        seqs = [event.seq for event in events]
        assert seqs == sorted(set(seqs))
        assert await two.store.record("intent", thread_key("t", "r")) is None


async def test_run_is_given_up_after_the_last_attempt(store_factory):
    agent = Steps()
    for attempt in range(1, 4):
        agent.stop_at = 1
        agent.reached.clear()
        async with process(store_factory, {"a": agent}) as one:
            if attempt == 1:
                asyncio.ensure_future(one.harness.run("hi", thread_id="t", run_id="r")).add_done_callback(ignore_result)
            await agent.reached.wait()
            assert (await one.harness.run_record("r")).attempts == attempt
            await one.crash()
    async with process(store_factory, {"a": agent}) as last:
        assert (last.harness.recovered.failed, last.harness.recovered.resumed) == (["r"], [])
        result = await last.harness.wait("r")
        assert result.state == "failed"
        assert "3 times" in result.error
        assert len(agent.starts) == 3
        assert await last.store.record("intent", thread_key("t", "r")) is None
        final = (await last.harness.events("r"))[-1]
        assert (final.data["state"], final.data["error"]) == ("failed", result.error)
    async with process(store_factory, {"a": agent}) as after:
        assert after.harness.recovered.failed == []


@pytest.mark.parametrize("dies_at", [1, 2, 3])
@pytest.mark.parametrize("writes_last", [False, True])
async def test_decision_survives_its_process(store_factory, dies_at, writes_last):
    """The process dies at one of three writes: decision and intent; attempt; end."""
    agent = Asking()
    async with process(store_factory, {"a": agent}) as one:
        await one.harness.run("hi", thread_id="t", run_id="r")
        one.store.dies_at, one.store.writes_last = one.store.writes + dies_at, writes_last
        with pytest.raises(Exception):  # noqa: B017, PT011 - the dead store may raise anything
            raise AssertionError(await one.harness.resume(thread_id="t", decision="approve"))
        starts = len(agent.answered)
        await one.crash()
    async with process(store_factory, {"a": agent}) as two:
        approval = await two.harness.approval("r/i1")
        decided = dies_at > 1 or writes_last
        assert approval.open != decided
        if not decided:
            assert (await two.harness.wait("r")).state == "waiting_for_approval"
            await two.harness.resume(thread_id="t", decision="approve")
        assert (await two.harness.wait("r")).state == "completed"
        # A run whose record has ended is not started again; an unwritten end may be in the thread.
        more = len(agent.answered) - starts
        assert more == 1 if dies_at < 3 else more <= (not writes_last)
        assert all(entry["payload"] == {"approved": True} for (entry,) in agent.answered)


async def test_waiting_run_continues_after_a_restart(store_factory):
    agent = Asking(interrupt("i1"), interrupt("i2"))
    async with process(store_factory, {"a": agent}) as one:
        await one.harness.run("hi", thread_id="t", run_id="r")
        await one.harness.resume(approval_id="r/i1", decision="approve")
        await one.crash()
    async with process(store_factory, {"a": agent}) as two:
        seen = listen(two.harness)
        assert (await two.harness.wait("r")).state == "waiting_for_approval"
        result = await two.harness.resume(thread_id="t", decision="reject")
        assert result.state == "completed"
        await drain_listeners(two.harness)
        assert [e.data for e in seen if e.type == "run.resumed"] == [{"kind": "cross-restart", "attempt": 1}]


async def test_crash_between_the_question_and_the_end_of_its_run(store_factory):
    """An approval can be answered even if its AG-UI run was cut off before it asked."""
    agent = Asking()
    async with process(store_factory, {"a": agent}) as one:
        write = one.store.write

        async def last(changes, claim=None):
            versions = await write(changes, claim)
            if any(change.kind == "approval" for change in changes):
                one.store.dead = True
            return versions

        one.store.write = last
        asyncio.ensure_future(one.harness.run("hi", thread_id="t", run_id="r")).add_done_callback(ignore_result)
        await until(lambda: one.store.dead)
        await one.crash()
    async with process(store_factory, {"a": agent}) as two:
        assert not [event for event in await collect(await two.runner.connect("t")) if "outcome" in event]
        assert (await two.harness.wait("r")).state == "waiting_for_approval"
        assert (await two.harness.resume(thread_id="t", decision="approve")).state == "completed"


async def test_run_that_had_ended_is_completed(store_factory):
    """The AG-UI run's end was stored, but the harness run's record did not say so."""
    async with process(store_factory, {"a": hello}) as one:
        write = one.store.write

        async def write_unless_completed(changes, claim=None):
            if any(b"completed" in (change.value or b"") for change in changes):
                raise StoreError("the disk is full")
            return await write(changes, claim)

        one.store.write = write_unless_completed
        await one.harness.run("hi", thread_id="t", run_id="r")
        assert (await one.harness.run_record("r")).state == "running"
        await one.crash()
    async with process(store_factory, {"a": hello}) as two:
        assert two.harness.recovered.completed == ["r"]
        assert (await two.harness.wait("r")).content == "hello"


async def test_run_whose_admission_cannot_be_written_is_refused(store_factory):
    agent = Asking()
    async with process(store_factory, {"a": agent}) as one:
        write, full = one.store.write, True

        async def failing(changes, claim=None):
            if full and any(change.kind == "run" for change in changes):
                raise StoreError("the disk is full")
            return await write(changes, claim)

        one.store.write = failing
        with pytest.raises(StoreError, match="disk is full"):
            await one.harness.run("hi", thread_id="t", run_id="r")
        assert await one.harness.runs() == []
        full = False
        assert (await one.harness.run("hi", thread_id="t", run_id="r")).state == "waiting_for_approval"
        full = True
        with pytest.raises(StoreError):
            await one.harness.resume(thread_id="t", decision="approve")
        assert len(await one.harness.approvals()) == 1
        full = False
        assert (await one.harness.resume(thread_id="t", decision="approve")).state == "completed"
        assert len(agent.answered) == 1


async def test_end_that_cannot_be_written_is_written_later(memory_factory):
    runner = memory_factory()
    async with Harness(runner, {"a": hello}) as harness:
        store = await runner.open()
        write, failed = store.write, []

        async def failing(changes, claim=None):
            if len(failed) < 2 and any(b"completed" in (change.value or b"") for change in changes):
                failed.append(changes)
                raise StoreError("the disk is full")
            return await write(changes, claim)

        store.write = failing
        await harness.run("hi", run_id="r")
        assert (await harness.run_record("r")).state == "running"
        assert (await harness.wait("r")).state == "completed"
        assert len(failed) == 2


async def test_runs_of_unknown_agents_are_left_alone_and_reported(store_factory):
    agent = Steps()
    agent.stop_at = 1
    async with process(store_factory, {"a": agent, "b": hello}) as one:
        asyncio.ensure_future(one.harness.run("hi", agent="a", run_id="r")).add_done_callback(ignore_result)
        await agent.reached.wait()
        await one.crash()
    async with process(store_factory, {"b": hello}) as two:
        assert two.harness.recovered.unknown_agents == {"r": "a"}
        assert (await two.harness.run_record("r")).state == "running"
    agent.stop_at = None
    async with process(store_factory, {"a": agent, "b": hello}) as three:
        assert (await three.harness.wait("r")).state == "completed"


async def test_disabled_recovery_does_nothing(store_factory):
    agent = Steps()
    agent.stop_at = 1
    async with process(store_factory, {"a": agent}) as one:
        asyncio.ensure_future(one.harness.run("hi", run_id="r")).add_done_callback(ignore_result)
        await agent.reached.wait()
        await one.crash()
    agent.stop_at = None
    async with process(store_factory, {"a": agent}, recovery=Recovery(enabled=False)) as two:
        assert (await two.harness.run_record("r")).state == "running"
        assert (await two.harness.recover()).resumed == []
    async with process(store_factory, {"a": agent}, recovery=Recovery(resume_on_startup=False)) as three:
        assert three.harness.recovered.waiting == ["r"]
        assert (await three.harness.run_record("r")).state == "running"
        assert (await three.harness.recover()).resumed == ["r"]
        assert (await three.harness.wait("r")).state == "completed"


async def test_one_of_two_recovering_processes_continues_a_run(store_factory):
    agent = Steps()
    agent.stop_at = 1
    async with process(store_factory, {"a": agent}) as one:
        asyncio.ensure_future(one.harness.run("hi", thread_id="t", run_id="r")).add_done_callback(ignore_result)
        await agent.reached.wait()
        await one.crash()
    agent.stop_at = None
    # In memory two harnesses share a runner, as two processes share a file.
    first = Process(store_factory, {"a": agent})
    shared = first.runner if not first.store.shared else None
    second = Process(store_factory, {"a": agent})
    if shared is not None:
        second.harness = Harness(shared, {"a": agent})
    await asyncio.gather(first.harness.open(), second.harness.open())
    reports = [each.harness.recovered.resumed for each in (first, second)]
    assert sorted(reports) == [[], ["r"]]
    assert (await first.harness.wait("r")).state == "completed"
    assert agent.starts == ["run", "resume"]
    for each in (first, second):
        await each.harness.aclose()
    for each in (first, second):
        await each.runner.aclose()


async def test_intent_of_a_live_owner_is_left_alone(store_factory):
    """A second process starts while the first has decided and not yet claimed the thread."""
    agent = Asking()
    async with process(store_factory, {"a": agent}) as one:
        await one.harness.run("hi", thread_id="t", run_id="r")
        run, coming = one.runner.run, asyncio.Event()
        there = asyncio.Event()

        async def late(*arguments, **options):
            there.set()
            await coming.wait()
            return await run(*arguments, **options)

        one.runner.run = late
        resuming = asyncio.ensure_future(one.harness.resume(thread_id="t", decision="approve"))
        await there.wait()
        # In memory another harness of this process takes its place.
        async with Harness(one.runner, {"a": agent}) as other:
            assert other.recovered.resumed == []
            assert (await other.recover()).resumed == []
            assert (await one.harness.run_record("r")).state == "resuming"
            coming.set()
            assert (await resuming).state == "completed"
        assert len(agent.answered) == 1


async def test_attempt_ended_by_a_shutdown_does_not_count(store_factory):
    agent = Steps()
    agent.stop_at = 1
    for number in range(5):
        agent.reached.clear()
        async with process(store_factory, {"a": agent}) as one:
            if not number:
                asyncio.ensure_future(one.harness.run("hi", thread_id="t", run_id="r")).add_done_callback(ignore_result)
            await agent.reached.wait()
    agent.stop_at = None
    async with process(store_factory, {"a": agent}) as last:
        assert (await last.harness.wait("r")).state == "completed"
        assert agent.starts == ["run", *["resume"] * 5]


async def test_abandoned_run_is_failed_by_the_next_run_of_its_thread(store_factory):
    """A client runs on the thread after the process died and before any recovery."""
    gate = Gate(text_message("m1", "so far"))
    async with process(store_factory, {"a": gate}) as one:
        asyncio.ensure_future(one.harness.run("hi", thread_id="t", run_id="r")).add_done_callback(ignore_result)
        await gate.reached.wait()
        await one.crash()
    async with process(store_factory, {"a": hello}, recovery=Recovery(enabled=False)) as two:
        await collect(await two.runner.run(two.harness.agents["a"], make_input("t", "r2", ["more"])))
        assert (await two.harness.wait("r2")).state == "completed"
        record = await two.harness.run_record("r")
        assert record.state == "failed"
        assert "another run" in record.error


async def test_run_with_a_pending_attempt_is_cancelled(store_factory):
    agent = Asking()
    async with process(store_factory, {"a": agent}) as one:
        await one.harness.run("hi", thread_id="t", run_id="r")
        one.store.dies_at, one.store.writes_last = one.store.writes + 1, True
        with pytest.raises(Exception):  # noqa: B017, PT011
            await one.harness.resume(thread_id="t", decision="approve")
        await one.crash()
    async with process(store_factory, {"a": agent}, recovery=Recovery(enabled=False)) as two:
        assert (await two.harness.run_record("r")).state == "resuming"
        assert await two.harness.cancel("r")
        assert await two.store.record("intent", thread_key("t", "r")) is None
    async with process(store_factory, {"a": agent}) as three:
        assert three.harness.recovered.resumed == []
        assert agent.answered == []


async def test_unreadable_record_does_not_harm_the_others(store_factory):
    async with process(store_factory, {"a": hello}) as one:
        for run in ("r1", "r2", "r3", "r4"):
            await one.harness.run("hi", thread_id=run, run_id=run)
        for run, value in (("r1", b'{"v":3,"anything":"else"}'), ("r2", b'{"v":1}'), ("r3", b"no json")):
            key = thread_key(run, run)
            await one.store.write([Change("run", key, run, value)])
            await one.store.write([Change("active", key, run, b'{"v":1,"state":"running","owner":""}')])
        with pytest.raises(RecordTooNew, match="newer version"):
            await one.harness.run_record("r1")
        for run in ("r2", "r3"):
            with pytest.raises(RecordDamaged, match=f"'{run}/.*' is damaged"):
                await one.harness.run_record(run)
        assert [run.run_id for run in await one.harness.runs()] == ["r4"]
        await one.store.write([Change("active", "bad", "bad", b"[]")])
    async with process(store_factory, {"a": hello}) as two:
        assert (await two.harness.run("hi", thread_id="r4")).state == "completed"
        with pytest.raises(RecordDamaged):
            await two.harness.run("hi", thread_id="r2")


def test_options_are_checked():
    for wrong in (0, True, "3"):
        with pytest.raises(ValueError, match="max_attempts"):
            Recovery(max_attempts=wrong)
