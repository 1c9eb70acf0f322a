"""An agent that leaves out RUN_STARTED or RUN_FINISHED gets them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ag_ui.core import (
    EventType,
    TextMessageChunkEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
)

from agentrunner import verify
from support.agents import Gate, failing_at_once, scripted_agent
from support.backends import in_memory
from support.events import event_types, run_finished, run_started, text_message
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentrunner import AgentRunner

TEXT = text_message("m1", "x")
TEXT_TYPES = event_types(TEXT)
MODELS = [
    TextMessageStartEvent(message_id="m1"),
    TextMessageContentEvent(message_id="m1", delta="x"),
    TextMessageEndEvent(message_id="m1"),
]
CHUNK = {"type": "TEXT_MESSAGE_CHUNK", "messageId": "m1", "delta": "x"}
START, TOOL = TEXT[0], {"type": "TOOL_CALL_START", "toolCallId": "c1", "toolCallName": "search"}


async def run_and_check(runner: AgentRunner, events: Sequence[Any]) -> list[dict[str, Any]]:
    """Run an agent that yields the events, and return what its reader gets.

    Check that a later reader gets the same first event.
    """
    live = await collect(await runner.run(scripted_agent(events), make_input()))
    verify(live)
    assert event_types([event.to_dict() for event in await runner.threads.events("t1")])[:1] == event_types(live)[:1]
    return live


@in_memory
@pytest.mark.parametrize(
    ("events", "types"),
    [
        (TEXT, TEXT_TYPES),
        ([b'{"type":"TEXT_MESSAGE_START","messageId":"m1"}', *TEXT[1:]], TEXT_TYPES),
        (MODELS, TEXT_TYPES),
        ([CHUNK], TEXT_TYPES),
        ([TextMessageChunkEvent(message_id="m1", delta="x")], TEXT_TYPES),
        ([{"type": "CUSTOM", "name": "n", "value": 1}], ["CUSTOM"]),
        ([{"type": "OF_NO_KNOWN_KIND"}], ["OF_NO_KNOWN_KIND"]),
        ([], []),
        ([run_started()], []),
        ([run_finished()], []),
        ([run_started(), *TEXT], TEXT_TYPES),
        ([*TEXT, run_finished()], TEXT_TYPES),
        ([run_started(), *TEXT, run_finished()], TEXT_TYPES),
    ],
)
async def test_missing_boundaries_are_recorded(runner: AgentRunner, events: list[Any], types: list[str]) -> None:
    live = await run_and_check(runner, events)
    assert event_types(live) == ["RUN_STARTED", *types, "RUN_FINISHED"]
    assert live[0]["threadId"] == live[-1]["threadId"] == "t1"
    assert live[0]["runId"] == live[-1]["runId"] == "r1"
    assert live[0]["input"]["runId"] == "r1"
    (thread,) = await runner.threads.list()
    assert thread.runs == 1


@pytest.mark.parametrize(
    ("left_open", "ends"),
    [
        ([START], ["TEXT_MESSAGE_END"]),
        ([{"type": "STEP_STARTED", "stepName": "s"}], ["STEP_FINISHED"]),
        ([{"type": "REASONING_START", "messageId": "m2"}], ["REASONING_END"]),
        ([TOOL], ["TOOL_CALL_ARGS", "TOOL_CALL_END"]),
        ([TOOL, {"type": "TOOL_CALL_END", "toolCallId": "c1"}], []),
    ],
)
async def test_what_the_agent_left_open_is_ended_first(
    runner: AgentRunner, left_open: list[dict[str, Any]], ends: list[str]
) -> None:
    live = await run_and_check(runner, left_open)
    assert event_types(live) == ["RUN_STARTED", *event_types(left_open), *ends, "RUN_FINISHED"]


async def test_a_first_event_that_is_also_out_of_order_ends_the_run(runner: AgentRunner) -> None:
    live = await collect(await runner.run(scripted_agent(TEXT[1:]), make_input()))
    assert event_types(live) == ["RUN_STARTED", "RUN_ERROR"]
    assert live[-1]["code"] == "INVALID_EVENT_SEQUENCE"


async def test_a_run_error_may_be_the_first_event(runner: AgentRunner) -> None:
    live = await collect(await runner.run(scripted_agent([{"type": "RUN_ERROR", "message": "no"}]), make_input()))
    assert event_types(live) == [EventType.RUN_ERROR]


async def test_an_agent_that_fails_gets_no_run_finished(runner: AgentRunner) -> None:
    async def agent(_: Any) -> Any:
        yield START
        raise RuntimeError("boom")

    live = await collect(await runner.run(agent, make_input()))
    assert event_types(live) == ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_END", "RUN_ERROR"]
    live = await collect(await runner.run(failing_at_once, make_input(run="r2")))
    assert event_types(live) == ["RUN_ERROR"]


async def test_a_stopped_run_ends_as_a_stopped_one(runner: AgentRunner) -> None:
    gate = Gate([*TEXT[:2]])
    stream = await runner.run(gate, make_input())
    await gate.reached.wait()
    assert await runner.stop("t1")
    assert event_types(await collect(stream))[-2:] == ["TEXT_MESSAGE_END", "RUN_FINISHED"]
    assert runner.stats.runs_ended == {"finished": 0, "failed": 0, "stopped": 1}
