"""Events of harness runs, read later or while they are live."""

from __future__ import annotations

import asyncio

from agentrunner.harness import Harness
from support.agents import Gate, agent_with
from support.events import text_message
from support.harness import drain_listeners, listen


async def test_events_are_replayed_with_their_numbers(runner):
    reasoning = [
        {"type": "REASONING_MESSAGE_START", "messageId": "th", "role": "reasoning"},
        {"type": "REASONING_MESSAGE_CONTENT", "messageId": "th", "delta": "hm"},
        {"type": "REASONING_MESSAGE_CONTENT", "messageId": "th", "delta": "m"},
        {"type": "REASONING_MESSAGE_END", "messageId": "th"},
    ]
    async with Harness(
        runner, {"a": agent_with(*reasoning, *text_message("m1", "a", "b", "c"), *text_message("m2", "d"))}
    ) as harness:
        live = listen(harness)
        result = await harness.run("hi")
        await drain_listeners(harness)
        assert [event.seq for event in live] == list(range(1, 10))
        later = await harness.events(result.run_id)
        assert [(e.seq, e.type, e.data.get("text")) for e in later] == [
            (1, "run.created", None),
            (2, "run.state.changed", None),
            (3, "reasoning.delta", "hmm"),
            (4, "output.delta", "abc"),
            (5, "output.delta", "d"),
            (9, "run.state.changed", None),
        ]
        assert [e for e in live if e.type.startswith("run.")] == [e for e in later if e.type.startswith("run.")]
        for after in range(10):
            assert await harness.events(result.run_id, after=after) == [e for e in later if e.seq > after]


async def test_events_of_a_live_run_are_replayed(runner):
    gate = Gate(text_message("m1", "so ", "far"), text_message("m2", "!"))
    async with Harness(runner, {"a": gate}) as harness:
        running = asyncio.ensure_future(harness.run("hi", run_id="r"))
        await gate.reached.wait()
        while "".join(e.data.get("text", "") for e in await harness.events("r")) != "so far":
            await asyncio.sleep(0.001)
        assert [e.seq for e in await harness.events("r")] == [1, 2, 3, 4]
        assert (await harness.run_record("r")).state == "running"
        gate.open()
        assert (await running).content == "so far!"
