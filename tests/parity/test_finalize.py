"""The 5 tests of the reference's `finalizeRunEvents`."""

from __future__ import annotations

import json

import pytest

from agentrunner import finalize, verify
from support.events import event_dicts, event_types, run_finished, run_started, text_message, tool_call

OPEN = [
    run_started(),
    text_message("m1", "Hello")[0],
    text_message("m1", "Hello")[1],
    *tool_call("c1", "search", "{}")[:2],
]
ERROR = {"type": "RUN_ERROR", "message": "broken"}


def test_closes_text_and_tool_with_run_finished_when_a_stop_was_requested() -> None:
    appended = event_dicts(finalize(OPEN, stop_requested=True))
    assert event_types(appended) == ["TEXT_MESSAGE_END", "TOOL_CALL_END", "TOOL_CALL_RESULT", "RUN_FINISHED"]
    result = json.loads(appended[2]["content"])
    assert (result["status"], result["reason"]) == ("stopped", "stop_requested")
    # The reference's RUN_FINISHED has no ids, and its own clients refuse it; in a runner, ours has them.
    verify([*OPEN, *appended])


def test_an_abrupt_end_is_an_error() -> None:
    appended = event_dicts(finalize(OPEN))
    assert event_types(appended) == ["TEXT_MESSAGE_END", "TOOL_CALL_END", "TOOL_CALL_RESULT", "RUN_ERROR"]
    result = json.loads(appended[2]["content"])
    assert (result["status"], result["reason"]) == ("error", "missing_terminal_event")
    assert appended[3]["code"] == "INCOMPLETE_STREAM"
    assert "terminal event" in appended[3]["message"]
    verify([*OPEN, *appended])


@pytest.mark.parametrize("terminal", [run_finished(), ERROR], ids=["RUN_FINISHED", "RUN_ERROR"])
def test_appends_nothing_after_a_terminal_event(terminal: dict[str, str]) -> None:
    assert finalize([*OPEN, terminal], stop_requested=True) == []


def test_no_text_message_end_after_a_run_error_from_a_mid_stream_stop() -> None:
    events = [run_started(), text_message("m1", "x")[0], ERROR]
    assert finalize(events, stop_requested=True) == []
    verify(events)
