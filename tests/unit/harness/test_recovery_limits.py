"""What recovery leaves alone: runs of unknown agents, of live owners, of harnesses that closed in order."""

from __future__ import annotations

import asyncio

import pytest

from agentrunner.errors import RecordDamaged, RecordTooNew
from agentrunner.harness import Harness, Recovery
from agentrunner.stores import Change
from support.agents import Gate
from support.events import text_message
from support.harness import Asking
from support.harness_processes import Process, Steps, hello, ignored, process
from support.inputs import make_input
from support.streams import collect


async def test_unknown_agents_are_left_alone_and_reported(store_factory):
    agent = Steps()
    agent.held_at = 1
    async with process(store_factory, {"a": agent, "b": hello}) as one:
        asyncio.ensure_future(one.harness.run("hi", agent="a", run_id="r")).add_done_callback(ignored)
        await agent.reached.wait()
        await one.crash()
    async with process(store_factory, {"b": hello}) as two:
        assert two.harness.recovered.unknown_agents == {"r": "a"}
        assert (await two.harness.run_record("r")).state == "running"
    agent.held_at = None
    async with process(store_factory, {"a": agent, "b": hello}) as three:
        assert (await three.harness.wait("r")).state == "completed"


async def test_without_recovery_nothing_is_done(store_factory):
    agent = Steps()
    agent.held_at = 1
    async with process(store_factory, {"a": agent}) as one:
        asyncio.ensure_future(one.harness.run("hi", run_id="r")).add_done_callback(ignored)
        await agent.reached.wait()
        await one.crash()
    agent.held_at = None
    async with process(store_factory, {"a": agent}, recovery=Recovery(enabled=False)) as two:
        assert (await two.harness.run_record("r")).state == "running"
        assert (await two.harness.recover()).resumed == []
    async with process(store_factory, {"a": agent}, recovery=Recovery(resume_on_startup=False)) as three:
        assert three.harness.recovered.waiting == ["r"]
        assert (await three.harness.run_record("r")).state == "running"
        assert (await three.harness.recover()).resumed == ["r"]
        assert (await three.harness.wait("r")).state == "completed"


async def test_of_two_processes_that_recover_one_does(store_factory):
    agent = Steps()
    agent.held_at = 1
    async with process(store_factory, {"a": agent}) as one:
        asyncio.ensure_future(one.harness.run("hi", thread_id="t", run_id="r")).add_done_callback(ignored)
        await agent.reached.wait()
        await one.crash()
    agent.held_at = None
    # In memory two harnesses have the same runner, as two processes have the same file.
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


async def test_an_intent_whose_owner_lives_is_left_alone(store_factory):
    """A second process comes up while the first is between its decision and the thread."""
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
        # In memory another harness of this process stands for it.
        async with Harness(one.runner, {"a": agent}) as other:
            assert other.recovered.resumed == []
            assert (await other.recover()).resumed == []
            assert (await one.harness.run_record("r")).state == "resuming"
            coming.set()
            assert (await resuming).state == "completed"
        assert len(agent.answered) == 1


async def test_a_process_that_ends_in_order_leaves_its_tries_uncounted(store_factory):
    agent = Steps()
    agent.held_at = 1
    for number in range(5):
        agent.reached.clear()
        async with process(store_factory, {"a": agent}) as one:
            if not number:
                asyncio.ensure_future(one.harness.run("hi", thread_id="t", run_id="r")).add_done_callback(ignored)
            await agent.reached.wait()
    agent.held_at = None
    async with process(store_factory, {"a": agent}) as last:
        assert (await last.harness.wait("r")).state == "completed"
        assert agent.starts == ["run", *["resume"] * 5]


async def test_a_run_left_behind_makes_way_for_the_threads_next(store_factory):
    """Its process is gone, nobody has recovered it yet, and a client goes on in its thread."""
    gate = Gate(text_message("m1", "so far"))
    async with process(store_factory, {"a": gate}) as one:
        asyncio.ensure_future(one.harness.run("hi", thread_id="t", run_id="r")).add_done_callback(ignored)
        await gate.reached.wait()
        await one.crash()
    async with process(store_factory, {"a": hello}, recovery=Recovery(enabled=False)) as two:
        await collect(await two.runner.run(two.harness.agents["a"], make_input("t", "r2", ["more"])))
        assert (await two.harness.wait("r2")).state == "completed"
        record = await two.harness.run_record("r")
        assert record.state == "failed"
        assert "another run" in record.error


async def test_a_run_whose_try_is_pending_is_cancelled(store_factory):
    agent = Asking()
    async with process(store_factory, {"a": agent}) as one:
        await one.harness.run("hi", thread_id="t", run_id="r")
        one.store.dies_at, one.store.made = one.store.writes + 1, True
        with pytest.raises(Exception):  # noqa: B017, PT011
            await one.harness.resume(thread_id="t", decision="approve")
        await one.crash()
    async with process(store_factory, {"a": agent}, recovery=Recovery(enabled=False)) as two:
        assert (await two.harness.run_record("r")).state == "resuming"
        assert await two.harness.cancel("r")
        assert await two.store.record("intent", "r") is None
    async with process(store_factory, {"a": agent}) as three:
        assert three.harness.recovered.resumed == []
        assert agent.answered == []


async def test_what_cannot_be_read_costs_itself(store_factory):
    async with process(store_factory, {"a": hello}) as one:
        for run in ("r1", "r2", "r3", "r4"):
            await one.harness.run("hi", thread_id=run, run_id=run)
        for run, value in (("r1", b'{"v":3,"anything":"else"}'), ("r2", b'{"v":1}'), ("r3", b"no json")):
            await one.store.write([Change("run", run, run, value)])
            await one.store.write([Change("active", run, run, b'{"v":1,"state":"running","owner":""}')])
        with pytest.raises(RecordTooNew, match="newer version"):
            await one.harness.run_record("r1")
        for run in ("r2", "r3"):
            with pytest.raises(RecordDamaged, match=f"'{run}' is damaged"):
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
