"""`Event`, `Frames`, and the round trip of every kind of event from model to model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ag_ui import core
from pydantic import TypeAdapter, ValidationError

from agentrunner import CursorError, Event, InvalidEvent, StoreCorrupt, compact, fold
from agentrunner._codec import encode
from agentrunner._core import Frames
from support.agents import agent_with
from support.events import text_message
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from pydantic import BaseModel

    from agentrunner import AgentRunner

FRAMES = b'id: 3\ndata: {"type":"A","n":1}\n\nid: 5.1\ndata: {"type":"B","n":2}\n\n'


def event(**fields: Any) -> Event:
    (compacted,) = compact([{"type": "CUSTOM", "name": "x", "value": 1, **fields}])
    return compacted


# Event


def test_an_event_has_a_type_and_bytes() -> None:
    one = event()
    assert one.type == "CUSTOM"
    assert bytes(one) == b'{"type":"CUSTOM","name":"x","value":1}'
    assert one.to_dict() == {"type": "CUSTOM", "name": "x", "value": 1}
    assert one.model() == core.CustomEvent(name="x", value=1)


def test_an_event_outside_a_thread_has_no_cursor() -> None:
    assert (event().seq, event().cursor) == (None, None)


def test_an_event_of_a_thread_has_a_cursor() -> None:
    assert [(e.type, e.seq, e.cursor) for e in Frames(FRAMES).events()] == [("A", 3, "3"), ("B", 5, "5.1")]


def test_the_caller_may_change_the_dict_of_an_event() -> None:
    one = event()
    one.to_dict()["value"] = 2
    assert one.to_dict()["value"] == 1


def test_events_are_equal_by_their_bytes() -> None:
    assert event() == event()
    assert hash(event()) == hash(event())
    assert event() != event(value=2)
    assert event() != event().to_dict()
    assert event() != bytes(event())
    assert len({event(), event(), event(value=2)}) == 2


def test_the_repr_of_an_event() -> None:
    assert repr(event()) == 'Event({"type":"CUSTOM","name":"x","value":1})'
    assert repr(Frames(FRAMES).events()[1]) == 'Event({"type":"B","n":2}, cursor="5.1")'


def test_an_event_cannot_be_made_or_changed() -> None:
    with pytest.raises(TypeError):
        Event()
    with pytest.raises(AttributeError):
        event().type = "OTHER"  # type: ignore[misc]


def test_an_unknown_kind_has_everything_but_a_model() -> None:
    (new,) = compact([b'{"type":"NEW","x":[1.0]}'])
    assert (new.type, new.to_dict()) == ("NEW", {"type": "NEW", "x": [1.0]})
    with pytest.raises(ValidationError):
        new.model()


def test_a_kind_written_with_escapes_is_understood() -> None:
    (escaped,) = compact([b'{ "ty\\u0070e" : "CUST\\u004fM", "name":"x", "value":1 }'])
    assert escaped.type == "CUSTOM"
    assert escaped.model() == core.CustomEvent(name="x", value=1)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (b'"\\ud83d"', "\ud83d"),
        (b"1180591620717411303425", 2**70 + 1),
        (b"[1,-9223372036854775809,18446744073709551616]", [1, -(2**63) - 1, 2**64]),
        (b"9223372036854775807", 2**63 - 1),
        (b"1e400", float("inf")),
        (b"9" * 5000, float("inf")),
        (b"-0.0", -0.0),
        (b'"12345678901234567890"', "12345678901234567890"),
        (b"0.12345678901234567890", 0.12345678901234568),
    ],
    ids=lambda value: ascii(value)[:30],
)
def test_a_dict_keeps_every_json_value(written: bytes, value: Any) -> None:
    (one,) = compact([b'{"type":"CUSTOM","name":"x","value":%s}' % written])
    assert repr(one.to_dict()["value"]) == repr(value)


def test_fold_keeps_big_integers() -> None:
    snapshot = {"type": "STATE_SNAPSHOT", "snapshot": {"n": 2**70 + 1}}
    patch = {"type": "STATE_DELTA", "delta": [{"op": "copy", "from": "/n", "path": "/m"}]}
    for events in ([snapshot, patch], compact([snapshot, patch])):
        assert repr(fold(events).state) == repr({"n": 2**70 + 1, "m": 2**70 + 1})


# Frames


def test_frames_have_bytes_and_events() -> None:
    frames = Frames(FRAMES)
    assert bytes(frames) == FRAMES
    assert len(frames) == len(FRAMES)
    assert [bytes(e) for e in frames.events()] == [b'{"type":"A","n":1}', b'{"type":"B","n":2}']
    assert frames.events() is frames.events()


def test_a_frame_without_a_cursor_is_an_event_without_one() -> None:
    (event,) = Frames(b'data: {"type":"A"}\n\n').events()
    assert (event.type, event.seq, event.cursor) == ("A", None, None)


def test_no_frames_are_no_events() -> None:
    assert len(Frames(b"")) == 0
    assert Frames(b"").events() == []


@pytest.mark.parametrize(
    "data", [b"garbage", b"id: 1\n", FRAMES[:-5], b"\n\n", b"id: 1\ndata: \xff\n\n", b"data: {}\n"]
)
def test_damaged_frames_are_refused(data: bytes) -> None:
    with pytest.raises((StoreCorrupt, CursorError, InvalidEvent)):
        Frames(data).events()


async def test_a_stream_yields_the_same_as_frames_and_as_events(runner: AgentRunner) -> None:
    await collect(await runner.run(agent_with(*text_message("m1", "a", "b")), make_input()))
    events = [e async for e in await runner.connect("t1")]
    data = b"".join([piece async for piece in (await runner.connect("t1")).frames()])
    framed = Frames(data).events()
    assert framed == events
    assert [(e.seq, e.cursor) for e in framed] == [(e.seq, e.cursor) for e in events]
    assert data == b"".join(b"id: %s\ndata: %s\n\n" % (str(e.cursor).encode(), bytes(e)) for e in events)


# Every kind that has a model

MODELS: list[BaseModel] = [
    core.RunStartedEvent(thread_id="t1", run_id="r1", parent_run_id="r0", protocol_version="1.0"),
    core.RunFinishedEvent(thread_id="t1", run_id="r1", result={"any": [None, 1]}),
    core.RunErrorEvent(message="broken", code="E"),
    core.StepStartedEvent(step_name="plan"),
    core.StepFinishedEvent(step_name="plan"),
    core.TextMessageStartEvent(message_id="m1", role="user", name="Ann", timestamp=1),
    core.TextMessageContentEvent(message_id="m1", delta='é "\n\u2028🙂\0', metadata={"a": None}),
    core.TextMessageEndEvent(message_id="m1", subagent_run_id="s1"),
    core.TextMessageChunkEvent(message_id="m1", role="assistant", delta="x"),
    core.ToolCallStartEvent(tool_call_id="c1", tool_call_name="search", parent_message_id="m1"),
    core.ToolCallArgsEvent(tool_call_id="c1", delta='{"a":'),
    core.ToolCallEndEvent(tool_call_id="c1"),
    core.ToolCallChunkEvent(tool_call_id="c1", tool_call_name="search", delta="{}"),
    core.ToolCallResultEvent(message_id="m2", tool_call_id="c1", content="found", role="tool"),
    core.StateSnapshotEvent(snapshot={"n": [1, 2.5, None]}),
    core.StateDeltaEvent(delta=[{"op": "replace", "path": "/n", "value": None}]),
    core.MessagesSnapshotEvent(messages=[core.UserMessage(id="u1", content="hi")]),
    core.ActivitySnapshotEvent(message_id="a1", activity_type="PLAN", content={"steps": []}, replace=False),
    core.ActivityDeltaEvent(message_id="a1", activity_type="PLAN", patch=[{"op": "add", "path": "/x", "value": 1}]),
    core.ReasoningStartEvent(message_id="m3"),
    core.ReasoningEndEvent(message_id="m3"),
    core.ReasoningMessageStartEvent(message_id="m3", role="reasoning"),
    core.ReasoningMessageContentEvent(message_id="m3", delta="hm"),
    core.ReasoningMessageEndEvent(message_id="m3"),
    core.ReasoningMessageChunkEvent(message_id="m3", delta="hm"),
    core.ReasoningEncryptedValueEvent(subtype="message", entity_id="m3", encrypted_value="x"),
    core.RawEvent(event={"any": None}, source="model"),
    core.CustomEvent(name="x", value=None),
    core.SubagentStartedEvent(subagent_run_id="s1", name="helper", parent_tool_call_id="c1"),
    core.SubagentFinishedEvent(subagent_run_id="s1", result=[1]),
    core.SubagentErrorEvent(subagent_run_id="s1", message="broken", code="E"),
]


def test_every_kind_has_a_model() -> None:
    # ag-ui-protocol 0.1 has these kinds, which AG-UI 1.0 replaced, too.
    kinds = {kind for kind in core.EventType if not kind.startswith("THINKING_")}  # type: ignore[attr-defined]
    assert {model.type for model in MODELS} == kinds
    assert len(MODELS) == 31


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.type.value)
def test_a_model_comes_back_equal(model: Any) -> None:
    (stored_event,) = Frames(b"id: 1\ndata: %s\n\n" % encode(model)).events()
    assert stored_event.type == model.type.value
    assert stored_event.model() == model
    assert type(stored_event.model()) is type(model)
    assert bytes(stored_event) == encode(model)
    assert encode(stored_event.to_dict()) == encode(model)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.type.value)
def test_a_model_is_written_as_ag_ui_writes_it(model: Any) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(core.Event)
    assert adapter.validate_json(encode(model)) == model
    assert encode(model) == model.model_dump_json(by_alias=True).encode()


SINGLE = [model for model in MODELS if "RUN_" not in model.type or "SUBAGENT" in model.type]  # type: ignore[attr-defined]


@pytest.mark.parametrize("model", SINGLE, ids=lambda model: model.type.value)
def test_a_model_survives_compaction_alone(model: Any) -> None:
    models = [e.model() for e in compact([model])]
    # Compaction drops the fields of single deltas and keeps a patch without a snapshot before it.
    assert models == [model]
