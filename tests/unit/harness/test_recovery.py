"""Harness runs whose process died are continued, completed or ended."""

from __future__ import annotations

import asyncio

import pytest

from agentrunner import StoreError
from agentrunner.harness import Harness, RunResult
from support.agents import Gate
from support.events import text_message
from support.harness import Asking, interrupt, states, told, until
from support.harness_processes import Steps, hello, ignored, process
from support.streams import collect


async def test_a_run_without_checkpoints_is_failed(store_factory):
    gate = Gate(text_message("m1", "so ", "far"))
    async with process(store_factory, {"a": gate}) as one:
        asyncio.ensure_future(one.harness.run("hi", thread_id="t", run_id="r")).add_done_callback(ignored)
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


async def test_a_queued_run_is_failed(store_factory):
    gate = Gate()
    async with process(store_factory, {"a": gate}, max_concurrent_runs=1) as one:
        for run in ("r1", "r2"):
            asyncio.ensure_future(one.harness.run("hi", run_id=run)).add_done_callback(ignored)
            while run not in [each.run_id for each in await one.harness.runs()]:
                await asyncio.sleep(0.001)
        await gate.reached.wait()
        await one.crash()
    async with process(store_factory, {"a": hello}, max_concurrent_runs=1) as two:
        assert sorted(two.harness.recovered.failed) == ["r1", "r2"]
        # Nobody who is gone holds a slot.
        assert (await two.harness.run("hi")).state == "completed"


async def test_an_agent_with_checkpoints_goes_on(store_factory):
    agent = Steps()
    agent.held_at = 1
    async with process(store_factory, {"a": agent}) as one:
        asyncio.ensure_future(one.harness.run("hi", thread_id="t", run_id="r")).add_done_callback(ignored)
        await agent.reached.wait()
        await one.crash()
    agent.held_at = None
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
        assert await two.store.record("intent", "r") is None


async def test_it_is_given_up_after_so_many_tries(store_factory):
    agent = Steps()
    for attempt in range(1, 4):
        agent.held_at = 1
        agent.reached.clear()
        async with process(store_factory, {"a": agent}) as one:
            if attempt == 1:
                asyncio.ensure_future(one.harness.run("hi", thread_id="t", run_id="r")).add_done_callback(ignored)
            await agent.reached.wait()
            assert (await one.harness.run_record("r")).attempts == attempt
            await one.crash()
    async with process(store_factory, {"a": agent}) as last:
        assert (last.harness.recovered.failed, last.harness.recovered.resumed) == (["r"], [])
        result = await last.harness.wait("r")
        assert result.state == "failed"
        assert "3 times" in result.error
        assert len(agent.starts) == 3
        assert await last.store.record("intent", "r") is None
        final = (await last.harness.events("r"))[-1]
        assert (final.data["state"], final.data["error"]) == ("failed", result.error)
    async with process(store_factory, {"a": agent}) as after:
        assert after.harness.recovered.failed == []


@pytest.mark.parametrize("dies_at", [1, 2, 3])
@pytest.mark.parametrize("made", [False, True])
async def test_a_decision_outlives_its_process(store_factory, dies_at, made):
    """Writes from the decision on: the decision with its intent; the try; the end."""
    agent = Asking()
    async with process(store_factory, {"a": agent}) as one:
        await one.harness.run("hi", thread_id="t", run_id="r")
        one.store.dies_at, one.store.made = one.store.writes + dies_at, made
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever it is that the dead store makes of it
            raise AssertionError(await one.harness.resume(thread_id="t", decision="approve"))
        starts = len(agent.answered)
        await one.crash()
    async with process(store_factory, {"a": agent}) as two:
        approval = await two.harness.approval("r/i1")
        decided = dies_at > 1 or made
        assert approval.open != decided
        if not decided:
            assert (await two.harness.wait("r")).state == "waiting_for_approval"
            await two.harness.resume(thread_id="t", decision="approve")
        assert (await two.harness.wait("r")).state == "completed"
        # What is on record as ended is not begun again. Where its end was not written the thread may have it.
        more = len(agent.answered) - starts
        assert more == 1 if dies_at < 3 else more <= (not made)
        assert all(entry["payload"] == {"approved": True} for (entry,) in agent.answered)


async def test_a_run_that_waits_goes_on_after_a_restart(store_factory):
    agent = Asking(interrupt("i1"), interrupt("i2"))
    async with process(store_factory, {"a": agent}) as one:
        await one.harness.run("hi", thread_id="t", run_id="r")
        await one.harness.resume(approval_id="r/i1", decision="approve")
        await one.crash()
    async with process(store_factory, {"a": agent}) as two:
        seen = told(two.harness)
        assert (await two.harness.wait("r")).state == "waiting_for_approval"
        result = await two.harness.resume(thread_id="t", decision="reject")
        assert result.state == "completed"
        await two.harness._state.bus.drain()
        assert [e.data for e in seen if e.type == "run.resumed"] == [{"kind": "cross-restart", "attempt": 1}]


async def test_a_crash_between_the_question_and_the_end_of_its_run(store_factory):
    """The approval is on record, and the thread's run was cut off before it said so: it can be answered."""
    agent = Asking()
    async with process(store_factory, {"a": agent}) as one:
        write = one.store.write

        async def last(changes, claim=None):
            versions = await write(changes, claim)
            if any(change.kind == "approval" for change in changes):
                one.store.dead = True
            return versions

        one.store.write = last
        asyncio.ensure_future(one.harness.run("hi", thread_id="t", run_id="r")).add_done_callback(ignored)
        await until(lambda: one.store.dead)
        await one.crash()
    async with process(store_factory, {"a": agent}) as two:
        assert not [event for event in await collect(await two.runner.connect("t")) if "outcome" in event]
        assert (await two.harness.wait("r")).state == "waiting_for_approval"
        assert (await two.harness.resume(thread_id="t", decision="approve")).state == "completed"


async def test_a_run_that_had_ended_is_completed(store_factory):
    """Its end was stored; only the harness's record did not say so."""
    async with process(store_factory, {"a": hello}) as one:
        write = one.store.write

        async def refused(changes, claim=None):
            if any(b"completed" in (change.value or b"") for change in changes):
                raise StoreError("the disk is full")
            return await write(changes, claim)

        one.store.write = refused
        await one.harness.run("hi", thread_id="t", run_id="r")
        assert (await one.harness.run_record("r")).state == "running"
        await one.crash()
    async with process(store_factory, {"a": hello}) as two:
        assert two.harness.recovered.completed == ["r"]
        assert (await two.harness.wait("r")).content == "hello"


async def test_a_run_whose_beginning_cannot_be_written_is_refused(store_factory):
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


async def test_an_end_that_cannot_be_written_is_written_later(memory_factory):
    runner = memory_factory()
    async with Harness(runner, {"a": hello}) as harness:
        store = await runner.opened()
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
