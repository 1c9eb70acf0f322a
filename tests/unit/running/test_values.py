"""Events with values that JSON does not have, and with halves of surrogates."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import pathlib
import types
from typing import TYPE_CHECKING, Any

import pytest
from ag_ui.core import RunAgentInput, StateSnapshotEvent, TextMessageContentEvent
from pydantic import BaseModel, Field

from agentrunner import fold
from agentrunner._codec import encode, to_dict, to_model
from agentrunner.errors import InvalidEvent, InvalidInput
from agentrunner.runtime import AgentRuntime, Tool, ToolResult
from support.agents import agent_with
from support.inputs import make_input
from support.scripted_model import ScriptedModel, call_tools, collect_run, load_session, reply
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import AgentRunner

HALF = "\ud83d"
OTHER_HALF = "\ude00"


class Color(enum.Enum):
    RED = "red"


class Point(BaseModel):
    x_value: int = Field(alias="xValue")


class Measure(BaseModel):
    ratio: float
    inner: Any = None


@dataclasses.dataclass
class Size:
    width: decimal.Decimal


def numpy_scalar(value: Any) -> Any:
    """Return what looks like a scalar of numpy, which need not be installed."""
    scalar = type("int64", (), {"__module__": "numpy", "tolist": lambda _: value})
    return scalar()


VALUES = {
    "nan": (float("nan"), None),
    "infinity": ([float("inf"), -float("inf"), 1.5], [None, None, 1.5]),
    "decimal": (decimal.Decimal("1.50"), "1.50"),
    "set": ({1}, [1]),
    "bytes": (b"abc", "abc"),
    "model": (Point(xValue=3), {"xValue": 3}),
    "dataclass": (Size(decimal.Decimal(2)), {"width": "2"}),
    "nan in a model": (Measure(ratio=float("nan")), {"ratio": None, "inner": None}),
    "infinity in models and sets": (
        Measure(ratio=1.5, inner=[Measure(ratio=-float("inf"), inner={1})]),
        {"ratio": 1.5, "inner": [{"ratio": None, "inner": [1]}]},
    ),
    "path": (pathlib.PurePosixPath("/a/b"), "/a/b"),
    "time": (datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC), "2026-01-02T03:04:00Z"),
    "date": (datetime.date(2026, 1, 2), "2026-01-02"),
    "enum": (Color.RED, "red"),
    "numpy": (numpy_scalar(7), 7),
    "numpy nan": ([numpy_scalar(float("nan"))], [None]),
    "mapping": (types.MappingProxyType({"a": {1}}), {"a": [1]}),
    "keys": ({1: "a", None: "b", Color.RED: "c"}, {"1": "a", "None": "b", "red": "c"}),
    "long integer": ([2**70, {1}], [2**70, [1]]),
}


@pytest.mark.fault("B8")
@pytest.mark.parametrize("name", VALUES)
async def test_values_are_written_as_pydantic_writes_them(
    name: str, memory_factory: Callable[..., AgentRunner]
) -> None:
    value, expected = VALUES[name]
    runner = memory_factory()
    as_model = StateSnapshotEvent(snapshot={"deep": [value]})
    for number, event in enumerate(({"type": "STATE_SNAPSHOT", "snapshot": {"deep": [value]}}, as_model)):
        events = await collect(await runner.run(agent_with(event), make_input("t1", f"r{number}")))
        assert events[1]["snapshot"] == {"deep": [expected]}
        assert await runner.threads.state("t1") == {"deep": [expected]}


@pytest.mark.fault("B8")
@pytest.mark.parametrize("count", [1, 600])
async def test_inputs_of_any_length_are_written_as_events_are(
    count: int, memory_factory: Callable[..., AgentRunner]
) -> None:
    messages = [{"id": f"m{number}", "role": "user", "content": HALF} for number in range(count)]
    state = {HALF: [float("nan"), {1}], "x": f"a{HALF}"}
    events = await collect(await memory_factory().run(agent_with(), make_input(messages=messages, state=state)))
    assert events[-1]["type"] == "RUN_FINISHED"
    assert events[0]["input"]["messages"] == messages
    assert events[0]["input"]["state"] == {HALF: [None, [1]], "x": f"a{HALF}"}
    for wrong in ({"state": {"deep": [object()]}}, {"forwardedProps": {"deep": [object()]}}):
        with pytest.raises(InvalidInput, match=r"`\w+\.deep\[0\]`: a value of type object has no JSON form"):
            await memory_factory().run(agent_with(), make_input(messages=messages, **wrong))


@pytest.mark.fault("B8")
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (object(), r"`snapshot\.items\[1\]\.value`: a value of type object has no JSON form"),
        (lambda: 1, r"`snapshot\.items\[1\]\.value`: a value of type function"),
        (b"\xff", r"`snapshot\.items\[1\]\.value`: .*invalid utf-8"),
        (types.MappingProxyType({"a": object()}), r"`snapshot\.items\[1\]\.value\.a`: a value of type object"),
        (Point.model_construct(x_value=object()), r"`snapshot\.items\[1\]\.value\.x_value`: a value of type object"),
    ],
)
async def test_a_value_without_a_json_form_ends_the_run_and_is_named(
    value: Any, reason: str, memory_factory: Callable[..., AgentRunner]
) -> None:
    runner = memory_factory()
    snapshot = {"items": [1, {"value": value}]}
    for number, event in enumerate(
        ({"type": "STATE_SNAPSHOT", "snapshot": snapshot}, StateSnapshotEvent(snapshot=snapshot))
    ):
        with pytest.raises(InvalidEvent, match=reason):
            encode(event)
        events = await collect(await runner.run(agent_with(event), make_input("t1", f"r{number}")))
        assert (events[-1]["type"], events[-1]["code"]) == ("RUN_ERROR", "INVALID_EVENT")


@pytest.mark.fault("B8")
def test_circles_and_deep_values_are_refused() -> None:
    circle: list[Any] = [1]
    circle.append({"again": circle})
    with pytest.raises(InvalidEvent, match=r"`value\[1\]\.again`: it contains itself"):
        encode({"type": "CUSTOM", "name": "x", "value": circle})
    deep: Any = {1}
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(InvalidEvent, match="nested over 200 levels"):
        encode({"type": "CUSTOM", "name": "x", "value": deep})


@pytest.mark.fault("B8")
async def test_values_that_tools_return_are_stored_and_shown(memory_factory: Callable[..., AgentRunner]) -> None:
    def measure() -> Any:
        return {"size": decimal.Decimal("1.5"), "ratio": float("nan"), "colors": {Color.RED}}

    def label() -> ToolResult:
        return ToolResult("ok", metadata={"size": decimal.Decimal("1.5")})

    model = ScriptedModel(call_tools(("c1", "measure", {}), ("c2", "label", {})), reply("done"))
    runner = memory_factory()
    events = await collect_run(runner, AgentRuntime(model, tools=[measure, label]), make_input("t1", "r1", ["go"]))
    assert events[-1]["type"] == "RUN_FINISHED"
    results = [event for event in events if event["type"] == "TOOL_CALL_RESULT"]
    assert json.loads(results[0]["content"]) == {"size": "1.5", "ratio": None, "colors": ["red"]}
    assert results[1]["metadata"] == {"size": "1.5"}
    assert (await load_session(await runner.open())).messages[3]["metadata"] == {"size": "1.5"}


@pytest.mark.fault("B7")
async def test_halves_of_surrogates_are_kept_in_events_of_every_form(runner: AgentRunner) -> None:
    def text(delta: Any) -> list[Any]:
        return [
            {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"},
            *(delta if isinstance(delta, list) else [delta]),
            {"type": "TEXT_MESSAGE_END", "messageId": "m"},
        ]

    as_dict = {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": f"é{HALF}!"}
    as_model = TextMessageContentEvent(message_id="m", delta=f"é{HALF}!")
    as_text = '{"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"é\ud83d!"}'
    as_escape = '{"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"é\\ud83d!"}'
    for number, event in enumerate((as_dict, as_model, as_text, as_escape, as_escape.encode())):
        live = await collect(await runner.run(agent_with(*text(event)), make_input(f"t{number}", f"r{number}")))
        assert live[2]["delta"] == f"é{HALF}!"
        stored = await runner.threads.events(f"t{number}")
        assert (await runner.threads.messages(f"t{number}"))[0]["content"] == f"é{HALF}!"
        assert to_model(bytes(stored[2])).model_dump()["delta"] == f"é{HALF}!"
    # Two halves in two deltas are one character once they are compacted.
    halves = [{**as_dict, "delta": half} for half in ("\ud83d", "\ude00")]
    live = await collect(await runner.run(agent_with(*text(halves)), make_input("t9", "r9")))
    assert fold(live).messages == await runner.threads.messages("t9")
    assert (
        "".join(event["delta"] for event in live if "delta" in event).encode("utf-16", "surrogatepass").decode("utf-16")
        == (await runner.threads.messages("t9"))[0]["content"]
    )


@pytest.mark.fault("B7")
async def test_halves_of_surrogates_in_inputs_and_results_are_taken(runner: AgentRunner) -> None:
    content = f"a{HALF}"
    received: list[Any] = []

    async def agent(input: RunAgentInput) -> Any:
        received.append(input.messages[0].content)
        async for event in agent_with(
            {"type": "STATE_SNAPSHOT", "snapshot": {HALF: {1}, "x": content}},
        )(input):
            yield event

    for run in ("r1", "r2"):
        message = {"id": f"m-{run}", "role": "user", "content": content}
        events = await collect(await runner.run(agent, make_input("t1", run, [message])))
        assert events[-1]["type"] == "RUN_FINISHED"
        assert events[0]["input"]["messages"][0]["content"] == content
    assert received == [content, content]
    assert [message["content"] for message in await runner.threads.messages("t1")] == [content, content]

    def look() -> str:
        return content

    model = ScriptedModel(call_tools(("c1", "look", {})), reply(content))
    events = await collect_run(runner, AgentRuntime(model, tools=[Tool(look)]), make_input("t2", "r3", [message]))
    assert events[-1]["type"] == "RUN_FINISHED"
    session = await load_session(await runner.open(), "t2")
    assert [each["content"] for each in session.messages if "content" in each] == [content] * 3
    # A provider receives UTF-8.
    assert [each["content"] for each in model.requests[1].messages if "content" in each] == ["a\ufffd", "a\ufffd"]


@pytest.mark.fault("B7")
def test_keys_with_halves_of_surrogates_are_kept() -> None:
    value = {HALF: 1, OTHER_HALF: ({1.5}, float("nan"), {Color.RED: HALF}), 3: Point(xValue=2)}
    as_json = {HALF: 1, OTHER_HALF: [[1.5], None, {"red": HALF}], "3": {"xValue": 2}}
    assert to_dict(encode({"type": "STATE_SNAPSHOT", "snapshot": value}))["snapshot"] == as_json
    assert to_dict(encode(StateSnapshotEvent(snapshot=value)))["snapshot"] == as_json


def test_plain_events_are_encoded_as_before() -> None:
    assert encode({"a": [1, "é", None, 1.5, True]}) == '{"a":[1,"é",null,1.5,true]}'.encode()
    assert to_dict(encode({"a": 2**70})) == {"a": 2**70}
