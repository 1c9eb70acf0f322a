"""Retention removes a thread's oldest runs first, and the rest stays a complete chain."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import AgentRunner, Retention
from support.agents import Gate, agent_with
from support.events import event_types, text_message
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentrunner.running.maintenance.RECOVERY_POLL_SECONDS", 0.01)
    monkeypatch.setattr("agentrunner.running.maintenance.PRUNE_INTERVAL_SECONDS", 0.01)


async def until(condition: Callable[[], Any]) -> None:
    while not await condition():
        await asyncio.sleep(0.01)


async def test_max_runs(runner_factory: Callable[..., AgentRunner]) -> None:
    runner = runner_factory(retention=Retention(max_runs=2))
    for n in range(5):
        await collect(
            await runner.run(agent_with(*text_message(f"m{n}", f"{n}")), make_input("t1", f"r{n}", [f"u{n}"]))
        )
    await collect(await runner.run(agent_with(), make_input("t2", "other")))

    async def is_pruned() -> bool:
        return (await runner.threads.get("t1")).runs == 2

    await until(is_pruned)
    events = await runner.threads.events("t1")
    assert [event.to_dict()["runId"] for event in events if event.type == "RUN_STARTED"] == ["r3", "r4"]
    messages = await runner.threads.messages("t1")
    assert [message["id"] for message in messages] == ["u3", "m3", "u4", "m4"]
    assert (await runner.threads.get("t2")).runs == 1
    # A client may send the messages of removed runs again.
    await collect(await runner.run(agent_with(), make_input("t1", "r5", ["u0", "u4", "u5"])))
    await until(is_pruned)
    assert "u0" in [message["id"] for message in await runner.threads.messages("t1")]


async def test_max_age(runner_factory: Callable[..., AgentRunner]) -> None:
    runner = runner_factory(retention=Retention(max_age=0.0))
    gate = Gate(text_message("m", "still here"))
    live = await runner.run(gate.run, make_input("t2", "live"))
    await gate.reached.wait()
    await collect(await runner.run(agent_with(), make_input("t1", "r1")))

    async def is_t1_gone() -> bool:
        return [thread.thread_id for thread in await runner.threads.list()] == ["t2"]

    await until(is_t1_gone)
    assert await collect(await runner.connect("t1")) == []
    gate.open()
    assert event_types(await collect(live))[-1] == "RUN_FINISHED"

    async def nothing_left() -> bool:
        return not await runner.threads.list()

    await until(nothing_left)
    # The ids are free again, and sequence numbers continue after the removed runs.
    stream = await runner.run(agent_with(), make_input("t2", "live"))
    assert event_types(await collect(stream)) == ["RUN_STARTED", "RUN_FINISHED"]


@pytest.mark.parametrize("wrong", [{"max_age": -1}, {"max_age": float("nan")}, {"max_runs": 0}, {"max_runs": 1.5}])
def test_an_invalid_retention_raises_value_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be a"):
        Retention(**wrong)
