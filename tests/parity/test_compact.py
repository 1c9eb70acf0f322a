"""The 41 tests of the reference's compaction, by name.

Where this project departs, the name says so; `docs/compatibility.md` has the reasons.
"""

from __future__ import annotations

import copy
from typing import Any

from agentrunner import compact, fold, verify
from support.events import event_dicts, event_types, run_finished, run_started, text_message, tool_call

Events = list[dict[str, Any]]


def custom(name: str, value: Any = None) -> dict[str, Any]:
    return {"type": "CUSTOM", "name": name, "value": value or {}}


def snapshot(value: Any, **fields: Any) -> dict[str, Any]:
    return {"type": "STATE_SNAPSHOT", "snapshot": value, **fields}


def patch(*operations: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"type": "STATE_DELTA", "delta": list(operations), **fields}


def replace(path: str, value: Any) -> dict[str, Any]:
    return {"op": "replace", "path": path, "value": value}


def add(path: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}


def content(message: str, delta: str, **fields: Any) -> dict[str, Any]:
    return {"type": "TEXT_MESSAGE_CONTENT", "messageId": message, "delta": delta, **fields}


def args(call: str, delta: str, **fields: Any) -> dict[str, Any]:
    return {"type": "TOOL_CALL_ARGS", "toolCallId": call, "delta": delta, **fields}


def start(message: str, **fields: Any) -> dict[str, Any]:
    return {"type": "TEXT_MESSAGE_START", "messageId": message, "role": "assistant", **fields}


def end(message: str, **fields: Any) -> dict[str, Any]:
    return {"type": "TEXT_MESSAGE_END", "messageId": message, **fields}


def call(id_: str, name: str = "search", **fields: Any) -> dict[str, Any]:
    return {"type": "TOOL_CALL_START", "toolCallId": id_, "toolCallName": name, **fields}


def call_end(id_: str, **fields: Any) -> dict[str, Any]:
    return {"type": "TOOL_CALL_END", "toolCallId": id_, **fields}


def shorten(*events: dict[str, Any]) -> Events:
    """Compact events, and check what holds for every stream."""
    before = copy.deepcopy(events)
    result = compact(events)
    assert events == before
    assert fold(result) == fold(events)
    assert compact(result) == result
    return event_dicts(result)


def only(events: Events, kind: str) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == kind]


# compact.test.ts


def test_compact_multiple_text_message_content_events_into_one() -> None:
    assert shorten(*text_message("m1", "Hello", " ", "world")) == text_message("m1", "Hello world")


def test_move_interleaved_events_to_after_text_message_events() -> None:
    events = [start("m1"), content("m1", "Process"), custom("one"), content("m1", "ing..."), custom("two"), end("m1")]
    assert shorten(*events) == [*text_message("m1", "Processing..."), custom("one"), custom("two")]


def test_handle_multiple_messages_independently() -> None:
    assert shorten(*text_message("m1", "Hi"), *text_message("m2", "Hello", " there", role="user")) == [
        *text_message("m1", "Hi"),
        *text_message("m2", "Hello there", role="user"),
    ]


def test_handle_incomplete_messages() -> None:
    assert shorten(start("m1"), content("m1", "Incomp"), content("m1", "lete")) == [
        start("m1"),
        content("m1", "Incomplete"),
    ]


def test_pass_through_non_text_message_events_unchanged() -> None:
    events = [custom("one"), call("c1"), call_end("c1")]
    assert shorten(*events) == events


def test_handle_empty_content_deltas() -> None:
    assert shorten(*text_message("m1", "", "Hello", "")) == text_message("m1", "Hello")


def test_compact_multiple_tool_call_args_events_into_one() -> None:
    assert shorten(*tool_call("c1", "search", '{"query": "', "weather", ' today"}')) == tool_call(
        "c1", "search", '{"query": "weather today"}'
    )


def test_move_interleaved_events_to_after_tool_call_events() -> None:
    events = [call("c1"), args("c1", '{"a"'), custom("one"), args("c1", ":1}"), custom("two"), call_end("c1")]
    assert shorten(*events) == [
        call("c1"),
        args("c1", '{"a":1}'),
        call_end("c1"),
        custom("one"),
        custom("two"),
    ]


def test_handle_multiple_tool_calls_independently() -> None:
    assert shorten(*tool_call("c1", "search", '{"q"', ":1}"), *tool_call("c2", "book", "{", "}")) == [
        *tool_call("c1", "search", '{"q":1}'),
        *tool_call("c2", "book", "{}"),
    ]


def test_handle_incomplete_tool_calls() -> None:
    assert shorten(call("c1"), args("c1", '{"in'), args("c1", "comp")) == [call("c1"), args("c1", '{"incomp')]


def test_handle_empty_args_deltas() -> None:
    assert shorten(*tool_call("c1", "t", "", '{"test": true}', "")) == tool_call("c1", "t", '{"test": true}')


def test_handle_text_messages_and_tool_calls_together() -> None:
    assert shorten(*text_message("m1", "I'll ", "search"), *tool_call("c1", "search", "{", "}")) == [
        *text_message("m1", "I'll search"),
        *tool_call("c1", "search", "{}"),
    ]


def test_compact_multiple_state_snapshots_into_one_per_run() -> None:
    states = [snapshot({"count": n}) for n in (1, 2, 3)]
    assert shorten(run_started(), *states, run_finished()) == [
        run_started(),
        snapshot({"count": 3}),
        run_finished(),
    ]


def test_compact_snapshot_and_deltas_into_a_single_snapshot() -> None:
    events = [
        run_started(),
        snapshot({"count": 0}),
        patch(replace("/count", 2)),
        patch(add("/name", "test")),
        run_finished(),
    ]
    assert shorten(*events) == [run_started(), snapshot({"count": 2, "name": "test"}), run_finished()]


def test_keep_deltas_only_as_they_are() -> None:
    events = [run_started(), patch(add("/foo", "bar")), patch(add("/baz", 42)), run_finished()]
    assert shorten(*events) == events


def test_handle_snapshot_followed_by_delta_that_overwrites_it() -> None:
    events = [snapshot({"a": 1, "b": 2}), patch({"op": "remove", "path": "/b"}, add("/c", 3))]
    assert shorten(*events) == [snapshot({"a": 1, "c": 3})]


def test_handle_multiple_runs_independently() -> None:
    first = [run_started(), snapshot({"step": 1}), patch(replace("/step", 2)), run_finished()]
    second = [run_started(run="r2"), snapshot({"step": 10}), snapshot({"step": 20}), run_finished(run="r2")]
    assert shorten(*first, *second) == [
        run_started(), snapshot({"step": 2}), run_finished(),
        run_started(run="r2"), snapshot({"step": 20}), run_finished(run="r2"),
    ]  # fmt: skip


def test_emit_no_state_snapshot_when_there_are_no_state_events() -> None:
    events = [run_started(), *text_message("m1", "Hello"), run_finished()]
    assert shorten(*events) == events


def test_handle_state_events_outside_of_runs() -> None:
    assert shorten(snapshot({"x": 1}), patch(replace("/x", 2))) == [snapshot({"x": 2})]


def test_handle_snapshot_after_deltas_within_a_run() -> None:
    events = [
        run_started(), snapshot({"old": True}), patch(add("/more", 1)),
        snapshot({"fresh": True}), patch(add("/extra", 1)), run_finished(),
    ]  # fmt: skip
    assert shorten(*events) == [run_started(), snapshot({"fresh": True, "extra": 1}), run_finished()]


def test_preserve_non_state_events_alongside_state_compaction() -> None:
    events = [
        run_started(),
        snapshot({"count": 0}),
        *text_message("m1", "a", "b"),
        patch(replace("/count", 1)),
        run_finished(),
    ]
    assert shorten(*events) == [
        run_started(),
        *text_message("m1", "ab"),
        snapshot({"count": 1}),
        run_finished(),
    ]


def test_flush_state_events_before_run_started_when_they_precede_any_run() -> None:
    events = [snapshot({"preRun": True}), run_started(), snapshot({"inRun": True}), run_finished()]
    assert shorten(*events) == events


def test_flush_state_events_between_runs() -> None:
    between = [snapshot({"between": True}), patch(add("/extra", 1))]
    first, second = [run_started(), snapshot({"a": 1}), run_finished()], [run_started(run="r2"), snapshot({"b": 1})]
    result = shorten(*first, *between, *second, run_finished(run="r2"))
    assert result == [*first, snapshot({"between": True, "extra": 1}), *second, run_finished(run="r2")]


def test_flush_state_on_run_error() -> None:
    error = {"type": "RUN_ERROR", "message": "broken"}
    events = [run_started(), snapshot({"count": 0}), patch(replace("/count", 5)), error]
    assert shorten(*events) == [run_started(), snapshot({"count": 5}), error]


def test_handle_complex_nested_state_with_json_patch_operations() -> None:
    events = [
        snapshot({"users": [{"name": "Ann"}], "settings": {"theme": {"dark": False}}}),
        patch(add("/users/-", {"name": "Bob"})),
        patch(replace("/settings/theme/dark", True)),
    ]
    nested = {"users": [{"name": "Ann"}, {"name": "Bob"}], "settings": {"theme": {"dark": True}}}
    assert shorten(*events) == [snapshot(nested)]


# compact-metadata.test.ts


def test_merge_metadata_from_every_content_event() -> None:
    result = shorten(
        start("m1"),
        content("m1", "a", metadata={"source": "openai", "chunk": 1}),
        content("m1", "b", metadata={"chunk": 2}),
        end("m1"),
    )
    assert result == [start("m1"), content("m1", "ab", metadata={"source": "openai", "chunk": 2}), end("m1")]


def test_leave_compacted_content_without_metadata_when_none_carried_any() -> None:
    result = shorten(*text_message("m1", "a", "b"))
    assert "metadata" not in result[1]


def test_merge_metadata_from_every_tool_args_event() -> None:
    result = shorten(
        call("c1"),
        args("c1", "{", metadata={"part": 1, "tags": ["x"]}),
        args("c1", "}", metadata={"part": 2, "tags": ["a"]}),
        call_end("c1"),
    )
    assert result == [call("c1"), args("c1", "{}", metadata={"part": 2, "tags": ["a"]}), call_end("c1")]


def test_merge_metadata_from_every_state_event() -> None:
    result = shorten(
        snapshot({"n": 1}, metadata={"origin": "server", "revision": 1}),
        patch(replace("/n", 2), metadata={"revision": 2}),
    )
    assert result == [snapshot({"n": 2}, metadata={"origin": "server", "revision": 2})]


def test_replace_a_metadata_value_wholesale() -> None:
    result = shorten(
        start("m1"),
        content("m1", "a", metadata={"nested": {"a": 1, "b": 2}}),
        content("m1", "b", metadata={"nested": {"c": 3}}),
        end("m1"),
    )
    assert result[1]["metadata"] == {"nested": {"c": 3}}


def test_keep_start_and_end_metadata_untouched() -> None:
    result = shorten(
        start("m1", metadata={"phase": "start"}),
        content("m1", "a", metadata={"phase": "content"}),
        end("m1", metadata={"phase": "end"}),
    )
    assert [event["metadata"] for event in result] == [{"phase": "start"}, {"phase": "content"}, {"phase": "end"}]


INTERLEAVED = [
    call("tc1", metadata={"who": "one"}),
    call("tc2", metadata={"who": "two"}),
    args("tc1", "{", metadata={"part": "1a"}),
    args("tc2", "{", metadata={"part": "2a"}),
    args("tc2", "}", metadata={"part": "2b"}),
    call_end("tc2", metadata={"end": "two"}),
    args("tc1", "}", metadata={"part": "1b"}),
    call_end("tc1", metadata={"end": "one"}),
]


def test_parallel_tool_calls_keep_their_order_and_each_its_metadata() -> None:
    result = shorten(*INTERLEAVED)
    assert [event["toolCallId"] for event in only(result, "TOOL_CALL_START")] == ["tc1", "tc2"]
    assert [event["metadata"] for event in result] == [
        {"who": "one"}, {"part": "1b"}, {"end": "one"}, {"who": "two"}, {"part": "2b"}, {"end": "two"},
    ]  # fmt: skip


def test_merge_metadata_of_a_replayed_tool_start_before_end() -> None:
    result = shorten(call("c1", metadata={"a": 1}), call("c1", metadata={"b": 2}), args("c1", "{}"), call_end("c1"))
    assert result == [call("c1", metadata={"a": 1, "b": 2}), args("c1", "{}"), call_end("c1")]


def test_merge_metadata_of_a_replayed_text_start_before_end() -> None:
    result = shorten(start("m1", metadata={"a": 1}), start("m1", metadata={"b": 2}), content("m1", "x"), end("m1"))
    assert result == [start("m1", metadata={"a": 1, "b": 2}), content("m1", "x"), end("m1")]


def test_the_replayed_start_wins_a_contended_key() -> None:
    result = shorten(start("m1", metadata={"a": 1}), start("m1", metadata={"a": 2}), end("m1"))
    assert result == [start("m1", metadata={"a": 2}), end("m1")]


def test_a_start_replayed_after_a_content_delta_keeps_arrival_order() -> None:
    result = shorten(
        start("m1", metadata={"phase": "start"}),
        content("m1", "a", metadata={"phase": "content"}),
        start("m1", metadata={"phase": "replay"}),
        end("m1"),
    )
    assert [event["metadata"]["phase"] for event in result if "metadata" in event] == ["start", "content", "replay"]


def test_interleaved_starts_and_args_fold_to_the_last_word() -> None:
    events = [
        call("c1", metadata={"phase": "a"}), args("c1", "{", metadata={"phase": "args"}),
        call("c1", metadata={"phase": "b"}), args("c1", "}"), call("c1", metadata={"phase": "c"}), call_end("c1"),
    ]  # fmt: skip
    result = shorten(*events)
    assert "".join(event["delta"] for event in only(result, "TOOL_CALL_ARGS")) == "{}"
    assert [event["metadata"]["phase"] for event in only(result, "TOOL_CALL_START")] == ["a", "b", "c"]


def test_a_corrected_tool_name_in_a_replayed_start_wins() -> None:
    early = shorten(call("c1", "serch"), call("c1", "search"), args("c1", "{}"), call_end("c1"))
    assert early == tool_call("c1", "search", "{}")
    late = [
        call("c1", "serch", metadata={"phase": "start"}),
        args("c1", "{}"),
        call("c1", "search", metadata={"phase": "replay"}),
        call_end("c1"),
    ]
    starts = only(shorten(*late), "TOOL_CALL_START")
    assert [(event["toolCallName"], event["metadata"]["phase"]) for event in starts] == [
        ("serch", "start"),
        ("search", "replay"),
    ]


def test_a_corrected_text_name_wins() -> None:
    # No valid stream repeats a START. The reducer keeps the name of the first one, so here replay and fold differ.
    result = event_dicts(compact([start("m1", name="Bto"), start("m1", name="Bot"), content("m1", "x"), end("m1")]))
    assert result == [start("m1", name="Bot"), content("m1", "x"), end("m1")]


def test_a_compacted_replay_gives_the_same_metadata_for_interleaved_parallel_calls() -> None:
    events = [run_started(), *INTERLEAVED, run_finished()]
    result = compact(events)
    verify(events)
    verify(result)
    assert event_types(result) == [
        "RUN_STARTED",
        *["TOOL_CALL_START", "TOOL_CALL_ARGS", "TOOL_CALL_END"] * 2,
        "RUN_FINISHED",
    ]
    calls = fold(result).messages
    assert calls == fold(events).messages
    assert [c["metadata"]["end"] for message in calls for c in message["toolCalls"]] == ["one", "two"]


def test_a_compacted_replay_gives_the_same_metadata_when_start_is_replayed_mid_args() -> None:
    events = [*INTERLEAVED[:3], call("tc1", metadata={"who": "again"}), *INTERLEAVED[3:]]
    assert fold(compact(events)) == fold(events)
    assert [c["metadata"]["who"] for m in fold(events).messages for c in m["toolCalls"]] == ["again", "two"]
