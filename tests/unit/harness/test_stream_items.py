"""The items of a run: streamed, or passed to listeners by kind."""

from __future__ import annotations

import asyncio

from agentrunner.harness import Harness, StreamItem
from support.agents import Gate, agent_with
from support.events import text_message, tool_call


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


async def test_listeners_of_a_run_get_their_kind_of_item(runner):
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
