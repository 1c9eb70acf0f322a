"""The retired THINKING_* events, recorded as REASONING_* events."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import events as functions
from support.agents import Gate, agent_with
from support.events import event_dicts, event_types, text_message
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import AgentRunner

START = {"type": "THINKING_START", "title": "Thoughts"}
END = {"type": "THINKING_END"}
TEXT_START = {"type": "THINKING_TEXT_MESSAGE_START"}
TEXT_END = {"type": "THINKING_TEXT_MESSAGE_END"}


def content(delta: str) -> dict[str, Any]:
    return {"type": "THINKING_TEXT_MESSAGE_CONTENT", "delta": delta}


WHOLE = [START, TEXT_START, content("a"), content("b"), TEXT_END, END]
SEQUENCES = {
    "whole": (WHOLE, ["ab"]),
    "twice": (WHOLE * 2, ["ab", "ab"]),
    "left open": (WHOLE[:4], ["ab"]),
    "outside a span": ([TEXT_START, content("a"), TEXT_END], ["a"]),
    "only its text": ([content("a"), content("b")], ["ab"]),
    "only its ends": ([TEXT_END, END, *text_message("m", "x")], []),
    "started twice": ([START, START, TEXT_START, content("a"), TEXT_START, content("b")], ["a", "b"]),
    "text after its span": ([START, TEXT_START, content("a"), END, content("b")], ["a", "b"]),
    "around a message": ([START, content("a"), *text_message("m", "x"), content("b"), END], ["ab"]),
}


@pytest.mark.fault("B4")
@pytest.mark.parametrize("name", SEQUENCES)
async def test_thinking_is_recorded_as_reasoning_with_the_ids_that_readers_saw(
    memory_factory: Callable[..., AgentRunner], name: str
) -> None:
    runner = memory_factory()
    thoughts, texts = SEQUENCES[name]
    live = await collect(await runner.run(agent_with(*thoughts), make_input()))
    assert not any("THINKING" in kind for kind in event_types(live))
    assert live[-1]["type"] == "RUN_FINISHED"
    functions.verify(live)
    replay = await collect(await runner.connect("t1"))
    functions.verify(replay)
    assert functions.fold(replay) == functions.fold(live)
    messages = await runner.threads.messages("t1")
    assert [message["content"] for message in messages if message["role"] == "reasoning"] == texts


@pytest.mark.fault("B4")
async def test_thinking_that_a_stop_leaves_open_is_closed(memory_factory: Callable[..., AgentRunner]) -> None:
    runner = memory_factory()
    gate = Gate(WHOLE[:3])
    stream = await runner.run(gate.run, make_input())
    await gate.reached.wait()
    assert await runner.stop("t1")
    live = await collect(stream)
    functions.verify(live)
    assert event_types(live)[-3:] == ["REASONING_MESSAGE_END", "REASONING_END", "RUN_FINISHED"]


@pytest.mark.fault("B4")
async def test_thinking_of_subagents_at_the_same_time_stays_apart(memory_factory: Callable[..., AgentRunner]) -> None:
    runner = memory_factory()
    agents = [{"type": "SUBAGENT_STARTED", "subagentRunId": name, "name": name} for name in "xy"]
    deltas = [content(f"{name}{number}") | {"subagentRunId": name} for number in "12" for name in "xy"]
    ends = [{"type": "SUBAGENT_FINISHED", "subagentRunId": name} for name in "xy"]
    live = await collect(await runner.run(agent_with(*agents, *deltas, *ends), make_input()))
    functions.verify(live)
    assert [message["content"] for message in functions.fold(live).messages] == ["x1x2", "y1y2"]


@pytest.mark.fault("B4")
async def test_the_other_fields_of_thinking_stay(memory_factory: Callable[..., AgentRunner]) -> None:
    runner = memory_factory()
    await collect(await runner.run(agent_with(*[event | {"extra": 1} for event in WHOLE]), make_input()))
    recorded = event_dicts(await runner.threads.events("t1"))[1:-1]
    assert all(event["extra"] == 1 for event in recorded)
    assert recorded[0]["title"] == "Thoughts"


@pytest.mark.fault("B4")
async def test_two_runs_think_under_different_ids(memory_factory: Callable[..., AgentRunner]) -> None:
    runner = memory_factory()
    for run in ("r1", "r2"):
        await collect(await runner.run(agent_with(*WHOLE), make_input(run=run)))
    ids = [message["id"] for message in await runner.threads.messages("t1")]
    assert len(set(ids)) == 2
