"""Events with a damaged field: mended or refused, and the same for early and late readers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import _core
from support.agents import agent_with, scripted_agent
from support.events import run_finished, run_started
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import AgentRunner

RESULT = {"type": "TOOL_CALL_RESULT", "messageId": "m", "toolCallId": "c"}
MENDED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "timestamp with a fraction": ({"timestamp": 1754006400.25}, {"timestamp": 1754006400}),
    "ISO timestamp": ({"timestamp": "2025-08-01T00:00:00+00:00"}, {"timestamp": 1754006400000}),
    "null metadata": ({"metadata": None}, {}),
    "object as a result": ({"content": {"a": 1}}, {"content": '{"a":1}'}),
    "null as a result": ({"content": None}, {"content": "null"}),
    "role of a result": ({"role": "assistant"}, {"role": "tool"}),
}


@pytest.mark.fault("B1")
@pytest.mark.parametrize("case", MENDED)
async def test_a_mended_event_is_the_same_early_and_late(case: str, memory_factory: Callable[..., AgentRunner]) -> None:
    damage, mended = MENDED[case]
    runner = memory_factory()
    live = await collect(await runner.run(agent_with({"content": "x", **RESULT, **damage}), make_input()))
    assert live[1] == {"content": "x", **RESULT, **mended}
    assert await collect(await runner.connect("t1")) == live
    assert live[-1]["type"] == "RUN_FINISHED"


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "timestamp of no zone": ({**RESULT, "content": "x", "timestamp": "2025-08-01"}, "`timestamp` must be a time"),
    "result without content": (RESULT, "`content` is missing"),
    "patch that is an object": ({"type": "STATE_DELTA", "delta": {"op": "add"}}, "`delta` must be a list"),
    "patch that is null": ({"type": "STATE_DELTA", "delta": None}, "`delta` must be a list"),
    "unknown operation": ({"type": "STATE_DELTA", "delta": [{"op": "set", "path": "/a"}]}, "`delta[0].op` must be one"),
    "bad pointer": ({"type": "STATE_DELTA", "delta": [{"op": "remove", "path": "a"}]}, "`delta[0].path` must be"),
    "interrupts that are a number": (
        run_finished(outcome={"type": "interrupt", "interrupts": 5}),
        "`outcome.interrupts` must be a list",
    ),
    "interrupt without a reason": (
        run_finished(outcome={"type": "interrupt", "interrupts": [{"id": "i"}]}),
        "`outcome.interrupts[0].reason` is missing",
    ),
    "type that is empty": ({"type": "", "value": 1}, "an event's `type` must not be empty"),
    "content of a message": (
        {"type": "MESSAGES_SNAPSHOT", "messages": [{"id": "m", "role": "user", "content": 5}]},
        "`messages[0].content` must be a string or a list",
    ),
}


@pytest.mark.fault("B1")
@pytest.mark.fault("B2")
@pytest.mark.fault("B3")
@pytest.mark.parametrize("case", REFUSED)
async def test_a_refused_event_ends_the_run_with_its_kind_and_field(
    case: str, memory_factory: Callable[..., AgentRunner]
) -> None:
    event, reason = REFUSED[case]
    runner = memory_factory()
    live = await collect(await runner.run(scripted_agent([run_started(), event]), make_input()))
    assert [each["type"] for each in live] == ["RUN_STARTED", "RUN_ERROR"]
    assert live[-1]["code"] == "INVALID_EVENT"
    kind = f"{event['type']}: " if event["type"] else ""
    assert live[-1]["message"].startswith(f"{kind}{reason}")
    assert await collect(await runner.connect("t1")) == live


@pytest.mark.fault("B1")
@pytest.mark.parametrize("event", [run_started(input=5), {"type": "RUN_ERROR", "message": "no", "usage": 5}])
async def test_a_run_whose_first_event_is_refused_is_stored_with_its_input(
    event: dict[str, Any], memory_factory: Callable[..., AgentRunner]
) -> None:
    runner = memory_factory()
    live = await collect(await runner.run(scripted_agent([event]), make_input(messages=["u1"])))
    assert [each["type"] for each in live] == ["RUN_STARTED", "RUN_ERROR"]
    assert [message["id"] for message in live[0]["input"]["messages"]] == ["u1"]
    assert await collect(await runner.connect("t1")) == live


@pytest.mark.fault("B1")
@pytest.mark.fault("B3")
def test_a_stored_event_is_sent_without_what_no_client_can_read() -> None:
    stored = (
        b'[{"type":"RUN_STARTED","threadId":"t","runId":"r","timestamp":"noon"},{"type":"STATE_DELTA","delta":5},'
        b'{"type":"RUN_FINISHED","threadId":"t","runId":"r","outcome":{"type":"interrupt","interrupts":5}},{"type":""}]'
    )
    frames = _core.run_frames(stored, 7, 0)
    events = [event.to_dict() for event in frames.events()]
    assert events == [run_started("t", "r"), run_finished("t", "r")]
    assert [event.cursor for event in frames.events()] == ["7.0", "7.2"], "what is left out keeps its index"
    assert len(_core.run_frames(stored, 7, 2).events()) == 1
