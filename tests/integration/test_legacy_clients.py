"""Frames for legacy clients, checked with the real schemas of both generations."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner._core import Frames
from support.agents import agent_with
from support.event_generator import RUN_KINDS, EventGenerator, objects
from support.inputs import make_input
from support.nodejs import ask, install, needs_node
from support.streams import collect

if TYPE_CHECKING:
    from agentrunner import AgentRunner

THINKING = [
    {"type": "THINKING_START", "title": "t", "subagentRunId": None},
    {"type": "THINKING_START", "title": 1},
    {"type": "THINKING_TEXT_MESSAGE_START"},
    {"type": "THINKING_TEXT_MESSAGE_CONTENT", "delta": "d"},
    {"type": "THINKING_TEXT_MESSAGE_CONTENT"},
    {"type": "THINKING_TEXT_MESSAGE_END"},
    {"type": "THINKING_END", "metadata": None},
]


def make_frames(events: list[bytes]) -> bytes:
    return b"".join(b"id: %d\ndata: %s\n\n" % (at, event) for at, event in enumerate(events, 1))


def read(frames: bytes) -> dict[int, bytes]:
    """The events of frames by their cursors."""
    read = {}
    for frame in frames.split(b"\n\n")[:-1]:
        cursor, data = frame.split(b"\n")
        read[int(cursor.removeprefix(b"id: "))] = data.removeprefix(b"data: ")
    assert list(read) == sorted(read)
    return read


def check_schemas(events: list[bytes]) -> tuple[list[bool], list[bool]]:
    """Check which events 0.0.59 accepts, and 1.0.0."""
    (answer,) = ask("schemas.mjs", [b'{"events":[' + b",".join(events) + b"]}"])
    return answer["old"], answer["new"]


@needs_node
@pytest.mark.parametrize("seed", range(3))
def test_every_event_that_comes_out_is_read(seed: int) -> None:
    install()
    generator = EventGenerator(seed)
    values = [generator.event(kind) for kind in sorted(generator.kinds) for _ in range(40)]
    values += [generator.broken() for _ in range(4000)] + THINKING
    events = [generator.render(value).encode(errors="surrogatepass") for value in values]
    # A lone surrogate is written escaped or not at all.
    events = [event for event in events if b"\xed\xa0" not in event]
    old, new = check_schemas(events)
    assert (all(old), any(old), all(new), any(new)) == (False, True, False, True)
    got = read(Frames(make_frames(events)).for_legacy_clients())
    after, _ = check_schemas(list(got.values()))
    unread = [data for data, fine in zip(got.values(), after, strict=True) if not fine]
    assert unread == []
    for cursor, (event, was_read, accepted) in enumerate(zip(events, old, new, strict=True), 1):
        if was_read:
            assert got.get(cursor) == event
        elif accepted or json.loads(event).get("type") in RUN_KINDS:
            assert cursor in got, event


def translate_by_hand(event: dict[str, Any]) -> dict[str, Any]:
    """A valid 1.0 event in the words of 0.0.59, by hand."""
    event = copy.deepcopy(event)
    for place in objects(event):
        if isinstance(place, dict) and (place.get("role") == "tool" or place.get("type") == "TOOL_CALL_RESULT"):
            content = place.get("content")
            if isinstance(content, list):
                texts = [part["text"] for part in content if part["type"] == "text"]
                compact = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
                place["content"] = "".join(texts) if len(texts) == len(content) else compact
        elif isinstance(place, dict) and place.get("role") == "user" and isinstance(place.get("content"), list):
            for at, part in enumerate(place["content"]):
                if part.get("source", {}).get("type") == "file":
                    compact = json.dumps(part, separators=(",", ":"), ensure_ascii=False)
                    place["content"][at] = {"type": "text", "text": compact}
    if "input" in event:
        event["input"].setdefault("tools", [])
        event["input"].setdefault("context", [])
    outcome = event.get("outcome", {})
    if outcome.get("type") == "cancelled":
        del event["outcome"]
    for key in ("pendingToolCallIds", "new"):
        outcome.pop(key, None)
    return event


def test_events_that_1_0_accepts_keep_their_meaning() -> None:
    generator = EventGenerator(7)
    values = [generator.event(kind) for kind in sorted(generator.kinds) for _ in range(60)]
    events = [json.dumps(value, separators=(",", ":"), ensure_ascii=False) for value in values]
    kept = [(value, event.encode()) for value, event in zip(values, events, strict=True) if "\ud83d" not in event]
    assert len(kept) > 1000
    got = read(Frames(make_frames([event for _, event in kept])).for_legacy_clients())
    changed = 0
    for (value, event), data in zip(kept, got.values(), strict=True):
        assert json.loads(data) == translate_by_hand(value)
        changed += data != event
    assert changed > 50


# Frames


def test_frames_it_reads_are_the_same_object() -> None:
    frames = Frames(make_frames([b'{"type":"STEP_STARTED","stepName":"s"}'] * 3))
    assert frames.for_legacy_clients() is bytes(frames)


def test_it_is_made_once() -> None:
    frames = Frames(make_frames([b'{"type":"STEP_STARTED","stepName":"s"}', b'{"type":"NEW"}']))
    assert frames.for_legacy_clients() is frames.for_legacy_clients()
    assert frames.for_legacy_clients() == make_frames([b'{"type":"STEP_STARTED","stepName":"s"}'])


async def test_a_stream_contains_only_what_a_legacy_client_reads(runner: AgentRunner) -> None:
    events = [
        {"type": "NEW_KIND", "delta": "x"},
        {"type": "TOOL_CALL_RESULT", "messageId": "r", "toolCallId": "c", "content": [{"type": "text", "text": "t"}]},
    ]
    finished = {"type": "RUN_FINISHED", "threadId": "t", "runId": "r", "outcome": {"type": "cancelled"}}
    await collect(await runner.run(agent_with(*events, finished), make_input("t", "r")))
    pieces = [piece async for piece in (await runner.connect("t")).frames(legacy=True)]
    assert all(pieces)
    read = [json.loads(line[6:]) for line in b"".join(pieces).split(b"\n") if line.startswith(b"data: ")]
    assert [event["type"] for event in read] == ["RUN_STARTED", "TOOL_CALL_RESULT", "RUN_FINISHED"]
    assert read[1]["content"] == "t"
    assert "outcome" not in read[2]
    assert read[2]["runId"] == "r"
