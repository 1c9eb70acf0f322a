"""A runner recovers threads of dead processes with few requests to its store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agentrunner import AgentRunner, ThreadAlreadyRunning
from support.agents import Gate, agent_with
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Callable


async def test_many_refused_runs_each_claim_once(runner_factory: Callable[..., AgentRunner]) -> None:
    runner = runner_factory()
    store = await runner.open()
    gate = Gate()
    live = [await runner.run(gate, make_input(f"busy{n}", f"run{n}")) for n in range(10)]
    claim, claims = store.claim, 0

    async def claim_and_count(*arguments: Any) -> Any:
        nonlocal claims
        claims += 1
        return await claim(*arguments)

    store.claim = claim_and_count  # type: ignore[method-assign]
    refused = await asyncio.gather(
        *(runner.run(agent_with(), make_input(f"busy{n}", f"late{n}")) for n in range(10)), return_exceptions=True
    )
    assert [type(error) for error in refused] == [ThreadAlreadyRunning] * 10
    assert claims == 10
    gate.open()
    for stream in live:
        await collect(stream)
