"""`compact`, `fold`, `verify`, `expand` and `finalize` against reference results."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentrunner import InvalidEvent, InvalidEventSequence, compact, expand, finalize, fold, verify
from support.events import event_dicts, run_started
from support.fixtures import fixture_lines

COUNTS = {
    "sequential": 120, "interleaved": 200, "hostile": 120, "fold": 200, "verify": 200, "chunks": 200, "finalize": 120,
}  # fmt: skip

Case = dict[str, Any]


def cases(name: str) -> pytest.MarkDecorator:
    lines = fixture_lines(name)
    return pytest.mark.parametrize("case", lines, ids=[line["name"] for line in lines])


def error_of(events: Any) -> str | None:
    """Return the error text of `verify`, or `None` if it accepts the events."""
    try:
        verify(events)
    except InvalidEventSequence as error:
        return str(error)
    return None


def texts(events: list[dict[str, Any]]) -> dict[tuple[str, str | None], bytes]:
    """Return each stream's whole text, as UTF-16.

    The two halves of a character may be in different deltas.
    """
    joined: dict[tuple[str, str | None], bytes] = {}
    for event in events:
        if isinstance(event.get("delta"), str):
            stream = (event["type"], event.get("messageId") or event.get("toolCallId"))
            joined[stream] = joined.get(stream, b"") + event["delta"].encode("utf-16-le", "surrogatepass")
    return joined


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_the_fixtures_are_complete(name: str, count: int) -> None:
    assert len(fixture_lines(name)) == count


@cases("sequential")
def test_one_stream_at_a_time_compacts_as_the_reference_does(case: Case) -> None:
    assert event_dicts(compact(case["events"])) == case["compacted"]


@cases("sequential")
def test_one_stream_at_a_time_folds_as_the_reference_does(case: Case) -> None:
    for events in (case["events"], compact(case["events"])):
        folded = fold(events)
        assert folded.messages == case["messages"]
        assert folded.state == case["state"]


@cases("interleaved")
def test_interleaved_streams_fold_as_the_reference_does(case: Case) -> None:
    folded = fold(case["events"])
    assert folded.messages == case["messages"]
    assert folded.state == case["state"]


@cases("interleaved")
def test_interleaved_streams_compact_faithfully(case: Case) -> None:
    folded = fold(compact(case["events"]))
    assert folded.messages == case["messages"]
    assert folded.state == case["state"]


@cases("interleaved")
def test_interleaved_runs_compacted_apart_fold_the_same(case: Case) -> None:
    runs: list[list[dict[str, Any]]] = []
    for event in case["events"]:
        if event["type"] == "RUN_STARTED" or not runs:
            runs.append([])
        runs[-1].append(event)
    folded = fold([event for run in runs for event in compact(run)])
    assert folded.messages == case["messages"]
    assert folded.state == case["state"]


@cases("interleaved")
def test_interleaved_streams_stay_valid(case: Case) -> None:
    assert (error_of(case["events"]) is None) == case["valid"]
    if case["valid"]:
        verify(compact(case["events"]))


@cases("interleaved")
def test_interleaved_streams_compact_once(case: Case) -> None:
    once = compact(case["events"])
    assert len(once) <= len(case["events"])
    assert [bytes(event) for event in compact(once)] == [bytes(event) for event in once]


@cases("hostile")
def test_hostile_streams_keep_every_byte_of_text(case: Case) -> None:
    assert texts(event_dicts(compact(case["events"]))) == texts(case["events"])


@cases("hostile")
def test_hostile_streams_keep_unknown_events_byte_for_byte(case: Case) -> None:
    written = [json.dumps(event, ensure_ascii=False, separators=(", ", " : ")).encode() for event in case["events"]]
    unmerged = ("NEW_KIND_OF_EVENT", "CUSTOM", "RAW", "STEP_STARTED", "STEP_FINISHED", "TOOL_CALL_RESULT")
    before = [data for data, event in zip(written, case["events"], strict=True) if event["type"] in unmerged]
    assert [bytes(event) for event in compact(written) if event.type in unmerged] == before


@cases("hostile")
def test_hostile_streams_compact_once(case: Case) -> None:
    once = compact(case["events"])
    assert [bytes(event) for event in compact(once)] == [bytes(event) for event in once]


@cases("hostile")
def test_hostile_streams_raise_nothing_of_a_wrong_kind(case: Case) -> None:
    events = case["events"]
    error = error_of(events)
    assert (error is None) == case["valid"]
    bounds = [event["type"] for event in events if event["type"] in ("RUN_STARTED", "RUN_FINISHED", "RUN_ERROR")]
    assert bool(finalize(events)) == (bounds[-1:] in ([], ["RUN_STARTED"]))
    for function in (expand, fold):
        try:
            function(events)
        except InvalidEventSequence as error:
            assert "CHUNK" in str(error)  # noqa: PT017 - only chunks that say nothing may be refused


@cases("fold")
def test_every_kind_of_event_folds_as_the_reference_does(case: Case) -> None:
    folded = fold(case["events"])
    assert folded.messages == case["messages"]
    assert folded.state == case["state"]


@cases("fold")
def test_every_kind_of_event_compacts_faithfully(case: Case) -> None:
    folded = fold(compact(case["events"]))
    assert folded.messages == case["messages"]
    assert folded.state == case["state"]


@cases("fold")
def test_every_kind_of_event_stays_valid(case: Case) -> None:
    assert error_of(case["events"]) is None
    assert error_of(compact(case["events"])) is None


@cases("verify")
def test_verify_says_what_the_reference_says(case: Case) -> None:
    assert (case["error"] is None) == case["valid"]
    assert error_of(case["events"]) == case["error"]


@cases("chunks")
def test_chunks_are_expanded_or_refused_as_the_reference_does(case: Case) -> None:
    if "error" in case:
        with pytest.raises(InvalidEventSequence) as refusal:
            expand(case["events"])
        assert str(refusal.value) == case["error"]
    else:
        assert event_dicts(expand(case["events"])) == case["expanded"]


@cases("finalize")
def test_a_run_cut_short_ends_as_the_reference_ends_it(case: Case) -> None:
    appended = event_dicts(
        finalize(
            case["events"],
            stop_requested=case["stop_requested"],
            interruption_message=case["interruption_message"],
        )
    )
    reference = case["appended"]
    ours = appended[: len(appended) - len(reference)]
    assert appended[len(ours) :] == reference
    # The reference forgets these, and its runs are refused by the clients for it.
    closers = ("REASONING_MESSAGE_END", "REASONING_END", "STEP_FINISHED", "SUBAGENT_FINISHED", "SUBAGENT_ERROR")
    assert {event["type"] for event in ours} <= set(closers)


@cases("finalize")
def test_a_run_cut_short_can_be_verified_when_it_could_be_before(case: Case) -> None:
    if error_of(case["events"]) is None:
        verify([*case["events"], *finalize(case["events"], stop_requested=case["stop_requested"])])


def test_a_stop_closes_what_the_reference_forgets() -> None:
    events = [
        run_started(),
        {"type": "STEP_STARTED", "stepName": "plan"},
        {"type": "SUBAGENT_STARTED", "subagentRunId": "s1", "name": "helper"},
        {"type": "REASONING_START", "messageId": "think"},
        {"type": "REASONING_MESSAGE_START", "messageId": "think", "role": "reasoning"},
        {"type": "TEXT_MESSAGE_START", "messageId": "m1", "role": "assistant"},
    ]
    ending = finalize(events, stop_requested=True)
    assert {"STEP_FINISHED", "REASONING_MESSAGE_END", "REASONING_END", "TEXT_MESSAGE_END"} <= {e.type for e in ending}
    assert any(event.type in ("SUBAGENT_FINISHED", "SUBAGENT_ERROR") for event in ending)
    assert ending[-1].type == "RUN_FINISHED"
    verify([*events, *ending])


@pytest.mark.parametrize("function", [compact, fold, verify, expand, finalize])
@pytest.mark.parametrize(
    "event",
    [b"", b"not json", b"[]", b'"text"', b"{}", b'{"type":1}', b'{"type":"CUSTOM"', {"type": float("nan")}, "\ud800"],
    ids=repr,
)
def test_an_invalid_event_is_refused(function: Any, event: Any) -> None:
    with pytest.raises(InvalidEvent):
        function([run_started(), event])


@pytest.mark.parametrize("function", [compact, fold, verify, expand, finalize])
@pytest.mark.parametrize("events", [b'{"type":"CUSTOM"}', '{"type":"CUSTOM"}', {"type": "CUSTOM"}], ids=repr)
def test_one_event_is_not_an_iterable_of_them(function: Any, events: Any) -> None:
    with pytest.raises(InvalidEvent, match="iterable"):
        function(events)


def test_no_events_are_no_events() -> None:
    assert compact([]) == []
    assert expand([]) == []
    assert fold([]).messages == []
    assert fold([]).state == {}
    verify([])


def test_every_form_of_event_gives_the_same() -> None:
    from ag_ui.core import TextMessageContentEvent

    event = {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m1", "delta": "é"}
    model = TextMessageContentEvent(message_id="m1", delta="é")
    data = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    forms = [event, model, data, data.encode(), bytearray(data.encode()), memoryview(data.encode())]
    compacted = [compact([form]) for form in forms]
    assert compacted == [compacted[0]] * len(forms)
    assert compact(compacted[0]) == compacted[0]


def test_a_message_made_under_the_id_of_an_open_one_keeps_its_place() -> None:
    events = [
        {"type": "RUN_STARTED", "threadId": "t", "runId": "r"},
        {"type": "REASONING_MESSAGE_START", "messageId": "x", "role": "reasoning"},
        {"type": "REASONING_MESSAGE_CONTENT", "messageId": "x", "delta": "a"},
        {"type": "TOOL_CALL_RESULT", "messageId": "x", "toolCallId": "c", "content": "found"},
        {"type": "REASONING_MESSAGE_CONTENT", "messageId": "x", "delta": "b"},
        {"type": "REASONING_MESSAGE_CONTENT", "messageId": "x", "delta": "c"},
        {"type": "REASONING_MESSAGE_END", "messageId": "x"},
        {"type": "RUN_FINISHED", "threadId": "t", "runId": "r"},
    ]
    compacted = compact(events)
    assert len(compacted) == 7
    assert fold(compacted) == fold(events)
    verify(compacted)


def test_a_delta_that_only_looks_like_the_one_before_is_read_whole() -> None:
    head = '{"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"'
    events = [head + 'one"}', head + 'two"}', head + 'three","metadata":{"a":1}}', head + 'four\\"}"}', head + 'five"}']
    (joined,) = compact(events)
    assert joined.to_dict()["delta"] == 'onetwothreefour"}five'
    assert joined.to_dict()["metadata"] == {"a": 1}
    for bad in ('six"', 'six"}}', 'six\n"}', 'six","x":"}'):
        with pytest.raises(InvalidEvent):
            compact([*events, head + bad])
