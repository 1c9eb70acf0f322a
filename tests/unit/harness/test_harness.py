"""Runs through the harness: results, records, events, the end of the harness."""

from __future__ import annotations

import asyncio

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

from agentrunner.harness import Harness, RunNotFound, RunResult
from support.agents import Gate, agent_with, scripted_agent
from support.events import event_types, run_finished, run_started, text_message, tool_call
from support.harness import states, told
from support.inputs import make_input
from support.streams import collect

hello = agent_with(*text_message("m1", "Hel", "lo"))


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
async def test_what_the_agent_says_is_the_result_in_whatever_form_it_yields(memory_factory, events):
    runner = memory_factory()
    async with Harness(runner, {"a": scripted_agent(events)}) as harness:
        seen = told(harness)
        result = await harness.run("hi", thread_id="t", run_id="r")
        assert result == RunResult("r", "t", "a", "completed", "Hello")
        await harness._state.bus.drain()
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


async def test_a_run_is_on_record(runner):
    async with Harness(runner, {"a": hello}) as harness:
        result = await harness.run("hi", thread_id="t")
        record = await harness.run_record(result.run_id)
        assert (record.state, record.agent, record.thread_id, record.attempts) == ("completed", "a", "t", 1)
        assert [run.run_id for run in await harness.runs()] == [result.run_id]
        assert await harness.runs("t", state="failed") == []
        assert await harness.wait(result.run_id) == result
        with pytest.raises(RunNotFound):
            await harness.run_record("other")
        with pytest.raises(RunNotFound):
            await harness.cancel("other")


async def test_events_can_be_asked_for_later_with_their_numbers(runner):
    reasoning = [
        {"type": "REASONING_MESSAGE_START", "messageId": "th", "role": "reasoning"},
        {"type": "REASONING_MESSAGE_CONTENT", "messageId": "th", "delta": "hm"},
        {"type": "REASONING_MESSAGE_CONTENT", "messageId": "th", "delta": "m"},
        {"type": "REASONING_MESSAGE_END", "messageId": "th"},
    ]
    async with Harness(
        runner, {"a": agent_with(*reasoning, *text_message("m1", "a", "b", "c"), *text_message("m2", "d"))}
    ) as harness:
        live = told(harness)
        result = await harness.run("hi")
        await harness._state.bus.drain()
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


async def test_events_of_a_run_under_way(runner):
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


@pytest.mark.parametrize("events", [text_message("m", "x"), [run_started("t", "r"), *text_message("m", "x")]])
async def test_an_agent_without_run_finished_completes(runner, events):
    async with Harness(runner, {"agent": scripted_agent(events)}) as harness:
        result = await harness.run("hi", thread_id="t", run_id="r")
        assert (result.state, result.content, result.error) == ("completed", "x", None)
        assert (await harness.run_record("r")).state == "completed"


async def test_an_agent_that_fails_gives_a_readable_result(runner):
    async def broken(input):
        yield run_started(input.thread_id, input.run_id)
        for event in text_message("m1", "I "):
            yield event
        raise RuntimeError("no more milk")

    async def lost(input):
        raise KeyError
        yield

    failing = [run_started("t", "r"), {"type": "RUN_ERROR", "message": "the model is down"}]
    disorderly = [run_started("t3", "r3"), {"type": "TEXT_MESSAGE_END", "messageId": "never"}]
    early = [run_started("t4", "r4"), text_message("m", "x")[0], run_finished("t4", "r4")]
    agents = {
        "broken": broken, "lost": lost, "failing": scripted_agent(failing),
        "disorderly": scripted_agent(disorderly), "early": scripted_agent(early), "none": lambda _: None,
    }  # fmt: skip
    async with Harness(runner, agents, max_concurrent_runs=1) as harness:
        result = await harness.run("hi", agent="broken")
        assert (result.state, result.error, result.content) == ("failed", "no more milk", "I ")
        assert (await harness.run_record(result.run_id)).error == "no more milk"
        assert (await harness.run("hi", agent="lost")).error == "KeyError"
        result = await harness.run("hi", agent="failing", thread_id="t", run_id="r")
        assert (result.state, result.error) == ("failed", "the model is down")
        for number, name in ((3, "disorderly"), (4, "early")):
            result = await harness.run("hi", agent=name, thread_id=f"t{number}", run_id=f"r{number}")
            assert result.state == "failed"
            assert result.error
        result = await harness.run("hi", agent="none")
        assert result.error == "the agent 'none' must return an async iterator of events, not NoneType"
        assert {run.state for run in await harness.runs()} == {"failed"}


async def test_what_tools_say_went_wrong_is_shown_if_the_agent_says_nothing(memory_factory):
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


async def test_stock_clients_runs_are_the_harnesss_too(runner):
    async with Harness(runner, {"a": hello}) as harness:
        seen = told(harness)
        stream = await runner.run(harness.agents["a"], make_input("t", "r", ["hi"]))
        assert event_types(await collect(stream))[-1] == "RUN_FINISHED"
        assert (await harness.wait("r")).content == "Hello"
        assert (await harness.run_record("r")).agent == "a"
        await harness._state.bus.drain()
        assert [e.seq for e in seen] == [1, 2, 3, 4, 5]


async def test_wrapped_agents_are_as_they_were(memory_factory):
    class Fancy:
        description = "does it all"

        def __init__(self):
            self.clones = self.aborted = 0

        def get_capabilities(self):
            return {"x": 1}

        def clone(self):
            self.clones += 1
            return self

        def abort_run(self):
            self.aborted += 1

        async def run(self, input):
            yield run_started(input.thread_id, input.run_id)
            await asyncio.Event().wait()

    def function(input):
        """Say hello."""
        return hello(input)

    fancy, runner = Fancy(), memory_factory()
    async with Harness(runner, {"fancy": fancy, "function": function}) as harness:
        wrapped = harness.agents["fancy"]
        assert (wrapped.description, wrapped.get_capabilities(), wrapped.__name__) == ("does it all", {"x": 1}, "Fancy")
        assert (harness.agents["function"].description, harness.agents["function"].__name__) == (
            "Say hello.",
            "function",
        )
        assert not hasattr(wrapped, "nothing")
        # As a server runs it, and as anybody may.
        for number, agent in enumerate((wrapped.clone(), wrapped), 1):
            stream = await runner.run(agent, make_input("t", f"r{number}"))
            await anext(stream)
            assert await runner.stop("t")
            await collect(stream)
            assert (fancy.clones, fancy.aborted) == (number, number)
            assert (await harness.wait(f"r{number}")).state == "cancelled"


async def test_the_caller_may_leave(runner):
    gate = Gate((), text_message("m", "still here"))
    async with Harness(runner, {"a": gate}) as harness:
        running = asyncio.ensure_future(harness.run("hi", run_id="r"))
        await gate.reached.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        gate.open()
        assert (await harness.wait("r")).content == "still here"


async def test_a_closed_harness_ends_its_runs_and_takes_no_more(runner):
    gate = Gate(text_message("m", "so far"))
    async with Harness(runner, {"a": gate}, max_concurrent_runs=1) as harness:
        running = asyncio.ensure_future(harness.run("hi", run_id="r"))
        waiting = asyncio.ensure_future(harness.run("hi", run_id="r2"))
        await gate.reached.wait()
        while len(await harness.runs()) < 2:
            await asyncio.sleep(0.001)
    for result in await asyncio.gather(running, waiting):
        assert (result.state, result.error) == ("failed", "The run was interrupted: its process was told to end")
    async with Harness(runner, {"a": hello}, max_concurrent_runs=1) as harness:
        assert harness.recovered.failed == []
        assert {run.state for run in await harness.runs()} == {"failed"}
        assert (await harness.run("hi")).state == "completed"


def test_options_are_checked(memory_factory):
    runner = memory_factory()
    for wrong in ({"max_concurrent_runs": 0}, {"max_concurrent_runs": True}, {"max_concurrent_runs": "2"}):
        with pytest.raises(ValueError, match="max_concurrent_runs"):
            Harness(runner, {"a": hello}, **wrong)
    with pytest.raises(ValueError, match="at least one"):
        Harness(runner, {})
