"""Harness runs from the outside: records, refusals, cancelled callers, closing."""

from __future__ import annotations

import asyncio

import pytest

from agentrunner import RunAlreadyExists, ThreadAlreadyRunning, ThreadNotFound
from agentrunner.harness import Harness, RunNotFound
from support.agents import Gate, agent_with
from support.events import text_message

hello = agent_with(*text_message("m1", "Hel", "lo"))


async def test_run_has_a_record(runner):
    async with Harness(runner, {"a": hello}) as harness:
        result = await harness.run("hi", thread_id="t")
        record = await harness.run_record(result.run_id)
        assert (record.state, record.agent, record.thread_id, record.attempts) == ("completed", "a", "t", 1)
        assert [run.run_id for run in await harness.runs()] == [result.run_id]
        assert await harness.runs("t", state="failed") == []
        assert await harness.wait(result.run_id) == result
        with pytest.raises(RunNotFound):
            await harness.run_record("other")
        with pytest.raises(RunNotFound):
            await harness.cancel("other")


async def test_refusals_of_the_runner_are_raised(runner):
    gate = Gate()
    async with Harness(runner, {"a": gate, "b": hello}) as harness:
        running = asyncio.ensure_future(harness.run("hi", agent="a", thread_id="t", scope="me"))
        await gate.reached.wait()
        with pytest.raises(ThreadAlreadyRunning):
            await harness.run("hi", agent="b", thread_id="t", scope="me")
        with pytest.raises(ThreadNotFound):
            await harness.run("hi", agent="b", thread_id="t", scope="you")
        gate.open()
        result = await running
        with pytest.raises(RunAlreadyExists):
            await harness.run("hi", agent="b", thread_id="t2", run_id=result.run_id)
        assert len(await harness.runs()) == 1


async def test_run_continues_when_its_caller_is_cancelled(runner):
    gate = Gate((), text_message("m", "still here"))
    async with Harness(runner, {"a": gate}) as harness:
        running = asyncio.ensure_future(harness.run("hi", run_id="r"))
        await gate.reached.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        gate.open()
        assert (await harness.wait("r")).content == "still here"


async def test_closed_harness_ends_its_runs_and_takes_no_more(runner):
    gate = Gate(text_message("m", "so far"))
    async with Harness(runner, {"a": gate}, max_concurrent_runs=1) as harness:
        running = asyncio.ensure_future(harness.run("hi", run_id="r"))
        waiting = asyncio.ensure_future(harness.run("hi", run_id="r2"))
        await gate.reached.wait()
        while len(await harness.runs()) < 2:
            await asyncio.sleep(0.001)
    for result in await asyncio.gather(running, waiting):
        assert (result.state, result.error) == ("failed", "The run was interrupted: its process was told to end")
    async with Harness(runner, {"a": hello}, max_concurrent_runs=1) as harness:
        assert harness.recovered.failed == []
        assert {run.state for run in await harness.runs()} == {"failed"}
        assert (await harness.run("hi")).state == "completed"


def test_options_are_checked(memory_factory):
    runner = memory_factory()
    for wrong in ({"max_concurrent_runs": 0}, {"max_concurrent_runs": True}, {"max_concurrent_runs": "2"}):
        with pytest.raises(ValueError, match="max_concurrent_runs"):
            Harness(runner, {"a": hello}, **wrong)
    with pytest.raises(ValueError, match="at least one"):
        Harness(runner, {})
