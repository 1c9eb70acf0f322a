"""Approvals for tests of the harness."""

from __future__ import annotations

from support.inputs import make_input
from support.streams import collect

APPROVED = {"approved": True}


async def run_to_refusal(harness, thread, run="again", **fields):
    """Run as a stock client does; raise what the agent's run was refused with."""
    agent = harness.agents["a"].clone()
    stream = await harness.runner.run(agent, make_input(thread, run, **fields))
    (event,) = await collect(stream)
    assert event["type"] == "RUN_ERROR"
    assert agent.refusal is not None
    assert event["code"] == agent.refusal.code
    assert event["message"] == str(agent.refusal)
    raise agent.refusal
