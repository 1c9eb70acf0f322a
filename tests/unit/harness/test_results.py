"""Results: the text of the agent, or readable errors."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace

import orjson
import pytest
from ag_ui.core import (
    EventType,
    RunFinishedEvent,
    RunStartedEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
)

from agentrunner import AgentError
from agentrunner._failures import AGENT_FAILED
from agentrunner.harness import Harness, RunResult, results
from support.agents import agent_with, scripted_agent
from support.events import run_finished, run_started, text_message, tool_call
from support.harness import drain_listeners, listen, states


def as_bytes(events):
    return [orjson.dumps(event) for event in events]


MODELS = [
    RunStartedEvent(thread_id="t", run_id="r"),
    TextMessageStartEvent(message_id="m1", role="assistant"),
    TextMessageContentEvent(message_id="m1", delta="Hel"),
    TextMessageContentEvent(message_id="m1", delta="lo"),
    TextMessageEndEvent(message_id="m1"),
    RunFinishedEvent(thread_id="t", run_id="r"),
]

DICTS = [run_started("t", "r"), *text_message("m1", "Hel", "lo"), run_finished("t", "r")]

ODD_BYTES = [
    b'{ "delta": "lo", "type" :"TEXT_MESSAGE_CONTENT","messageId":"m1"}' if b'"lo"' in e else e for e in as_bytes(DICTS)
]

CHUNKS = [
    run_started("t", "r"),
    {"type": "TEXT_MESSAGE_CHUNK", "messageId": "m1", "delta": "Hel"},
    {"type": EventType.TEXT_MESSAGE_CHUNK, "messageId": "m1", "delta": "lo"},
    run_finished("t", "r"),
]


@pytest.mark.parametrize(
    "events",
    [DICTS, MODELS, as_bytes(DICTS), [e.decode() for e in as_bytes(DICTS)], ODD_BYTES, CHUNKS],
    ids=["dicts", "models", "bytes", "str", "odd bytes", "chunks"],
)
async def test_result_is_the_text_in_any_form_of_event(memory_factory, events):
    runner = memory_factory()
    async with Harness(runner, {"a": scripted_agent(events)}) as harness:
        seen = listen(harness)
        result = await harness.run("hi", thread_id="t", run_id="r")
        assert result == RunResult("r", "t", "a", "completed", "Hello")
        await drain_listeners(harness)
        assert [(e.seq, e.type) for e in seen] == [
            (1, "run.created"),
            (2, "run.state.changed"),
            (3, "output.delta"),
            (4, "output.delta"),
            (5, "run.state.changed"),
        ]
        assert [e.data for e in seen if e.type == "output.delta"] == [
            {"text": "Hel", "message_id": "m1"},
            {"text": "lo", "message_id": "m1"},
        ]
        assert states(seen) == ["running", "completed"]


@pytest.mark.parametrize("events", [text_message("m", "x"), [run_started("t", "r"), *text_message("m", "x")]])
async def test_agent_without_run_finished_completes(runner, events):
    async with Harness(runner, {"agent": scripted_agent(events)}) as harness:
        result = await harness.run("hi", thread_id="t", run_id="r")
        assert (result.state, result.content, result.error) == ("completed", "x", None)
        assert (await harness.run_record("r")).state == "completed"


async def test_failing_agent_gives_a_readable_result(runner):
    async def broken(input):
        yield run_started(input.thread_id, input.run_id)
        for event in text_message("m1", "I "):
            yield event
        raise RuntimeError("no more milk")

    async def lost(input):
        raise AgentError("out of milk")
        yield

    failing = [run_started("t", "r"), {"type": "RUN_ERROR", "message": "the model is down"}]
    disorderly = [run_started("t3", "r3"), {"type": "TEXT_MESSAGE_END", "messageId": "never"}]
    agents = {
        "broken": broken, "lost": lost, "failing": scripted_agent(failing),
        "disorderly": scripted_agent(disorderly), "none": lambda _: None,
    }  # fmt: skip
    async with Harness(runner, agents, max_concurrent_runs=1) as harness:
        result = await harness.run("hi", agent="broken")
        assert (result.state, result.content) == ("failed", "I ")
        assert result.error is not None
        assert result.error.startswith(AGENT_FAILED)
        assert "no more milk" not in result.error
        assert (await harness.run_record(result.run_id)).error == result.error
        assert (await harness.run("hi", agent="lost")).error == "out of milk"
        result = await harness.run("hi", agent="failing", thread_id="t", run_id="r")
        assert (result.state, result.error) == ("failed", "the model is down")
        result = await harness.run("hi", agent="disorderly", thread_id="t3", run_id="r3")
        assert result.state == "failed"
        assert result.error
        result = await harness.run("hi", agent="none")
        assert result.error == "the agent 'none' must return an async iterator of events, not NoneType"
        assert {run.state for run in await harness.runs()} == {"failed"}


async def test_a_message_left_open_at_the_end_of_its_run_is_closed(runner):
    agent = scripted_agent([run_started("t", "r"), *text_message("m", "x")[:-1], run_finished("t", "r")])
    async with Harness(runner, {"a": agent}) as harness:
        result = await harness.run("hi", thread_id="t", run_id="r")
        assert (result.state, result.content) == ("completed", "x")


async def test_result_without_text_has_the_errors_of_the_tools(memory_factory):
    runner = memory_factory()
    failed = tool_call("c1", "look", "{}", result="Error: no such city")
    other = tool_call("c2", "look", "{}", result='{"error": "too far"}')
    agents = {
        "silent": agent_with(*failed, *other, *tool_call("c3", "look", "{}", result="fine")),
        "polite": agent_with(*failed, *text_message("m", "Sorry.")),
        "marked": agent_with(*tool_call("c4", "look"), {
            "type": "TOOL_CALL_RESULT", "toolCallId": "c4", "messageId": "r4", "content": "gone",
            "metadata": {"isError": True},
        }),
    }  # fmt: skip
    async with Harness(runner, agents) as harness:
        result = await harness.run("hi", agent="silent")
        assert (result.state, result.content) == ("completed", 'Error: no such city\n{"error": "too far"}')
        assert (await harness.wait(result.run_id)).content == result.content
        assert (await harness.run("hi", agent="polite")).content == "Sorry."
        assert (await harness.run("hi", agent="marked")).content == "gone"


@pytest.mark.fault("A6")
async def test_an_attempt_that_ends_while_the_loop_is_blocked_is_not_given_up(monkeypatch):
    monkeypatch.setattr(results, "STOP_GRACE_SECONDS", 0.1)
    done, given_up = asyncio.Event(), []

    async def give_up():
        given_up.append(True)

    # With a refusal, the result is that error, and no record is needed.
    attempt = SimpleNamespace(has_begun=True, done=done, give_up=give_up, refusal=RuntimeError("refused"))
    loop = asyncio.get_running_loop()
    loop.call_later(0.05, done.set)
    loop.call_soon(time.sleep, 0.2)
    with pytest.raises(RuntimeError, match="refused"):
        await results.attempt_result(None, attempt)
    assert given_up == []
