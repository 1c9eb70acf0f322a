"""Runs that an agent starts share its slot, and never wait for themselves."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars

import pytest

from agentrunner import AgentRunner, CircularWait
from agentrunner.harness import Harness
from agentrunner.harness.slots import MAX_NESTED_RUNS
from agentrunner.stores.urls import store_from_url
from support.agents import Gate, agent_with
from support.events import run_finished, run_started, text_message
from support.harness import until
from support.inputs import make_input
from support.streams import collect

pytestmark = pytest.mark.fault("A8")

hello = agent_with(*text_message("m", "hello"))


def calling(function, results):
    """Return an agent that appends the result or the error of `function(input)` to `results`."""

    async def agent(input):
        yield run_started(input.thread_id, input.run_id)
        try:
            results.append(await function(input))
        except Exception as error:  # noqa: BLE001 - the test looks at it
            results.append(error)
        yield run_finished(input.thread_id, input.run_id)

    return agent


async def test_child_shares_the_slot_of_its_parent(runner):
    results = []
    agents = {"hello": hello, "parent": calling(lambda _: harness.run("hi", agent="hello"), results)}
    async with Harness(runner, agents, max_concurrent_runs=1) as harness:
        assert (await harness.run("hi", agent="parent")).state == "completed"
        assert [result.content for result in results] == ["hello"]
        assert (await harness.run("hi", agent="hello")).state == "completed"


async def test_children_in_tasks_and_grandchildren_share_it_too(memory_factory):
    results = []

    async def start_two(_):
        return await asyncio.gather(*(asyncio.create_task(harness.run("hi", agent="middle")) for _ in range(2)))

    async def start_in_thread(_):
        loop = asyncio.get_running_loop()
        return await asyncio.to_thread(
            lambda: asyncio.run_coroutine_threadsafe(harness.run("hi", agent="hello"), loop).result()
        )

    async def middle(input):
        # Through a plain run of the runner.
        await collect(
            await runner.run(calling(start_in_thread, results), make_input("on-" + input.run_id, "in-" + input.run_id))
        )
        yield run_finished(input.thread_id, input.run_id)

    runner = memory_factory()
    agents = {"hello": hello, "middle": middle, "parent": calling(start_two, results)}
    async with Harness(runner, agents, max_concurrent_runs=1) as harness:
        assert (await harness.run("hi", agent="parent")).state == "completed"
        assert [result.content for result in results[:2]] == ["hello", "hello"]


async def test_child_in_another_harness_on_the_same_slots_shares_it(location):
    results = []
    async with AgentRunner(store_from_url(location)) as one, AgentRunner(store_from_url(location)) as two:  # noqa: SIM117
        async with Harness(two, {"hello": hello}, max_concurrent_runs=1) as second:
            parent = calling(lambda _: second.run("hi"), results)
            async with Harness(one, {"parent": parent}, max_concurrent_runs=1) as first:
                assert (await first.run("hi")).state == "completed"
                assert [result.content for result in results] == ["hello"]


async def test_slot_is_taken_until_the_last_of_the_family_ends(memory_factory):
    gate, tasks, order = Gate(), [], []

    async def stranger(input):
        order.append("stranger")
        yield run_finished(input.thread_id, input.run_id)

    async def start_in_background(_):
        tasks.append(asyncio.create_task(harness.run("hi", agent="slow")))
        await gate.reached.wait()

    async def slow(input):
        async for event in gate.run(input):
            yield event
        order.append("child")

    agents = {"slow": slow, "stranger": stranger, "parent": calling(start_in_background, [])}
    async with Harness(memory_factory(), agents, max_concurrent_runs=1) as harness:
        assert (await harness.run("hi", agent="parent")).state == "completed"
        waiting = asyncio.create_task(harness.run("hi", agent="stranger", run_id="s"))
        while "s" not in [run.run_id for run in await harness.runs(state="queued")]:
            await asyncio.sleep(0.001)
        gate.open()
        await asyncio.gather(waiting, *tasks)
        assert order == ["child", "stranger"]


async def test_run_that_outlives_its_starter_takes_its_own_slot(memory_factory):
    tasks, go, began = [], asyncio.Event(), []

    async def start_late(_):
        async def later():
            await go.wait()
            return await harness.run("hi", agent="hello", run_id="late")

        tasks.append(asyncio.create_task(later()))

    gate = Gate()

    async def slow(input):
        began.append(input.run_id)
        async for event in gate.run(input):
            yield event

    agents = {"hello": hello, "slow": slow, "parent": calling(start_late, [])}
    async with Harness(memory_factory(), agents, max_concurrent_runs=1) as harness:
        await harness.run("hi", agent="parent")
        other = asyncio.create_task(harness.run("hi", agent="slow"))
        await until(lambda: bool(began))
        go.set()
        while "late" not in [run.run_id for run in await harness.runs(state="queued")]:
            await asyncio.sleep(0.001)
        gate.open()
        await asyncio.gather(other, *tasks)


async def test_agent_that_calls_itself_for_ever_is_refused(memory_factory):
    results = []
    agents = {"a": calling(lambda _: harness.run("hi"), results)}
    async with Harness(memory_factory(), agents, max_concurrent_runs=1) as harness:
        assert (await harness.run("hi")).state == "completed"
        assert len(results) == MAX_NESTED_RUNS
        assert "let one of them end first" in str(results[0])


async def test_listener_that_starts_runs_is_no_child_of_the_run_it_hears_of(memory_factory):
    gate, started = Gate(), []
    runner = memory_factory()

    async def slow(input):
        async for event in gate.run(input):
            yield event

    async def on_event(event):
        if event.type == "run.created" and event.run_id == "first":
            started.append(asyncio.create_task(harness.run("hi", agent="hello", run_id="second")))

    async with Harness(runner, {"hello": hello, "slow": slow}, max_concurrent_runs=1) as harness:
        harness.subscribe(on_event)
        first = asyncio.create_task(harness.run("hi", agent="slow", run_id="first"))
        while "second" not in [run.run_id for run in await harness.runs(state="queued")]:
            await asyncio.sleep(0.001)
        gate.open()
        await asyncio.gather(first, *started)


@pytest.mark.parametrize("policy", ["enqueue", "supersede"])
async def test_run_on_its_own_thread_is_refused_at_once(memory_factory, policy):
    results = []
    runner = memory_factory(on_concurrent_run=policy)

    async def start_on_first(_):
        return await runner.run(hello, make_input("t", "again"))

    async def start_between(_):
        return await collect(await runner.run(calling(start_on_first, results), make_input("u", "between")))

    agent = calling(start_between, results)
    waiting = None
    async for _ in runner.run(agent, make_input("t", "r")):
        if policy == "enqueue" and waiting is None:
            # A stranger that holds the thread's turn must not keep the refusal waiting.
            waiting = asyncio.create_task(collect(runner.run(hello, make_input("t", "stranger"))))
    if waiting is not None:
        await waiting
    error = results[0]
    assert isinstance(error, CircularWait)
    assert "'r' of thread 't'" in str(error)
    await collect(await runner.run(hello, make_input("t", "next")))


async def test_runs_that_wait_for_each_other_are_refused(memory_factory):
    runner = memory_factory(on_concurrent_run="enqueue")
    results, both = [], asyncio.Barrier(2)

    def on_other(thread_id):
        async def start(_):
            await both.wait()
            return await collect(await runner.run(hello, make_input(thread_id, "child-" + thread_id)))

        return calling(start, results)

    await asyncio.gather(
        collect(await runner.run(on_other("u"), make_input("t", "r1"))),
        collect(await runner.run(on_other("t"), make_input("u", "r2"))),
    )
    assert [type(result) is CircularWait for result in results].count(True) == 1


async def test_follow_up_in_a_context_of_its_own_waits_for_the_run(memory_factory):
    runner = memory_factory(on_concurrent_run="enqueue")
    tasks = []

    async def plan_follow_up(_):
        follow_up = collect(runner.run(hello, make_input("t", "next")))
        tasks.append(asyncio.get_running_loop().create_task(follow_up, context=contextvars.Context()))

    await collect(await runner.run(calling(plan_follow_up, []), make_input("t", "r")))
    assert (await tasks[0])[-1]["type"] == "RUN_FINISHED"


async def test_decision_that_would_wait_for_its_own_run_is_refused(memory_factory):
    results = []

    async def decide_again(input):
        return await harness.decide("ask/i1", "approve")

    async def agent(input):
        yield run_started(input.thread_id, input.run_id)
        if input.resume:
            with contextlib.suppress(CircularWait):
                results.append("waits")
                await decide_again(input)
            results.append("refused")
            yield run_finished(input.thread_id, input.run_id)
        else:
            asking = {"type": "interrupt", "interrupts": [{"id": "i1", "reason": "confirmation"}]}
            yield run_finished(input.thread_id, input.run_id, outcome=asking)

    async with Harness(memory_factory(), {"a": agent}) as harness:
        await harness.run("hi", run_id="ask")
        assert (await harness.decide("ask/i1", "approve")).state == "completed"
        assert results == ["waits", "refused"]
