"""Inputs, cursors and events that are refused with a typed error and write nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import (
    AgentRunner,
    InvalidCursor,
    InvalidInput,
)
from support.agents import agent_with, scripted_agent
from support.backends import embedded, in_memory
from support.bad_input import make_nested
from support.events import event_types, run_started, text_message
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Callable


async def check_other_thread(runner: AgentRunner) -> None:
    """Check that the other thread is unchanged and accepts another run."""
    assert [thread.thread_id for thread in await runner.threads.list()] == ["other"]
    assert event_types(await runner.threads.events("other")) == [
        "RUN_STARTED",
        *event_types(text_message("m", "x")),
        "RUN_FINISHED",
    ]
    await collect(await runner.run(agent_with(), make_input("other", "o2")))


# Inputs

INPUTS: dict[str, Any] = {
    "no input": None,
    "a list": [make_input()],
    "a number": 7,
    "text": "t1",
    "empty": {},
    "no thread": {k: v for k, v in make_input().items() if k != "threadId"},
    "no run": {k: v for k, v in make_input().items() if k != "runId"},
    "empty thread": make_input(thread=""),
    "empty run": make_input(run=""),
    "long thread": make_input(thread="x" * 1025),
    "long run": make_input(run="é" * 513),
    "long message id": make_input(messages=["m" * 1025]),
    "empty message id": make_input(messages=[{"id": "", "role": "user", "content": "x"}]),
    "thread of another type": {**make_input(), "threadId": 1},
    "surrogate thread": make_input(thread="\ud800"),
    "surrogate run": make_input(run="r\udfff"),
    "surrogate message id": make_input(messages=["\ud800"]),
    "bytes that are no text": make_input(state={"n": b"\xff"}),
    "an object": make_input(state={"n": object()}),
    "messages of another type": make_input(state={}, tools=7),
}


@embedded
@pytest.mark.parametrize("run_input", INPUTS.values(), ids=INPUTS.keys())
async def test_an_input_is_refused_and_nothing_is_written(runner: AgentRunner, run_input: Any) -> None:
    await collect(await runner.run(agent_with(*text_message("m", "x")), make_input("other", "o1")))
    agent_inputs = []

    async def agent(input: Any) -> Any:
        agent_inputs.append(input)
        yield run_started()

    with pytest.raises(InvalidInput):
        await runner.run(agent, run_input)
    assert agent_inputs == []
    await check_other_thread(runner)
    await collect(await runner.run(agent_with(), make_input()))


@pytest.mark.parametrize("name", ["x" * 1024, "é" * 512, "🙂" * 256])
async def test_an_id_of_one_kib_is_not_too_long(runner: AgentRunner, name: str) -> None:
    assert event_types(await collect(await runner.run(agent_with(), make_input(name, f"{name[:-1]}r")))) == [
        "RUN_STARTED",
        "RUN_FINISHED",
    ]
    assert [thread.thread_id for thread in await runner.threads.list()] == [name]


# Cursors


@in_memory
@pytest.mark.parametrize(
    "cursor", ["", ".", "1.", ".1", "1.2.3", "-1", " 1", "1e3", "٣", "9" * 40, "\0", "\ud800", "1\n2"]
)
async def test_an_invalid_cursor_is_refused(runner: AgentRunner, cursor: str) -> None:
    await collect(await runner.run(agent_with(), make_input()))
    with pytest.raises(InvalidCursor):
        await runner.connect("t1", after=cursor)


# Events

START = {"type": "TEXT_MESSAGE_START", "role": "assistant"}


EVENTS: dict[str, Any] = {
    "not JSON": b"not json",
    "JSON cut off": b'{"type":"CUSTOM"',
    "two values": b'{"type":"CUSTOM","name":"a","value":1}{}',
    "no bytes": b"",
    "not UTF-8": b'{"type":"CUSTOM","name":"\xff","value":1}',
    "a list": b"[]",
    "a list of events": [run_started()],
    "a string": b'"TEXT"',
    "a number": 5,
    "None": None,
    "an object": object(),
    "no type": {"name": "x"},
    "a type that is no text": {"type": 7},
    "a type that is null": b'{"type":null}',
    "no message id": START,
    "an empty message id": {**START, "messageId": ""},
    "a message id that is no text": {**START, "messageId": 7},
    "a message id over the limit": {**START, "messageId": "x" * 1025},
    "no tool call id": {"type": "TOOL_CALL_START", "toolCallName": "x"},
    "an empty tool call id": {"type": "TOOL_CALL_START", "toolCallName": "x", "toolCallId": ""},
    "NaN in JSON": b'{"type":"CUSTOM","name":"x","value":NaN}',
    "too deep": make_nested(129),
    "far too deep": b'{"type":"CUSTOM","name":"x","value":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "too long": {"type": "CUSTOM", "name": "x", "value": "y" * 2000},
}


@embedded
@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS.keys())
async def test_an_event_is_refused_and_what_came_before_is_kept(
    runner_factory: Callable[..., AgentRunner], event: Any
) -> None:
    runner = runner_factory(max_event_bytes=1500 if event is EVENTS["too long"] else 1_000_000)
    await collect(await runner.run(agent_with(*text_message("m", "x")), make_input("other", "o1")))
    agent = scripted_agent(
        [
            run_started(),
            text_message("m1", "kept")[0],
            text_message("m1", "kept")[1],
            event,
            *text_message("late", "never"),
        ]
    )
    events = await collect(await runner.run(agent, make_input()))
    assert event_types(events) == [
        "RUN_STARTED",
        *event_types(text_message("m1", "kept"))[:2],
        "TEXT_MESSAGE_END",
        "RUN_ERROR",
    ]
    assert events[-1]["code"] == "INVALID_EVENT"
    assert events[-1]["message"]
    assert await runner.is_running("t1") is False
    assert await collect(await runner.connect("t1")) == events
    await collect(await runner.run(agent_with(*text_message("m2", "x")), make_input(run="r2")))
    assert [thread.runs for thread in await runner.threads.list()] == [2, 1]
    assert event_types(await runner.threads.events("other"))[-1] == "RUN_FINISHED"


@in_memory
@pytest.mark.parametrize(
    ("before", "event", "rule"),
    [
        ([], text_message("m1", "x")[1], "TEXT_MESSAGE_START"),
        ([], text_message("m1", "x")[2], "TEXT_MESSAGE_START"),
        ([text_message("m1")[0]], text_message("m1")[0], "already"),
        ([], {"type": "TOOL_CALL_ARGS", "toolCallId": "m1", "delta": "{"}, "TOOL_CALL_START"),
        ([], {"type": "TOOL_CALL_END", "toolCallId": "m1"}, "TOOL_CALL_START"),
        ([], {"type": "STEP_FINISHED", "stepName": "m1"}, "step"),
        ([], {"type": "REASONING_END", "messageId": "m1"}, "REASONING_START"),
        ([], {"type": "REASONING_MESSAGE_CONTENT", "messageId": "m1", "delta": "x"}, "REASONING_MESSAGE_START"),
        ([], run_started(), "RUN_STARTED"),
        ([], {"type": "SUBAGENT_FINISHED", "subagentRunId": "m1"}, "SUBAGENT"),
        ([], {"type": "TEXT_MESSAGE_CHUNK", "delta": "x"}, "messageId"),
    ],
    ids=str,
)
async def test_an_event_out_of_sequence_ends_the_run_with_the_rule(
    runner: AgentRunner, before: list[Any], event: Any, rule: str
) -> None:
    agent = scripted_agent([run_started(), *before, event, *text_message("late", "never")])
    events = await collect(await runner.run(agent, make_input()))
    assert events[1 : 1 + len(before)] == before
    assert (events[-1]["type"], events[-1]["code"]) == ("RUN_ERROR", "INVALID_EVENT_SEQUENCE")
    assert rule in events[-1]["message"]
    assert event["type"] in events[-1]["message"]
    assert "late" not in json.dumps(events)
    assert await collect(await runner.connect("t1")) == events
    await collect(await runner.run(agent_with(), make_input(run="r2")))


async def test_an_agent_without_an_iterator_ends_the_run(runner: AgentRunner, caplog: pytest.LogCaptureFixture) -> None:
    for n, agent in enumerate([lambda _: 7, lambda _: [run_started()]]):
        events = await collect(await runner.run(agent, make_input(run=f"r{n}")))
        assert event_types(events) == ["RUN_ERROR"]
    assert "failed" in caplog.text
    await collect(await runner.run(agent_with(), make_input(run="good")))
