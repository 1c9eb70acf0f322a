"""The bus: a listener is told all, and a slow one how much it missed; nobody waits for it."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrunner import InMemoryAgentRunner
from agentrunner.runtime import AgentRuntime, Missed, RuntimeEvent
from agentrunner.runtime.bus import EventBus
from support.inputs import make_input
from support.loops import run_async
from support.scripted_model import Script, calls, run, says


def event(number: int) -> RuntimeEvent:
    return RuntimeEvent("s", "r", {"type": "CUSTOM", "value": number})


@given(st.integers(1, 5), st.lists(st.integers(0, 8), max_size=8))
def test_what_was_missed_is_counted(capacity: int, bursts: list[int]) -> None:
    """Between two bursts a listener reads one; at the end, all that is left."""

    async def check() -> None:
        bus = EventBus(capacity)
        listener = bus.subscribe()
        said, seen = 0, 0

        async def listen() -> None:
            nonlocal seen
            one = await anext(listener)
            if isinstance(one, Missed):
                assert said - seen > capacity
                seen += one.count
                assert seen == said - capacity
            else:
                assert one == event(seen)
                seen += 1

        for burst in bursts:
            for _ in range(burst):
                bus.publish(event(said))
                said += 1
            if seen < said:
                await listen()
        bus.close()
        while seen < said:
            await listen()
        with pytest.raises(StopAsyncIteration):
            await anext(listener)

    run_async(check())


async def test_listeners_wait_for_what_comes() -> None:
    bus = EventBus()
    bus.publish(event(0))
    listeners = [asyncio.ensure_future(anext(bus.subscribe())) for _ in range(3)]
    await asyncio.sleep(0)
    listeners[0].cancel()
    await asyncio.sleep(0)
    bus.publish(event(1))
    assert await listeners[1] == await listeners[2] == event(1)


async def test_what_a_run_says_is_on_the_bus() -> None:
    runtime = AgentRuntime(Script(calls(("c", "look", {})), says("done")), tools=[look])
    listener = runtime.subscribe_events()
    async with InMemoryAgentRunner() as runner:
        events = await run(runner, runtime, make_input("t1", "r1", ["go"]))
    await runtime.aclose()
    heard = [one async for one in listener if isinstance(one, RuntimeEvent)]
    assert {(one.session_id, one.run_id) for one in heard} == {("t1", "r1")}
    assert [one.event["type"] for one in heard if one.event["type"] != "checkpoint"] == [e["type"] for e in events]
    assert [one.event["step"] for one in heard if one.event["type"] == "checkpoint"] == [
        "after_user_input", "before_llm", "before_tool_calls", "after_tool_calls", "before_llm",
    ]  # fmt: skip


def look() -> str:
    return "seen"
