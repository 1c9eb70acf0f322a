"""Starts that fail: each is counted, so that the harness run ends and frees its thread."""

from __future__ import annotations

import asyncio
from unittest.mock import AsyncMock

import pytest

from agentrunner import InvalidInput
from agentrunner.harness import Harness
from agentrunner.records.kinds import thread_key
from support.harness import Asking, process


class Unstartable(Asking):
    """An agent that cannot be made ready any more, once it is broken."""

    broken = False

    def clone(self):
        if self.broken:
            raise LookupError("the agent's model is gone")
        return self


async def test_a_start_that_always_fails_is_counted_and_given_up(runner, monkeypatch):
    monkeypatch.setattr("agentrunner.harness.maintenance.MAINTENANCE_SECONDS", 0.01)
    agent = Unstartable()
    async with Harness(runner, {"a": agent}) as harness:
        await harness.run("hi", thread_id="t", run_id="r")
        agent.broken = True
        with pytest.raises(LookupError):
            await harness.decide("r/i1", "approve")
        async with asyncio.timeout(20):
            result = await harness.decide("r/i1", "approve")
        assert (result.state, result.error) == (
            "failed",
            "The run could not be continued, although it was tried 3 times: the agent's model is gone",
        )
        assert await (await runner.open()).record("intent", thread_key("t", "r")) is None
        agent.broken = False
        assert (await harness.run("again", thread_id="t")).state == "waiting_for_approval"


async def test_an_answer_that_an_older_version_stored_ends_the_run(store_factory, monkeypatch):
    """Version 0.1.0 stored answers that no run can be started with."""
    monkeypatch.setattr("agentrunner.harness.maintenance.MAINTENANCE_SECONDS", 0.01)
    monkeypatch.setattr("agentrunner.harness.decisions.check_next_input", AsyncMock())
    async with process(store_factory, {"a": Asking()}) as one:
        await one.harness.run("hi", thread_id="t", run_id="r")
        deep: list = []
        for _ in range(250):
            deep = [deep]
        with pytest.raises(InvalidInput):
            await one.harness.decide("r/i1", "approve", payload=deep)
        await one.crash()
    async with process(store_factory, {"a": Asking()}) as two:
        async with asyncio.timeout(20):
            result = await two.harness.wait("r")
        assert result.state == "failed"
        assert "although it was tried 3 times: a run's input is refused" in result.error
