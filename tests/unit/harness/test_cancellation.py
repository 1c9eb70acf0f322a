"""Cancelling harness runs, and removing conversations."""

from __future__ import annotations

import asyncio

import pytest

from agentrunner import ThreadNotFound
from agentrunner.harness import (
    AlreadyDecided,
    Harness,
)
from agentrunner.stores import Change
from support.agents import Gate, agent_with
from support.events import text_message
from support.harness import Asking, drain_listeners, listen, record_keys, states
from support.streams import collect

hello = agent_with(*text_message("m1", "Hel", "lo"))


async def test_waiting_run_is_cancelled(runner):
    agent = Asking()
    async with Harness(runner, {"a": agent}) as harness:
        seen = listen(harness)
        await harness.run("hi", thread_id="t", run_id="r")
        assert await harness.cancel("r")
        assert not await harness.cancel("r")
        assert (await harness.wait("r")).state == "cancelled"
        assert await harness.approvals() == []
        assert [each.approval_id for each in await harness.approvals(state="withdrawn")] == ["r/i1"]
        with pytest.raises(AlreadyDecided):
            await harness.resume(approval_id="r/i1", decision="approve")
        # Clients see in the thread that no interrupt is left to answer.
        last = (await collect(await runner.connect("t")))[-1]
        assert (last["type"], last["outcome"]) == ("RUN_FINISHED", {"type": "cancelled"})
        await drain_listeners(harness)
        assert states(seen) == ["running", "waiting_for_approval", "cancelled"]
        agent.answered.append([])
        assert (await harness.run("new", thread_id="t")).state == "completed"


async def test_live_run_is_cancelled(runner):
    gate = Gate(text_message("m1", "so far"))
    async with Harness(runner, {"a": gate}) as harness:
        seen = listen(harness)
        running = asyncio.ensure_future(harness.run("hi", run_id="r"))
        await gate.reached.wait()
        assert await harness.cancel("r")
        result = await running
        assert (result.state, result.content) == ("cancelled", "so far")
        assert gate.cancelled
        assert not await harness.cancel("r")
        await drain_listeners(harness)
        assert states(seen) == ["running", "cancelled"]
        assert (await harness.run_record("r")).state == "cancelled"


async def test_run_stopped_before_it_began_has_a_record(memory_factory):
    runner = memory_factory()
    async with Harness(runner, {"a": hello}) as harness:
        run = runner.run

        async def stopped_at_once(*arguments, **options):
            stream = await run(*arguments, **options)
            assert await runner.stop("t")
            return stream

        runner.run = stopped_at_once
        assert (await harness.run("hi", thread_id="t", run_id="r")).state == "cancelled"
        assert (await harness.run_record("r")).state == "cancelled"
        assert await harness.approvals(state=None) == []


async def test_restarted_conversation_is_removed(runner):
    agent, gate = Asking(), Gate(text_message("m", "so far"))
    async with Harness(runner, {"a": agent, "gate": gate, "b": hello}, max_concurrent_runs=1) as harness:
        store = await runner.open()
        await harness.run("hi", agent="b", thread_id="t", run_id="r0")
        await harness.run("hi", agent="a", thread_id="t", run_id="r1")
        await harness.run("hi", agent="b", thread_id="other", run_id="o")
        await store.write([Change("session", "t", "t", b"{}"), Change("session", "other", "other", b"{}")])
        await harness.restart_conversation("t")
        assert await runner.threads.messages("t") == []
        assert [run.run_id for run in await harness.runs()] == ["o"]
        assert await harness.approvals(state=None) == []
        assert await record_keys(store, "session") == ["other"]
        running = asyncio.ensure_future(harness.run("hi", agent="gate", thread_id="t", run_id="r2"))
        await gate.reached.wait()
        await harness.restart_conversation("t")
        assert (await running).state == "cancelled"
        assert await runner.threads.messages("t") == []
        assert [run.run_id for run in await harness.runs()] == ["o"]
        assert (await harness.run("new", agent="b", thread_id="t")).state == "completed"
        with pytest.raises(ThreadNotFound):
            await harness.restart_conversation("never")
