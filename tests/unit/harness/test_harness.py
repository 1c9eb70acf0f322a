"""Harness runs from the outside: records, refusals, cancelled callers, closing."""

from __future__ import annotations

import asyncio

import pytest

from agentrunner import InvalidInput, Retention, RunAlreadyExists, ThreadAlreadyRunning, ThreadNotFound
from agentrunner.harness import Harness, RecordRetention, Recovery, Router, RunNotFound
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
            await harness.run("hi", agent="b", thread_id="t", run_id=result.run_id, scope="me")
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


@pytest.mark.parametrize("value", [0, True, "2"])
def test_max_concurrent_runs_is_checked(memory_factory, value):
    with pytest.raises(ValueError, match="max_concurrent_runs must be a positive integer"):
        Harness(memory_factory(), {"a": hello}, max_concurrent_runs=value)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("retention", 5),
        ("retention", Retention(max_runs=1)),
        ("recovery", None),
        ("recovery", True),
        ("router", "a"),
        ("policy", 5),
        ("policy", True),
        ("name", ""),
        ("name", 5),
        ("name", None),
        ("name", "\ud800"),
        ("name", "a\0b"),
        ("name", "n" * 2000),
    ],
)
def test_options_are_checked(memory_factory, option, value):
    with pytest.raises(ValueError, match=f"^{option} (must|can)"):
        Harness(memory_factory(), {"a": hello}, **{option: value})


@pytest.mark.parametrize(
    ("agents", "reason"),
    [
        ({}, "at least one"),
        ({"a": 5}, "agent 'a' must be a function of the input, or an object"),
        ({"a": hello, "b": None}, "agent 'b'"),
        ({"": hello}, "the name of an agent"),
        ({5: hello}, "the name of an agent"),
        ([hello], "must be a mapping"),
        (hello, "must be a mapping"),
    ],
)
def test_agents_are_checked(memory_factory, agents, reason):
    with pytest.raises(ValueError, match=reason):
        Harness(memory_factory(), agents)


@pytest.mark.parametrize(
    ("options", "fields"),
    [
        (RecordRetention, {"max_age": "5"}),
        (RecordRetention, {"max_age": -1}),
        (RecordRetention, {"max_age": float("nan")}),
        (RecordRetention, {"max_count": True}),
        (RecordRetention, {"max_count": 0}),
        (Recovery, {"enabled": "no"}),
        (Recovery, {"resume_on_startup": None}),
        (Recovery, {"max_attempts": 0}),
        (Router, {"rule": "a"}),
        (Router, {"choose": 5}),
        (Router, {"default": ["a"]}),
    ],
)
def test_groups_of_options_are_checked(options, fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        options(**fields)


async def test_queries_name_the_states(runner):
    async with Harness(runner, {"a": hello}) as harness:
        for wrong in ("x", "waiting_for_approval", ["open"]):
            with pytest.raises(InvalidInput, match="the state of an approval must be one of open, expired, "):
                await harness.approvals(state=wrong)
        for wrong in ("x", "open", ["failed"]):
            with pytest.raises(InvalidInput, match="the state of a harness run must be one of queued, running, "):
                await harness.runs(state=wrong)
        assert await harness.approvals(state=None) == await harness.approvals(state="expired") == []
