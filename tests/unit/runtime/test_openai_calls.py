"""Tool calls in chat completion streams, also of providers that deviate from the docs."""

from __future__ import annotations

import json

import pytest

import agentrunner as ar
from agentrunner.runtime.llm import Finish
from support.chat_completions import (
    ChatResponse,
    call_chunks,
    call_delta,
    chunk,
    fake_provider,
)
from support.openai_requests import TWO_CALLS, collect_calls, join_text, send_request


@pytest.mark.parametrize("split_bytes", [None, 1, 5])
async def test_interleaved_calls(split_bytes: int | None) -> None:
    chunks = call_chunks(*((key, name, json.dumps(args)) for key, name, args in TWO_CALLS), text="Let me look.")
    with fake_provider(ChatResponse(chunks, split_bytes)) as provider:
        events = await send_request(provider.url)
    assert join_text(events) == "Let me look."
    assert collect_calls(events) == TWO_CALLS
    assert events[-1] == Finish("tool_calls")


async def test_ids_and_indexes_may_be_missing_or_wrong() -> None:
    lisbon, wet = '{"city": "Lisbon"}', '{"zone": "WET"}'
    variants = {
        "no ids": [
            call_delta(0, None, "weather", lisbon[:5]),
            call_delta(1, None, "time", wet),
            call_delta(0, None, None, lisbon[5:]),
        ],
        "empty ids": [call_delta(0, "", "weather", lisbon), call_delta(1, "", "time", wet)],
        "no indexes": [
            call_delta(None, "a", "weather", lisbon),
            call_delta(None, "b", "time", wet[:3]),
            call_delta(None, None, None, wet[3:]),
        ],
        "neither": [
            call_delta(None, None, "weather", lisbon[:5]),
            call_delta(None, None, None, lisbon[5:]),
            call_delta(None, None, "time", wet),
        ],
        "all at index 0": [call_delta(0, "a", "weather", lisbon), call_delta(0, "b", "time", wet)],
        "all at index 0, no ids": [call_delta(0, None, "weather", lisbon), call_delta(0, None, "time", wet)],
        "all of one id": [call_delta(0, "x", "weather", lisbon), call_delta(1, "x", "time", wet)],
        "the id with every delta": [
            call_delta(0, "a", "weather", lisbon[:5]),
            call_delta(0, "a", None, lisbon[5:]),
            call_delta(1, "b", "time", wet),
        ],
        "a new id with every delta": [
            call_delta(0, "a", "weather", lisbon[:5]),
            call_delta(0, "c", None, lisbon[5:]),
            call_delta(1, "b", "time", wet),
        ],
        "the name with every delta": [
            call_delta(0, "a", "weather", lisbon[:5]),
            call_delta(0, "a", "weather", lisbon[5:]),
            call_delta(0, "a", "weather", ""),
            call_delta(1, "b", "time", wet),
        ],
        "the name with every delta and nothing else": [
            call_delta(None, None, "weather", lisbon[:5]),
            call_delta(None, None, "weather", lisbon[5:]),
            call_delta(None, None, "time", wet),
        ],
        "no indexes, the name after the first delta": [
            call_delta(None, "a", None, lisbon[:5]),
            call_delta(None, "a", "weather", lisbon[5:]),
            call_delta(None, "b", None, wet[:5]),
            call_delta(None, "b", "time", wet[5:]),
        ],
        "the name after the first delta": [
            call_delta(0, "a", None, lisbon[:5]),
            call_delta(0, None, "weather", lisbon[5:]),
            call_delta(1, "b", "time", wet),
        ],
        "arguments as an object": [
            call_delta(0, "a", "weather", {"city": "Lisbon"}),
            call_delta(1, "b", "time", {"zone": "WET"}),
        ],
    }
    for variant, deltas in variants.items():
        chunks = [*(chunk({"tool_calls": [delta]}) for delta in deltas), chunk({}, "stop")]
        with fake_provider(ChatResponse(chunks)) as provider:
            events = await send_request(provider.url)
        assert [call[1:] for call in collect_calls(events)] == [call[1:] for call in TWO_CALLS], variant
        assert events[-1] == Finish("tool_calls"), variant


async def test_two_calls_of_one_tool_at_one_index() -> None:
    lisbon, porto = '{"city": "Lisbon"}', '{"city": "Porto"}'
    for deltas in (
        [call_delta(0, None, "weather", lisbon), call_delta(0, None, "weather", porto)],
        [
            call_delta(0, "a", "weather", lisbon[:5]),
            call_delta(0, "a", None, lisbon[5:]),
            call_delta(0, "b", "weather", porto),
        ],
    ):
        with fake_provider(ChatResponse([chunk({"tool_calls": deltas}), chunk({}, "tool_calls")])) as provider:
            events = await send_request(provider.url)
        assert [args for _, _, args in collect_calls(events)] == [{"city": "Lisbon"}, {"city": "Porto"}]


@pytest.mark.parametrize("keys", [("a", "b"), (None, None)])
async def test_calls_without_arguments_at_one_index(keys: tuple[str | None, ...]) -> None:
    first, second = keys
    names = ["now", "now"] if first else ["now", "today"]
    deltas = [call_delta(0, first, names[0], ""), call_delta(0, second, names[1], "")]
    with fake_provider(ChatResponse([chunk({"tool_calls": deltas}), chunk({}, "tool_calls")])) as provider:
        events = await send_request(provider.url)
    assert [call[1:] for call in collect_calls(events)] == [(name, {}) for name in names]


async def test_missing_arguments_become_an_empty_object() -> None:
    with fake_provider(
        ChatResponse([chunk({"tool_calls": [call_delta(0, "a", "now", "")]}), chunk({}, "tool_calls")])
    ) as provider:
        events = await send_request(provider.url)
    assert collect_calls(events) == [("a", "now", {})]


async def test_a_call_without_a_name_raises() -> None:
    with (
        fake_provider(
            ChatResponse([chunk({"tool_calls": [call_delta(0, "a", None, "{}")]}), chunk({}, "tool_calls")])
        ) as provider,
        pytest.raises(ar.LlmResponseInvalid, match="without a name"),
    ):
        await send_request(provider.url)
