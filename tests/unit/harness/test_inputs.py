"""The agent's input: what the caller passed, and the thread's messages."""

from __future__ import annotations

import asyncio

import pytest
from ag_ui.core import UserMessage

from agentrunner import InvalidInput
from agentrunner.harness import AgentNotFound, Harness
from support.agents import Gate, agent_with
from support.events import run_finished, run_started, text_message
from support.inputs import make_input

hello = agent_with(*text_message("m1", "Hel", "lo"))


async def test_agent_gets_earlier_messages(runner):
    seen = []

    async def agent(input):
        seen.append(input)
        yield run_started(input.thread_id, input.run_id)
        for event in text_message(f"m-{input.run_id}", "Yes."):
            yield event
        yield {"type": "STATE_SNAPSHOT", "snapshot": {"n": len(seen)}}
        yield run_finished(input.thread_id, input.run_id)

    async with Harness(runner, {"a": agent}) as harness:
        await harness.run("One?", thread_id="t", run_id="r1")
        await harness.run([{"id": "u2", "role": "user", "content": "Two?"}], thread_id="t", run_id="r2")
        answer = {"id": "m-r2", "role": "assistant", "content": "Yes."}
        window = [{"id": "u2", "role": "user", "content": "Two?"}, answer, "Three?"]
        await harness.run(make_input("t", "r3", window, state={"mine": 1}))
        assert [[m.content for m in each.messages] for each in seen] == [
            ["One?"],
            ["One?", "Yes.", "Two?"],
            ["One?", "Yes.", "Two?", "Yes.", "Three?"],
        ]
        assert [each.state for each in seen] == [{}, {"n": 1}, {"mine": 1}]
        messages = await runner.threads.messages("t")
        assert [m["content"] for m in messages] == ["One?", "Yes.", "Two?", "Yes.", "Three?", "Yes."]


async def test_agent_gets_messages_from_while_it_was_queued(runner_factory):
    runner = runner_factory(on_concurrent_run="enqueue")
    gate, seen = Gate((), text_message("m1", "First.")), []

    async def second(input):
        seen.append([m.content for m in input.messages])
        yield run_started(input.thread_id, input.run_id)
        yield run_finished(input.thread_id, input.run_id)

    async with Harness(runner, {"gate": gate, "second": second}) as harness:
        first = asyncio.ensure_future(harness.run("1", agent="gate", thread_id="t"))
        await gate.reached.wait()
        after = asyncio.ensure_future(harness.run("2", agent="second", thread_id="t"))
        await asyncio.sleep(0)
        gate.open()
        await asyncio.gather(first, after)
        assert seen == [["1", "First.", "2"]]


async def test_invalid_input_starts_nothing(memory_factory):
    runner = memory_factory()
    async with Harness(runner, {"a": hello, "b": hello}) as harness:
        for wrong in ([{"role": "user"}], {"threadId": 5}, make_input(thread="t", messages=[{"id": "x"}])):
            with pytest.raises(InvalidInput):
                await harness.run(wrong, agent="a")
        with pytest.raises(InvalidInput):
            await harness.run(make_input("t", "r"), agent="a", thread_id="other")
        with pytest.raises(AgentNotFound):
            await harness.run("hi")
        with pytest.raises(AgentNotFound):
            await harness.run("hi", agent="c")
        assert await harness.runs() == []
        assert await runner.threads.list() == []


@pytest.mark.parametrize("wrong", [None, 5, b"hi", object(), UserMessage(id="u", role="user", content="hi")])
async def test_input_of_another_type_is_refused(runner, wrong):
    async with Harness(runner, {"a": hello}) as harness:
        with pytest.raises(InvalidInput, match=f"must be a string, a list .*, not {type(wrong).__name__}$"):
            await harness.run(wrong)
        with pytest.raises(InvalidInput):
            async for _ in harness.stream_events(wrong):
                pass
        assert await harness.runs() == []
