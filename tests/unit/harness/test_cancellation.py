"""Harness runs that are cancelled or stopped."""

from __future__ import annotations

import asyncio

from agentrunner.harness import Harness
from support.agents import Gate, agent_with
from support.events import text_message
from support.harness import states, told

hello = agent_with(*text_message("m1", "Hel", "lo"))


async def test_a_run_is_cancelled(runner):
    gate = Gate(text_message("m1", "so far"))
    async with Harness(runner, {"a": gate}) as harness:
        seen = told(harness)
        running = asyncio.ensure_future(harness.run("hi", run_id="r"))
        await gate.reached.wait()
        assert await harness.cancel("r")
        result = await running
        assert (result.state, result.content) == ("cancelled", "so far")
        assert gate.cancelled
        assert not await harness.cancel("r")
        await harness._state.bus.drain()
        assert states(seen) == ["running", "cancelled"]
        assert (await harness.run_record("r")).state == "cancelled"


async def test_a_run_stopped_before_it_began_is_not_lost(memory_factory):
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
