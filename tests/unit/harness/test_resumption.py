"""Starts that fail: each is counted, so that the harness run ends and frees its thread."""

from __future__ import annotations

import asyncio
from unittest.mock import AsyncMock

import pytest

from agentrunner import InvalidInput, MemoryStore
from agentrunner.harness import Harness
from agentrunner.records.kinds import thread_key
from support.agents import agent_with
from support.events import run_finished, run_started, tool_call
from support.harness import Asking, ignore_result, process
from support.inputs import make_input


class Unstartable(Asking):
    """An agent that cannot be made ready any more, once it is broken."""

    broken = False

    def clone(self):
        if self.broken:
            raise LookupError("the agent's model is gone")
        return self


async def test_a_start_that_always_fails_is_counted_and_given_up(runner, monkeypatch):
    monkeypatch.setattr("agentrunner.harness.maintenance.MAINTENANCE_SECONDS", 0.01)
    agent = Unstartable()
    async with Harness(runner, {"a": agent}) as harness:
        await harness.run("hi", thread_id="t", run_id="r")
        agent.broken = True
        with pytest.raises(LookupError):
            await harness.decide("r/i1", "approve")
        async with asyncio.timeout(60):
            result = await harness.decide("r/i1", "approve")
        assert (result.state, result.error) == (
            "failed",
            "The run could not be continued, although it was tried 3 times: the agent's model is gone",
        )
        assert await (await runner.open()).record("intent", thread_key("t", "r")) is None
        agent.broken = False
        assert (await harness.run("again", thread_id="t")).state == "waiting_for_approval"


async def test_an_answer_that_an_older_version_stored_ends_the_run(store_factory, monkeypatch):
    """Version 0.1.0 stored answers that no run can be started with."""
    monkeypatch.setattr("agentrunner.harness.maintenance.MAINTENANCE_SECONDS", 0.01)
    monkeypatch.setattr("agentrunner.harness.decisions.check_next_input", AsyncMock())
    async with process(store_factory, {"a": Asking()}) as one:
        await one.harness.run("hi", thread_id="t", run_id="r")
        deep: list = []
        for _ in range(250):
            deep = [deep]
        with pytest.raises(InvalidInput):
            await one.harness.decide("r/i1", "approve", payload=deep)
        await one.crash()
    async with process(store_factory, {"a": Asking()}) as two:
        async with asyncio.timeout(60):
            result = await two.harness.wait("r")
        assert result.state == "failed"
        assert "although it was tried 3 times: a run's input is refused" in result.error


class Showing:
    """An agent that calls a tool of the client's, and calls it again when it resumes."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()

    async def run(self, input):
        yield run_started(input.thread_id, input.run_id)
        for event in tool_call("call_0", "show", "{}"):
            yield event
        self.reached.set()
        await asyncio.Event().wait()

    async def resume(self, input):
        yield run_started(input.thread_id, input.run_id)
        for event in tool_call("call_0", "show", "{}"):
            yield event
        yield run_finished(input.thread_id, input.run_id)


@pytest.mark.fault("B6")
async def test_a_call_that_a_recovered_agent_repeats_is_one_call():
    store, agent = MemoryStore(), Showing()
    tools = [{"name": "show", "description": "", "parameters": {}}]
    async with process(lambda: store, {"a": agent}) as one:
        running = asyncio.ensure_future(one.harness.run(make_input("t", "r", tools=tools)))
        running.add_done_callback(ignore_result)
        await agent.reached.wait()
        await one.crash()
    async with process(lambda: store, {"a": agent}) as two:
        assert (await two.harness.wait("r")).state == "completed"
        messages = await two.runner.threads.messages("t")
        assert [call["id"] for message in messages for call in message.get("toolCalls") or ()] == ["call_0"]


TWO_CALLS = [event for tool in ("show", "draw") for event in tool_call("call_0", tool, "{}")]


class ShowingTwice(Showing):
    """An agent that makes two calls under one id, and makes them again when it resumes."""

    async def run(self, input):
        yield run_started(input.thread_id, input.run_id)
        for event in TWO_CALLS:
            yield event
        self.reached.set()
        await asyncio.Event().wait()

    async def resume(self, input):
        yield run_started(input.thread_id, input.run_id)
        for event in TWO_CALLS:
            yield event
        for tool in ("show", "draw"):
            yield {"type": "TOOL_CALL_RESULT", "toolCallId": "call_0", "messageId": f"of {tool}", "content": tool}
        yield run_finished(input.thread_id, input.run_id)


@pytest.mark.fault("B6")
async def test_two_calls_of_one_id_that_a_recovered_agent_repeats_are_two_calls():
    store, agent = MemoryStore(), ShowingTwice()
    tools = [{"name": name, "description": "", "parameters": {}} for name in ("show", "draw")]
    async with process(lambda: store, {"a": agent}) as one:
        # A call of an earlier turn without a result is not one of them.
        await one.runner.run(agent_with(*tool_call("call_0", "old", "{}")), make_input("t", "r0"))
        running = asyncio.ensure_future(one.harness.run(make_input("t", "r", messages=["next"], tools=tools)))
        running.add_done_callback(ignore_result)
        await agent.reached.wait()
        await one.crash()
    async with process(lambda: store, {"a": agent}) as two:
        assert (await two.harness.wait("r")).state == "completed"
        messages = await two.runner.threads.messages("t")
        results = {each["toolCallId"]: each["content"] for each in messages if each["role"] == "tool"}
        calls = [call for message in messages for call in message.get("toolCalls") or ()]
        assert [(call["function"]["name"], results.get(call["id"])) for call in calls] == [
            ("old", None),
            ("show", "show"),
            ("draw", "draw"),
        ]


async def test_recovery_that_skips_a_failing_run_comes_again(memory_factory):
    async with Harness(memory_factory(), {"a": Asking()}) as harness:
        state = harness._state
        with state.mark_busy("t/r"):
            state.request_recovery()
            # Maintenance recovers now, and leaves the run alone because it is still handled here.
            state.needs_recovery = False
        assert state.needs_recovery
        state.needs_recovery = False
        with state.mark_busy("t/r"):
            pass
        assert not state.needs_recovery
