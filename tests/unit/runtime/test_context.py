"""`ContextWindowManager`: every trimmed history fits and is one that a model accepts."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import agentrunner as ar
from agentrunner.runtime.context import ContextWindowManager
from agentrunner.runtime.llm import ToolSpec

TOOL = ToolSpec("look", "Look at it.", {"type": "object", "properties": {}})


def make_message(role: str, content: Any, number: int = 0, **more: Any) -> dict[str, Any]:
    return {"id": f"m{number}", "role": role, "content": content, **more}


def make_calls(*ids: str, content: str | None = None, number: int = 0) -> dict[str, Any]:
    calls = [{"id": key, "type": "function", "function": {"name": "look", "arguments": "{}"}} for key in ids]
    return {"id": f"m{number}", "role": "assistant", "content": content, "toolCalls": calls}


def make_result(key: str, content: Any = "seen", number: int = 0) -> dict[str, Any]:
    return {"id": f"r{number}{key}", "role": "tool", "toolCallId": key, "content": content}


def count_letters(text: str) -> int:
    return len(text)


def list_ids(messages: list[dict[str, Any]]) -> list[str]:
    return [message["id"] for message in messages]


# Any history, including calls without results, results without calls, and two calls with the same id.

_texts = st.text("abc ", max_size=12)


@st.composite
def histories(draw: st.DrawFn, broken: bool = True) -> list[dict[str, Any]]:
    history: list[dict[str, Any]] = []
    call_ids = iter(range(1000))
    kinds = ["user", "assistant", "calls", "calls", "reasoning", "activity", "system", "developer"]
    if broken:
        kinds += ["orphan", "open", "again"]
    for kind in draw(st.lists(st.sampled_from(kinds), max_size=12)):
        number, text = len(history), draw(_texts)
        if kind in ("calls", "open", "again"):
            keys = [f"c{next(call_ids)}" for _ in range(draw(st.integers(1, 3)))]
            if kind == "again" and number:
                keys[-1] = "c0"
            history.append(make_calls(*keys, content=draw(st.sampled_from([None, "", text])), number=number))
            result_count = draw(st.integers(0, len(keys) - 1)) if kind == "open" else len(keys)
            for index, key in enumerate(draw(st.permutations(keys))[:result_count]):
                history.append(make_result(key, draw(_texts), number * 10 + index))
        elif kind == "orphan":
            history.append(make_result(f"unknown{number}", text, number))
        elif kind == "activity":
            history.append({"id": f"m{number}", "role": kind, "activityType": "PLAN", "content": {}})
        elif kind == "user" and draw(st.booleans()):
            picture = {"type": "image", "source": {"type": "url", "value": "http://x"}}
            history.append(make_message(kind, [{"type": "text", "text": text}, picture], number))
        else:
            history.append(make_message(kind, text, number))
    return history


managers = st.builds(
    ContextWindowManager,
    max_tokens=st.none() | st.integers(1, 160),
    max_messages=st.integers(1, 14),
    count=st.just(count_letters),
    media_tokens=st.just(7),
)


def trim(manager: ContextWindowManager, history: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """Return the trimmed history, `None` if the required messages do not fit."""
    try:
        return manager.trim(history, [TOOL])
    except ar.ContextWindowExceeded:
        return None


def assert_valid(messages: list[dict[str, Any]]) -> None:
    """Assert that each message with calls is followed by exactly the results of its calls."""
    open_calls: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            assert message["toolCallId"] in open_calls, "a result without its call"
            open_calls.remove(message["toolCallId"])
            continue
        assert not open_calls, "a call separated from its results"
        assert message["role"] != "activity"
        if message["role"] == "assistant":
            open_calls = [call["id"] for call in message.get("toolCalls") or ()]
            assert open_calls or "toolCalls" not in message
    assert not open_calls, "a call without its results"
    call_ids = [call["id"] for message in messages for call in message.get("toolCalls") or ()]
    assert len(call_ids) == len(set(call_ids)), "two calls with the same id"


@given(managers, histories())
def test_a_trimmed_history_is_valid_and_fits(manager: ContextWindowManager, history: list[dict[str, Any]]) -> None:
    before = copy.deepcopy(history)
    trimmed = trim(manager, history)
    assert history == before, "the arguments are not changed"
    if trimmed is None:
        return
    assert_valid(trimmed)
    assert len(trimmed) <= (manager.max_messages or 0)
    assert manager.max_tokens is None or manager.tokens(trimmed, [TOOL]) <= manager.max_tokens
    prompts = [message for message in history if message["role"] in ("system", "developer")]
    assert [message for message in trimmed if message["role"] in ("system", "developer")] == prompts
    newest = [message for message in history if message["role"] == "user"][-1:]
    assert all(message in trimmed for message in newest)
    assert manager.trim(trimmed, [TOOL]) == trimmed
    # The messages keep their order and content, except that calls without results are removed.
    indexes = [next(n for n, original in enumerate(history) if original["id"] == message["id"]) for message in trimmed]
    turns = [index for index, message in zip(indexes, trimmed, strict=True) if message["role"] != "tool"]
    assert turns == sorted(turns)
    for index, message in zip(indexes, trimmed, strict=True):
        assert {**message, "toolCalls": 0} == {**history[index], "toolCalls": 0}


@given(managers, histories(broken=False))
def test_the_oldest_messages_are_dropped(manager: ContextWindowManager, history: list[dict[str, Any]]) -> None:
    trimmed = trim(manager, history)
    if trimmed is None:
        return
    relevant = [message for message in history if message["role"] != "activity"]
    kept_ids, users = set(list_ids(trimmed)), [message["id"] for message in relevant if message["role"] == "user"]
    dropped = [number for number, message in enumerate(relevant) if message["id"] not in kept_ids]
    if not dropped:
        return
    required = {message["id"] for message in relevant if message["role"] in ("system", "developer")} | set(users[-1:])
    assert all(message["id"] in required for message in relevant[: dropped[-1]] if message["id"] in kept_ids), (
        "there is a gap"
    )
    conversation = [message for message in trimmed if message["role"] not in ("system", "developer")]
    assert not users or conversation[0]["role"] == "user"


@given(histories(), st.integers(1, 160), st.integers(0, 60), st.booleans())
def test_a_larger_window_keeps_at_least_as_much(
    history: list[dict[str, Any]], small: int, more: int, by_messages: bool
) -> None:
    name = "max_messages" if by_messages else "max_tokens"
    smaller, larger = (
        trim(ContextWindowManager(**{name: size}, count=count_letters, media_tokens=7), history)
        for size in (small, small + more)
    )
    if smaller is not None:
        assert larger is not None
        assert set(list_ids(smaller)) <= set(list_ids(larger))


@given(histories(broken=False))
def test_a_history_that_fits_is_unchanged(history: list[dict[str, Any]]) -> None:
    relevant = [message for message in history if message["role"] != "activity"]
    trimmed = ContextWindowManager(max_messages=100).trim(history)
    assert sorted(list_ids(trimmed)) == sorted(list_ids(relevant))
    assert all(any(message is original for original in history) for message in trimmed)


# Single cases

LONG = [
    make_message("system", "Be brief.", 0),
    make_message("user", "One?", 1),
    make_calls("a", "b", number=2),
    make_result("a", number=2),
    make_result("b", number=2),
    make_message("assistant", "One.", 3),
    make_message("user", "Two?", 4),
    make_calls("c", number=5),
    make_result("c", number=5),
]


@pytest.mark.parametrize(
    ("max_messages", "kept_ids"),
    [
        (9, ["m0", "m1", "m2", "r2a", "r2b", "m3", "m4", "m5", "r5c"]),
        (8, ["m0", "m4", "m5", "r5c"]),
        (4, ["m0", "m4", "m5", "r5c"]),
    ],
)
def test_trimming_by_number_of_messages(max_messages: int, kept_ids: list[str]) -> None:
    assert list_ids(ContextWindowManager(max_messages=max_messages).trim(LONG)) == kept_ids


def test_required_messages_that_do_not_fit_raise() -> None:
    with pytest.raises(ar.ContextWindowExceeded, match=r"4 messages \(max_messages is 3\)"):
        ContextWindowManager(max_messages=3).trim(LONG)
    manager = ContextWindowManager(max_tokens=60, count=count_letters)
    with pytest.raises(ar.ContextWindowExceeded, match=r"\d+ tokens \(max_tokens is 60\)") as raised:
        manager.trim(LONG, [TOOL])
    assert isinstance(raised.value, ar.LlmContextTooLong)
    assert not raised.value.retryable


def test_a_long_turn_loses_its_oldest_calls() -> None:
    turn = [make_message("user", "Look!", 0)]
    for number in range(1, 6):
        turn += [make_calls(f"c{number}", number=number), make_result(f"c{number}", number=number)]
    assert list_ids(ContextWindowManager(max_messages=5).trim(turn)) == ["m0", "m4", "r4c4", "m5", "r5c5"]


def test_tools_count_too() -> None:
    history = [
        make_message("user", "x" * 20, 0),
        make_message("assistant", "y" * 20, 1),
        make_message("user", "z" * 20, 2),
    ]
    manager = ContextWindowManager(max_tokens=100, count=count_letters)
    assert len(manager.trim(history)) == 3
    assert len(manager.trim(history, [TOOL])) == 1


def test_pictures_count_as_media_tokens() -> None:
    picture = {"type": "image", "source": {"type": "data", "value": "A" * 100_000, "mimeType": "image/png"}}
    manager = ContextWindowManager(max_tokens=2000, media_tokens=1000)
    assert manager.tokens([make_message("user", [picture])]) == 1004
    assert manager.trim([make_message("user", [picture], 0), make_message("user", [picture], 1)])[0]["id"] == "m1"


def test_the_newer_of_two_results_is_kept() -> None:
    history = [
        make_message("user", "Look!"),
        make_calls("a"),
        make_result("a", "waiting", 1),
        make_result("a", "seen", 2),
    ]
    assert [message["content"] for message in ContextWindowManager(max_messages=9).trim(history)][2:] == ["seen"]


@pytest.mark.parametrize(
    "wrong", [{}, {"max_tokens": 0}, {"max_messages": -1}, {"max_tokens": True}, {"max_messages": 1.5}]
)
def test_invalid_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong), "or both")):
        ContextWindowManager(**wrong)
