"""What a replay leaves out: raw events, and snapshots that later ones replace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import events as functions
from support.agents import agent_with
from support.events import event_dicts, event_types, text_message, tool_call
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from agentrunner import AgentRunner

TURNS = 6
PROMPT = "You are a secret prompt. " * 20


def turn(number: int, history: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what an agent of a well-known framework yields with its defaults.

    It streams its answer under another id than its own history has it, and its tool results too.
    """
    raw = {"event": PROMPT}
    answer = [event | {"rawEvent": raw} for event in text_message(f"stream-{number}", "word " * 40)]
    call = tool_call(f"call-{number}", "look", "{}", result="found " * 20)
    state = {"messages": [*history], "turn": number}
    return [
        {"type": "RAW", "event": raw},
        {"type": "STATE_SNAPSHOT", "snapshot": {"messages": [], "turn": number}},
        *call,
        *answer,
        {"type": "STATE_DELTA", "delta": [{"op": "add", "path": "/x", "value": number}]},
        {"type": "REASONING_MESSAGE_CHUNK", "messageId": f"thought-{number}", "delta": "hm"},
        {"type": "STATE_SNAPSHOT", "snapshot": state},
        {"type": "MESSAGES_SNAPSHOT", "messages": [*history]},
    ]


async def converse(runner: AgentRunner, turns: int = TURNS) -> list[dict[str, Any]]:
    """Run some turns with a client that sends what it has; return what a page saw live."""
    live: list[dict[str, Any]] = []
    history: list[dict[str, Any]] = []
    for number in range(turns):
        user = {"id": f"user-{number}", "role": "user", "content": "ask " * 20}
        call = {"id": f"call-{number}", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        history += [
            user,
            {"id": f"asked-{number}", "role": "assistant", "content": "", "toolCalls": [call]},
            {"id": f"found-{number}", "role": "tool", "toolCallId": call["id"], "content": "found " * 20},
            {"id": f"answer-{number}", "role": "assistant", "content": "word " * 40},
        ]
        folded = functions.fold(live)
        run_input = make_input(run=f"r{number}", messages=[*folded.messages, user], state=folded.state)
        live += await collect(await runner.run(agent_with(*turn(number, history)), run_input))
        assert live[-1]["type"] == "RUN_FINISHED"
    return live


@pytest.mark.fault("B12")
async def test_a_replay_grows_with_what_is_shown(memory_factory: Callable[..., AgentRunner]) -> None:
    sizes = []
    for turns in (6, 12):
        runner = memory_factory()
        live = await converse(runner, turns)
        stream = await runner.connect("t1")
        pages = [bytes(page) async for page in stream.pages()]
        sizes.append(sum(map(len, pages)))
        assert not any(b"secret" in page for page in pages)
        replay = await collect(await runner.connect("t1"))
        functions.verify(replay)
        assert functions.fold(replay) == functions.fold(live)
    assert sizes[1] < 2.2 * sizes[0]


@pytest.mark.fault("B12")
async def test_a_reader_may_resume_after_any_event_of_such_a_replay(sqlite_factory: Callable[..., AgentRunner]) -> None:
    runner = sqlite_factory()
    live = functions.fold(await converse(runner, 4))
    replay = [event async for event in await runner.connect("t1")]
    for count in range(0, len(replay), 7):
        read = event_dicts(replay[:count])
        cursor = next((event.cursor for event in reversed(replay[:count]) if event.cursor is not None), None)
        if count and replay[count - 1].cursor is None:
            continue
        rest = await collect(await runner.connect("t1", after=cursor))
        assert functions.fold([*read, *rest]) == live


@pytest.mark.fault("B12")
async def test_a_thread_with_one_snapshot_is_replayed_as_stored(
    memory_factory: Callable[..., AgentRunner],
) -> None:
    runner = memory_factory()
    await converse(runner, 1)
    replay = await collect(await runner.connect("t1"))
    assert replay == event_dicts(await runner.threads.events("t1"))
    assert event_types(replay).count("MESSAGES_SNAPSHOT") == 1


@pytest.mark.fault("B12")
async def test_raw_events_are_recorded_if_an_option_asks_for_them(memory_factory: Callable[..., AgentRunner]) -> None:
    runner = memory_factory(keep_raw_events=True)
    live = await converse(runner, 1)
    stored = event_dicts(await runner.threads.events("t1"))
    for events in (live, stored):
        assert "RAW" in event_types(events)
        assert any("rawEvent" in event for event in events)


@pytest.mark.fault("B12")
async def test_no_reader_gets_raw_events_by_default(memory_factory: Callable[..., AgentRunner]) -> None:
    runner = memory_factory()
    live = await converse(runner, 1)
    for events in (live, event_dicts(await runner.threads.events("t1"))):
        assert "RAW" not in event_types(events)
        assert not any("rawEvent" in event for event in events)


async def test_an_unknown_kind_of_event_keeps_its_raw_event(memory_factory: Callable[..., AgentRunner]) -> None:
    runner = memory_factory()
    event = {"type": "NEW_KIND", "rawEvent": {"x": None}}
    assert event in await collect(await runner.run(agent_with(event), make_input()))


def test_the_option_must_be_a_bool(memory_factory: Callable[..., AgentRunner]) -> None:
    with pytest.raises(ValueError, match="keep_raw_events"):
        memory_factory(keep_raw_events="yes")
