"""`ContextWindowManager`: what is left of any history is one a model takes, and within the window."""

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


def said(role: str, content: Any, number: int = 0, **more: Any) -> dict[str, Any]:
    return {"id": f"m{number}", "role": role, "content": content, **more}


def called(*ids: str, content: str | None = None, number: int = 0) -> dict[str, Any]:
    calls = [{"id": key, "type": "function", "function": {"name": "look", "arguments": "{}"}} for key in ids]
    return {"id": f"m{number}", "role": "assistant", "content": content, "toolCalls": calls}


def result(key: str, content: Any = "seen", number: int = 0) -> dict[str, Any]:
    return {"id": f"r{number}{key}", "role": "tool", "toolCallId": key, "content": content}


def letters(text: str) -> int:
    return len(text)


def ids(messages: list[dict[str, Any]]) -> list[str]:
    return [message["id"] for message in messages]


# Any history: also such with calls nobody answered, results nobody asked for, two calls of one id.

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
            history.append(called(*keys, content=draw(st.sampled_from([None, "", text])), number=number))
            answered = draw(st.integers(0, len(keys) - 1)) if kind == "open" else len(keys)
            for place, key in enumerate(draw(st.permutations(keys))[:answered]):
                history.append(result(key, draw(_texts), number * 10 + place))
        elif kind == "orphan":
            history.append(result(f"nobody{number}", text, number))
        elif kind == "activity":
            history.append({"id": f"m{number}", "role": kind, "activityType": "PLAN", "content": {}})
        elif kind == "user" and draw(st.booleans()):
            picture = {"type": "image", "source": {"type": "url", "value": "http://x"}}
            history.append(said(kind, [{"type": "text", "text": text}, picture], number))
        else:
            history.append(said(kind, text, number))
    return history


managers = st.builds(
    ContextWindowManager,
    max_tokens=st.none() | st.integers(1, 160),
    max_messages=st.integers(1, 14),
    count=st.just(letters),
    media_tokens=st.just(7),
)


def trimmed(manager: ContextWindowManager, history: list[dict[str, Any]]) -> list[dict[str, Any]] | None:
    """Give what is left; `None` where not even that fits which must be kept."""
    try:
        return manager.trim(history, [TOOL])
    except ar.ContextWindowExceeded:
        return None


def assert_valid(messages: list[dict[str, Any]]) -> None:
    """Assert that a model's service takes it: a call's results behind it, all of them, and no others."""
    open_calls: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            assert message["toolCallId"] in open_calls, "a result without its call"
            open_calls.remove(message["toolCallId"])
            continue
        assert not open_calls, "a call parted from its results"
        assert message["role"] != "activity"
        if message["role"] == "assistant":
            open_calls = [call["id"] for call in message.get("toolCalls") or ()]
            assert open_calls or "toolCalls" not in message
    assert not open_calls, "a call without its results"
    every = [call["id"] for message in messages for call in message.get("toolCalls") or ()]
    assert len(every) == len(set(every)), "two calls of one id"


@given(managers, histories())
def test_what_is_left_is_valid_and_fits(manager: ContextWindowManager, history: list[dict[str, Any]]) -> None:
    before = copy.deepcopy(history)
    left = trimmed(manager, history)
    assert history == before, "what is given is not changed"
    if left is None:
        return
    assert_valid(left)
    assert len(left) <= (manager.max_messages or 0)
    assert manager.max_tokens is None or manager.tokens(left, [TOOL]) <= manager.max_tokens
    prompts = [message for message in history if message["role"] in ("system", "developer")]
    assert [message for message in left if message["role"] in ("system", "developer")] == prompts
    newest = [message for message in history if message["role"] == "user"][-1:]
    assert all(message in left for message in newest)
    assert manager.trim(left, [TOOL]) == left
    # In order, and as they were, but for calls nobody answered.
    places = [next(n for n, given in enumerate(history) if given["id"] == message["id"]) for message in left]
    turns = [place for place, message in zip(places, left, strict=True) if message["role"] != "tool"]
    assert turns == sorted(turns)
    for place, message in zip(places, left, strict=True):
        assert {**message, "toolCalls": 0} == {**history[place], "toolCalls": 0}


@given(managers, histories(broken=False))
def test_what_is_left_out_is_the_oldest(manager: ContextWindowManager, history: list[dict[str, Any]]) -> None:
    left = trimmed(manager, history)
    if left is None:
        return
    told = [message for message in history if message["role"] != "activity"]
    kept, users = set(ids(left)), [message["id"] for message in told if message["role"] == "user"]
    gone = [number for number, message in enumerate(told) if message["id"] not in kept]
    if not gone:
        return
    always = {message["id"] for message in told if message["role"] in ("system", "developer")} | set(users[-1:])
    assert all(message["id"] in always for message in told[: gone[-1]] if message["id"] in kept), "there is a gap"
    talk = [message for message in left if message["role"] not in ("system", "developer")]
    assert not users or talk[0]["role"] == "user"


@given(histories(), st.integers(1, 160), st.integers(0, 60), st.booleans())
def test_more_room_shows_more(history: list[dict[str, Any]], small: int, more: int, by_messages: bool) -> None:
    name = "max_messages" if by_messages else "max_tokens"
    little, much = (
        trimmed(ContextWindowManager(**{name: size}, count=letters, media_tokens=7), history)
        for size in (small, small + more)
    )
    if little is not None:
        assert much is not None
        assert set(ids(little)) <= set(ids(much))


@given(histories(broken=False))
def test_what_fits_is_left_alone(history: list[dict[str, Any]]) -> None:
    told = [message for message in history if message["role"] != "activity"]
    left = ContextWindowManager(max_messages=100).trim(history)
    assert sorted(ids(left)) == sorted(ids(told))
    assert all(any(message is given for given in history) for message in left)


# Single cases.

LONG = [
    said("system", "Be brief.", 0),
    said("user", "One?", 1),
    called("a", "b", number=2),
    result("a", number=2),
    result("b", number=2),
    said("assistant", "One.", 3),
    said("user", "Two?", 4),
    called("c", number=5),
    result("c", number=5),
]


@pytest.mark.parametrize(
    ("room", "left"),
    [
        (9, ["m0", "m1", "m2", "r2a", "r2b", "m3", "m4", "m5", "r5c"]),
        (8, ["m0", "m4", "m5", "r5c"]),
        (4, ["m0", "m4", "m5", "r5c"]),
    ],
)
def test_by_messages(room: int, left: list[str]) -> None:
    assert ids(ContextWindowManager(max_messages=room).trim(LONG)) == left


def test_what_must_be_kept_and_does_not_fit_is_an_error() -> None:
    with pytest.raises(ar.ContextWindowExceeded, match=r"4 messages \(max_messages is 3\)"):
        ContextWindowManager(max_messages=3).trim(LONG)
    manager = ContextWindowManager(max_tokens=60, count=letters)
    with pytest.raises(ar.ContextWindowExceeded, match=r"\d+ tokens \(max_tokens is 60\)") as raised:
        manager.trim(LONG, [TOOL])
    assert isinstance(raised.value, ar.LlmContextTooLong)
    assert not raised.value.retryable


def test_a_long_turn_loses_its_oldest_calls() -> None:
    turn = [said("user", "Look!", 0)]
    for number in range(1, 6):
        turn += [called(f"c{number}", number=number), result(f"c{number}", number=number)]
    assert ids(ContextWindowManager(max_messages=5).trim(turn)) == ["m0", "m4", "r4c4", "m5", "r5c5"]


def test_tools_take_room_too() -> None:
    history = [said("user", "x" * 20, 0), said("assistant", "y" * 20, 1), said("user", "z" * 20, 2)]
    manager = ContextWindowManager(max_tokens=100, count=letters)
    assert len(manager.trim(history)) == 3
    assert len(manager.trim(history, [TOOL])) == 1


def test_pictures_cost_what_is_said() -> None:
    picture = {"type": "image", "source": {"type": "data", "value": "A" * 100_000, "mimeType": "image/png"}}
    manager = ContextWindowManager(max_tokens=2000, media_tokens=1000)
    assert manager.tokens([said("user", [picture])]) == 1004
    assert manager.trim([said("user", [picture], 0), said("user", [picture], 1)])[0]["id"] == "m1"


def test_the_newest_of_two_results_counts() -> None:
    history = [said("user", "Look!"), called("a"), result("a", "waiting", 1), result("a", "seen", 2)]
    assert [message["content"] for message in ContextWindowManager(max_messages=9).trim(history)][2:] == ["seen"]


@pytest.mark.parametrize(
    "wrong", [{}, {"max_tokens": 0}, {"max_messages": -1}, {"max_tokens": True}, {"max_messages": 1.5}]
)
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong), "or both")):
        ContextWindowManager(**wrong)
