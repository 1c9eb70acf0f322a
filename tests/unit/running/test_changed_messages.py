"""The list that a run starts from if its client has changed the thread's messages."""

from __future__ import annotations

from typing import Any

import pytest

from agentrunner._codec import decode
from agentrunner.events import fold
from agentrunner.running.changed_messages import find_changed_list, is_rewritten, make_opening

Message = dict[str, Any]


def user(name: str, text: str = "said") -> Message:
    return {"id": name, "role": "user", "content": text}


def answer(name: str, text: str = "answered", *calls: str) -> Message:
    message = {"id": name, "role": "assistant", "content": text}
    if calls:
        function = {"name": "look", "arguments": "{}"}
        message["toolCalls"] = [{"id": call, "type": "function", "function": function} for call in calls]
    return message


def result(name: str, call: str) -> Message:
    return {"id": name, "role": "tool", "toolCallId": call, "content": "found"}


def thought(name: str) -> Message:
    return {"id": name, "role": "reasoning", "content": "hm"}


U1, A1, U2, A2, U3 = user("u1"), answer("a1"), user("u2"), answer("a2"), user("u3")
R1, R2 = thought("r1"), thought("r2")
M1, T1, M2 = answer("m1", "", "c1"), result("t1", "c1"), answer("m2")


def changed_ids(thread: list[Message], sent: list[Message], stored: frozenset[str] = frozenset()) -> list[str] | None:
    stored |= {message["id"] for message in thread}
    changed = find_changed_list(thread, sent, stored)
    return None if changed is None else [message["id"] for message in changed]


@pytest.mark.parametrize(
    ("thread", "sent"),
    [
        ([U1, R1, A1], [U1, R1, A1, U2]),
        ([U1, R1, A1], [U1, A1, U2]),
        ([U1, R1, A1], [A1, U2]),
        ([U1, R1, A1], [U2]),
        ([U1, R1, A1], []),
        ([U1, A1], [U1, A1]),
        ([U1, M1, T1, M2], [U1, M1, M2, U2]),
        ([U1, M1], [U1, M1, T1]),
        ([U1, A1, R1], [U1, A1]),
        ([U1, A1 | {"content": None}], [U1, {"id": "a1", "role": "assistant"}]),
    ],
)
def test_what_clients_send_of_themselves_changes_nothing(thread: list[Message], sent: list[Message]) -> None:
    assert changed_ids(thread, sent) is None


@pytest.mark.parametrize(
    ("thread", "sent", "changed"),
    [
        ([U1, A1], [U1], "u1"),
        ([U1, R1, A1, U2, R2, A2], [U1, R1, A1, U2], "u1 r1 a1 u2"),
        ([U1, R1, A1, U2, R2, A2], [U1, A1, U3], "u1 r1 a1 u3"),
        ([U1, A1, U2, A2], [U1, U2, A2, U3], "u1 u2 a2 u3"),
        ([U1, A1, U2, A2], [U2, A2, U1, A1], "u2 a2 u1 a1"),
        ([U1, A1, U2, A2], [U2, U3], "u1 a1 u2 u3"),
        ([U1, A1], [user("u1", "other"), A1, U2], "u1 a1 u2"),
        ([U1, M1, M2], [U1, M1, T1, M2], "u1 m1 t1 m2"),
        ([U1, M1, T1, M2], [U1, M1, T1 | {"content": "lost"}, M2], "u1 m1 t1 m2"),
        # Messages that the client leaves out stay in place.
        ([U1, R1, M1, T1, M2, U2, R2, A2], [U1, M1, M2, U2], "u1 r1 m1 t1 m2 u2"),
        ([U1, R1, M1, T1, M2], [U1, M1], "u1 r1 m1 t1"),
    ],
)
def test_a_changed_list_is_what_was_sent(thread: list[Message], sent: list[Message], changed: str) -> None:
    assert changed_ids(thread, sent) == changed.split()


def test_a_removed_message_may_come_back() -> None:
    assert changed_ids([U1, A1], [U1, A1, U2]) is None
    assert changed_ids([U1, A1], [U1, A1, U2], frozenset({"u2"})) == ["u1", "a1", "u2"]


@pytest.mark.parametrize(
    ("thread", "new", "changed"),
    [
        ([U1, A1, U2, A2], [U3], [U1, U3]),
        ([U1, A1, U2, A2], [], [U2, A2, U1, A1]),
        ([U1, M1, M2], [T1], [U1, M1, T1, M2]),
        ([U1, A1], [], [user("u1", "other"), A1]),
        ([U1, A1], [], [U1, A1, U2]),
        ([U1, A1], [U2], [U1, U2]),
    ],
)
def test_readers_of_the_opening_have_the_changed_list(
    thread: list[Message], new: list[Message], changed: list[Message]
) -> None:
    opening = make_opening(thread, new, changed, {"seats": 2}, {})
    events = [
        {"type": "RUN_STARTED", "threadId": "t", "runId": "r1", "input": _input("r1", thread)},
        {"type": "RUN_FINISHED", "threadId": "t", "runId": "r1"},
        {"type": "RUN_STARTED", "threadId": "t", "runId": "r2", "input": _input("r2", new)},
        *(decode(event.encode()) for event in opening),
        {"type": "RUN_FINISHED", "threadId": "t", "runId": "r2"},
    ]
    folded = fold(events)
    assert folded.messages == changed
    assert folded.state == {"seats": 2}


def test_an_equal_or_empty_state_is_not_sent_again() -> None:
    for state in ({}, None, {"seats": 1}):
        assert len(make_opening([U1, A1], [], [U1], state, {"seats": 1})) == 1


def _input(run_id: str, messages: list[Message]) -> dict[str, Any]:
    return {"threadId": "t", "runId": run_id, "messages": messages, "tools": [], "context": [], "state": {}}


def test_a_text_cut_short_is_not_rewritten() -> None:
    stored = answer("a1", "Hello, world")
    assert not is_rewritten(answer("a1", "Hello"), stored)
    assert not is_rewritten(stored, stored)
    assert is_rewritten(answer("a1", "Hello, you"), stored)
    assert not is_rewritten(answer("a1", "Hello"), answer("a1", "Hello, world", "c1"))
    assert is_rewritten(answer("a1", "Hello", "c1"), stored)
    assert is_rewritten({**T1, "content": "fou"}, T1)
    assert is_rewritten({**stored, "role": "system"}, stored)


@pytest.mark.parametrize(
    ("thread", "sent", "unseen", "changed"),
    [
        ([U1, A1, U2, R2, A2], [U1, A1, U3], "u2 r2 a2", None),
        ([U1, A1], [U1, U3], "a1", None),
        ([U1, M1, T1, M2], [U1, U3], "m1 t1 m2", None),
        # Changes to messages that the client had seen count.
        ([U1, A1, U2, A2], [U1, A1, U2, U3], "a2", None),
        ([U1, A1, U2, A2], [U1, A1, U2 | {"content": "other"}, U3], "a2", "u1 a1 u2 a2 u3"),
        ([U1, A1, U2, A2], [U1, U3], "u2 a2", "u1 u3"),
        ([U1, A1, U2, M1, T1, M2], [user("u1", "other"), A1, U3], "u2 m1 t1 m2", "u1 a1 u2 m1 t1 m2 u3"),
        ([U1, A1, U2, A2], [U1, A1, U2, answer("a2", "ans"), U3], "a2", "u1 a1 u2 a2 u3"),
    ],
)
def test_what_a_client_had_not_seen_is_not_left_out(
    thread: list[Message], sent: list[Message], unseen: str, changed: str | None
) -> None:
    messages = find_changed_list(thread, sent, {message["id"] for message in thread}, unseen.split())
    assert messages is None if changed is None else [message["id"] for message in messages or ()] == changed.split()
