"""Runs of a harness whose process is alive, but loses its thread or its store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import LeaseLost
from agentrunner.harness import Harness
from support.events import run_finished, run_started, tool_call
from support.harness import Steps, interrupt, process, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ag_ui.core import RunAgentInput

pytestmark = [
    pytest.mark.fault("A6"),
    pytest.mark.parametrize("store_factory", ["memory"], indirect=True),
]


class Payer:
    """An agent that pays once it may, and then waits."""

    def __init__(self) -> None:
        self.payments = 0
        self.release = asyncio.Event()

    async def run(self, input: RunAgentInput) -> AsyncIterator[Any]:
        yield run_started(input.thread_id, input.run_id)
        if input.resume:
            self.payments += 1
            await self.release.wait()
            yield run_finished(input.thread_id, input.run_id)
            return
        for event in tool_call("c1", "pay"):
            yield event
        yield run_finished(
            input.thread_id, input.run_id, outcome={"type": "interrupt", "interrupts": [interrupt("i1", "c1")]}
        )


async def approve(harness: Harness) -> asyncio.Task[Any]:
    waiting = await harness.run("pay", thread_id="t", run_id="r")
    return asyncio.create_task(harness.decide(waiting.approvals[0].approval_id, "approve"))


async def test_an_approved_tool_does_not_run_again_after_its_lease_was_lost(store_factory):
    payer = Payer()
    async with process(store_factory, {"a": payer}) as one:
        deciding = await approve(one.harness)
        await until(lambda: payer.payments == 1)
        driver = one.runner.driver("t")
        driver.fail(LeaseLost("another owner took over"))
        await one.store.inner.finish(driver.claim, driver.recorder, False)
        result = await deciding
        assert (result.state, "another owner" in result.error) == ("failed", True)
        await one.harness.recover()
        assert payer.payments == 1


async def test_an_approved_tool_does_not_run_again_after_its_store_was_away(store_factory):
    payer = Payer()
    async with process(store_factory, {"a": payer}) as one:
        deciding = await approve(one.harness)
        await until(lambda: payer.payments == 1)
        one.store.dead = True
        payer.release.set()
        await asyncio.wait([deciding])
        one.store.dead = False
        await until(lambda: one.runner.driver("t") is None)
        while not await one.runner.recover("t"):
            await asyncio.sleep(0.01)
        await one.harness.recover()
        result = await one.harness.wait("r")
        assert (result.state, "store could not be reached" in result.error) == ("failed", True)
        assert payer.payments == 1


async def test_an_agent_with_checkpoints_continues_after_its_lease_was_lost(store_factory):
    agent = Steps()
    agent.stop_at = 1
    async with process(store_factory, {"a": agent}) as one:
        running = asyncio.create_task(one.harness.run("hi", thread_id="t", run_id="r"))
        await agent.reached.wait()
        agent.stop_at = None
        driver = one.runner.driver("t")
        driver.fail(LeaseLost("another owner took over"))
        await one.store.inner.finish(driver.claim, driver.recorder, False)
        await running
        await one.harness.recover()
        assert (await one.harness.wait("r")).state == "completed"
        assert (agent.done, agent.starts) == ([0, 1, 2], ["run", "resume"])
