"""A draining runner lets its live runs end and refuses new ones."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import RunnerClosed
from support.agents import Gate, agent_with
from support.events import event_types, text_message
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from agentrunner import AgentRunner


async def test_a_run_whose_claim_was_under_way_is_refused_and_leaves_its_thread_free(
    runner: AgentRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await runner.open()
    claim, claim_done, answered = store.claim, asyncio.Event(), asyncio.Event()

    async def slow(*arguments: Any) -> Any:
        claimed = await claim(*arguments)
        claim_done.set()
        await answered.wait()
        return claimed

    gate = Gate(text_message("m", "first"), text_message("n", "last"))
    stream = await runner.run(gate, make_input("t1", "r1"))
    await gate.reached.wait()
    monkeypatch.setattr(store, "claim", slow)
    starting = asyncio.create_task(runner.run(agent_with(), make_input("t2", "r2")))
    await claim_done.wait()
    draining = asyncio.create_task(runner.drain(20))
    while not runner.draining:
        await asyncio.sleep(0)
    answered.set()
    with pytest.raises(RunnerClosed):
        await starting
    assert [claim.thread_id for claim, _ in await store.live()] == ["t1"]
    gate.open()
    await draining
    assert event_types(await collect(stream))[-1] == "RUN_FINISHED"
