"""Runs whose process is gone: gone on with, ended, left alone; and processes that end in order."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from agentrunner import AgentRunner, StoreError
from agentrunner.errors import RecordDamaged, RecordTooNew
from agentrunner.harness import Harness, Recovery, RunResult
from agentrunner.stores import Change
from support.agents import Gate, agent_with
from support.events import run_finished, run_started, text_message
from support.harness import Asking, Mortal, crash, interrupt, states, told, until
from support.inputs import make_input
from support.streams import collect

hello = agent_with(*text_message("m", "hello"))


class Process:
    """A harness over a store that may die, as a process of its own."""

    def __init__(self, store_factory, agents, **options) -> None:
        self.store = Mortal(store_factory())
        self.runner = AgentRunner(self.store)
        self.harness = Harness(self.runner, agents, **options)

    async def crash(self) -> None:
        await crash(self.harness, self.runner, self.store)


@asynccontextmanager
async def process(store_factory, agents, **options):
    """Give the harness of a process that ends in order, if it has not crashed by then."""
    one = Process(store_factory, agents, **options)
    try:
        await one.harness.open()
        yield one
    finally:
        if not one.store.dead:
            await one.harness.aclose()
            await one.runner.aclose()


class Steps:
    """An agent with checkpoints: it goes on by `resume` at the step it was at; it can be held at one."""

    def __init__(self, steps=3) -> None:
        self.steps = steps
        self.done: list[int] = []
        self.starts: list[str] = []
        self.held_at: int | None = None
        self.reached = asyncio.Event()

    async def run(self, input):
        async for event in self._go(input, "run"):
            yield event

    async def resume(self, input):
        async for event in self._go(input, "resume"):
            yield event

    async def _go(self, input, how):
        self.starts.append(how)
        yield run_started(input.thread_id, input.run_id)
        for step in range(len(self.done), self.steps):
            for event in text_message(f"{input.run_id}-{step}", f"{step} "):
                yield event
            if self.held_at == step:
                self.reached.set()
                await asyncio.Event().wait()
            self.done.append(step)
        yield run_finished(input.thread_id, input.run_id)


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


def ignored(task):
    if not task.cancelled():
        task.exception()


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
