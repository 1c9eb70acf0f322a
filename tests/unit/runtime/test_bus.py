"""The event bus never waits; a slow subscriber learns how many events it missed."""

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
from support.scripted_model import ScriptedModel, call_tools, collect_run, reply


def make_event(number: int) -> RuntimeEvent:
    return RuntimeEvent("s", "r", {"type": "CUSTOM", "value": number})


@given(st.integers(1, 5), st.lists(st.integers(0, 8), max_size=8))
def test_a_slow_subscriber_learns_how_many_events_it_missed(capacity: int, bursts: list[int]) -> None:
    """Read one event between two bursts, and all the remaining events at the end."""

    async def check() -> None:
        bus = EventBus(capacity)
        subscriber = bus.subscribe()
        published, seen = 0, 0

        async def read() -> None:
            nonlocal seen
            next_event = await anext(subscriber)
            if isinstance(next_event, Missed):
                assert published - seen > capacity
                seen += next_event.count
                assert seen == published - capacity
            else:
                assert next_event == make_event(seen)
                seen += 1

        for burst in bursts:
            for _ in range(burst):
                bus.publish(make_event(published))
                published += 1
            if seen < published:
                await read()
        bus.close()
        while seen < published:
            await read()
        with pytest.raises(StopAsyncIteration):
            await anext(subscriber)

    run_async(check())


async def test_subscribers_wait_for_the_next_event() -> None:
    bus = EventBus()
    bus.publish(make_event(0))
    subscribers = [asyncio.ensure_future(anext(bus.subscribe())) for _ in range(3)]
    await asyncio.sleep(0)
    subscribers[0].cancel()
    await asyncio.sleep(0)
    bus.publish(make_event(1))
    assert await subscribers[1] == await subscribers[2] == make_event(1)


async def test_the_bus_shows_a_runs_events_and_checkpoints() -> None:
    runtime = AgentRuntime(ScriptedModel(call_tools(("c", "look", {})), reply("done")), tools=[look])
    subscriber = runtime.subscribe_events()
    async with InMemoryAgentRunner() as runner:
        events = await collect_run(runner, runtime, make_input("t1", "r1", ["go"]))
    await runtime.aclose()
    published = [event async for event in subscriber if isinstance(event, RuntimeEvent)]
    assert {(event.session_id, event.run_id) for event in published} == {("t1", "r1")}
    assert [event.event["type"] for event in published if event.event["type"] != "checkpoint"] == [
        e["type"] for e in events
    ]
    assert [event.event["step"] for event in published if event.event["type"] == "checkpoint"] == [
        "after_user_input", "before_llm", "before_tool_calls", "after_tool_calls", "before_llm",
    ]  # fmt: skip


def look() -> str:
    return "seen"
