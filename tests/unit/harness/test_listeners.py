"""Streams and listeners of a harness run."""

from __future__ import annotations

import asyncio

from agentrunner.harness import Harness, StreamItem
from support.agents import Gate, agent_with
from support.events import text_message, tool_call
from support.harness import until

hello = agent_with(*text_message("m1", "Hel", "lo"))


async def test_stream_events_yields_all_kinds_in_order(runner):
    events = [
        {"type": "STEP_STARTED", "stepName": "think"},
        {"type": "REASONING_MESSAGE_START", "messageId": "th", "role": "reasoning"},
        {"type": "REASONING_MESSAGE_CONTENT", "messageId": "th", "delta": "hm"},
        {"type": "REASONING_MESSAGE_END", "messageId": "th"},
        {"type": "STEP_FINISHED", "stepName": "think"},
        *tool_call("c1", "look", "{}", result="sunny"),
        *text_message("m1", "It is ", "sunny."),
    ]
    async with Harness(runner, {"a": agent_with(*events)}) as harness:
        items = [item async for item in harness.stream_events("hi", run_id="r")]
        assert [(item.kind, item.text) for item in items if item.kind != "lifecycle"] == [
            ("step", "think"),
            ("reasoning", "hm"),
            ("step", "think"),
            ("tool_result", "sunny"),
            ("content", "It is "),
            ("content", "sunny."),
        ]
        assert [item.event.type for item in items if item.kind == "lifecycle"] == [
            "run.created", "run.state.changed", "run.state.changed",
        ]  # fmt: skip
        assert [item.kind for item in items][:2] == ["lifecycle"] * 2
        assert items[-1].event.data["state"] == "completed"
        assert {item.run_id for item in items} == {"r"}


async def test_leaving_a_stream_does_not_stop_the_run(runner):
    gate = Gate(text_message("m1", "a"), text_message("m2", "b"))
    async with Harness(runner, {"a": gate}) as harness:
        stream = harness.stream_events("hi", run_id="r")
        async for item in stream:
            if item.kind == "content":
                break
        await stream.aclose()
        gate.open()
        assert (await harness.wait("r")).content == "ab"


async def test_listeners_are_told_their_kind(runner):
    seen: dict[str, list[str]] = {"content": [], "lifecycle": [], "tool_result": []}

    async def on_content(item: StreamItem) -> None:
        await asyncio.sleep(0)
        seen["content"].append(item.text)

    def failing(item: StreamItem) -> None:
        raise ValueError("not for me")

    listeners = {
        "content": [failing, on_content],
        "tool_result": lambda item: seen["tool_result"].append(item.text),
        "lifecycle": lambda item: seen["lifecycle"].append(item.event.type),
    }
    agent = agent_with(*tool_call("c1", "look", "{}", result="sunny"), *text_message("m1", "a", "b"))
    async with Harness(runner, {"a": agent}) as harness:
        result = await harness.run("hi", listeners=listeners)
        assert result.content == "ab"
        assert seen == {
            "content": ["a", "b"],
            "tool_result": ["sunny"],
            "lifecycle": ["run.created", "run.state.changed", "run.state.changed"],
        }


async def test_no_listener_harms_a_run(memory_factory, caplog):
    runner = memory_factory()
    stuck = asyncio.Event()
    heard = []

    async def slow(event):
        await stuck.wait()

    def failing(event):
        raise RuntimeError("listener is broken")

    async with Harness(runner, {"a": hello}) as harness:
        slow_one = harness.subscribe(slow)
        harness.subscribe(failing)
        with harness.subscribe(heard.append):
            assert (await harness.run("hi")).state == "completed"
            await until(lambda: len(heard) == 5)
        await harness.run("hi")
        assert len(heard) == 5
        assert slow_one.missed == 0
        slow_one.close()
    assert "listener is broken" in caplog.text


async def test_a_listener_that_is_too_slow_misses_the_oldest(memory_factory, monkeypatch):
    monkeypatch.setattr("agentrunner.harness.listeners.BACKLOG_EVENTS", 3)
    runner = memory_factory()
    gate, heard = asyncio.Event(), []

    async def slow(event):
        await gate.wait()
        heard.append(event.seq)

    async with Harness(runner, {"a": agent_with(*text_message("m", *"abcdefgh"))}) as harness:
        subscription = harness.subscribe(slow)
        await harness.run("hi")
        gate.set()
        await harness._state.bus.drain()
        assert subscription.missed > 0
        assert heard[-3:] == [9, 10, 11]
        assert subscription.missed + len(heard) == 11
