"""`OpenAIClient` over real HTTP: its requests, its responses, and the end of a connection."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

import agentrunner as ar
from agentrunner.runtime.llm import Finish, LlmRequest, ReasoningDelta, TextDelta, ToolSpec, Usage
from agentrunner.runtime.openai import OpenAIClient
from support.chat_completions import (
    KEY,
    ChatResponse,
    chunk,
    fake_provider,
    text_chunks,
)
from support.openai_requests import HELLO, join_text, read_events, send_request

USAGE = {
    "prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17,
    "prompt_tokens_details": {"cached_tokens": 8}, "completion_tokens_details": {"reasoning_tokens": 2},
}  # fmt: skip


@pytest.mark.parametrize("split_bytes", [None, 1, 2, 3, 7, 64])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
async def test_a_text_arrives_whole_however_its_stream_is_split(split_bytes: int | None, line_end: str) -> None:
    with fake_provider(ChatResponse(text_chunks("Grüße, 世界 🌍 !", usage=USAGE), split_bytes, line_end)) as provider:
        events = await send_request(provider.url)
    assert join_text(events) == "Grüße, 世界 🌍 !"
    assert events[-2:] == [Usage(12, 5, 8, 2), Finish("stop")]
    assert [event for event in events if isinstance(event, Finish)] == [events[-1]]


async def test_a_request_has_the_protocols_fields() -> None:
    tool = ToolSpec("weather", "Tell it.", {"type": "object", "properties": {"city": {"type": "string"}}})
    with fake_provider(ChatResponse(text_chunks("ok"))) as provider:
        await send_request(provider.url, tools=[tool], settings={"temperature": 0.5, "top_k": 3})
    assert provider.requests == [{
        "model": "test", "stream": True, "stream_options": {"include_usage": True}, "temperature": 0.5, "top_k": 3,
        "messages": [{"role": "user", "content": "Hello"}],
        "tools": [{"type": "function", "function": {
            "name": "weather", "description": "Tell it.", "parameters": dict(tool.parameters),
        }}],
    }]  # fmt: skip
    assert provider.headers[0]["authorization"] == f"Bearer {KEY}"


async def test_a_requests_settings_override_the_clients() -> None:
    with fake_provider(ChatResponse(text_chunks("ok"))) as provider:
        async with OpenAIClient("test", base_url=provider.url, settings={"seed": 1, "top_p": 0.1}) as client:
            await read_events(client.stream(LlmRequest(HELLO, settings={"seed": 2})))
            with pytest.raises(ar.LlmRequestInvalid, match="'stream' cannot be a setting"):
                await read_events(client.stream(LlmRequest(HELLO, settings={"stream": False})))
    assert (provider.requests[0]["seed"], provider.requests[0]["top_p"]) == (2, 0.1)


async def test_usage_is_not_requested_if_it_is_turned_off() -> None:
    with fake_provider(ChatResponse(text_chunks("ok"))) as provider:
        events = await send_request(provider.url, usage=False)
    assert "stream_options" not in provider.requests[0]
    assert not any(isinstance(event, Usage) for event in events)


async def test_the_openai_key_is_not_sent_to_another_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-openai")
    with fake_provider(ChatResponse(text_chunks("ok"))) as provider:
        async with OpenAIClient("test", base_url=provider.url) as client:
            await read_events(client.stream(LlmRequest(HELLO)))
    assert "secret" not in provider.headers[0]["authorization"]


async def test_openai_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ar.LlmUnauthorized, match="OPENAI_API_KEY"):
        OpenAIClient("gpt-5")


@pytest.mark.parametrize(
    "options", [{"timeout": 0}, {"timeout": float("nan")}, {"max_retries": -1}, {"max_retries": 1.5}]
)
async def test_invalid_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        OpenAIClient("test", api_key=KEY, **options)
    with pytest.raises(ValueError, match="your own client"):
        OpenAIClient("test", api_key=KEY, client=openai.AsyncOpenAI(api_key=KEY))


@pytest.mark.parametrize("fields", [("reasoning_content",), ("reasoning",), ("reasoning_content", "reasoning")])
async def test_reasoning_is_yielded_once(fields: tuple[str, ...]) -> None:
    thoughts = [chunk(dict.fromkeys(fields, thought)) for thought in ("Let me ", "think.")]
    with fake_provider(ChatResponse([*thoughts, *text_chunks("Yes.")])) as provider:
        events = await send_request(provider.url)
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == "Let me think."
    assert join_text(events) == "Yes."


@pytest.mark.parametrize(("finish_reason", "reason"), [("stop", "stop"), ("length", "length"), ("eos", "other")])
async def test_finish_reasons(finish_reason: str, reason: Any) -> None:
    with fake_provider(ChatResponse(text_chunks("Well", finish=finish_reason))) as provider:
        assert (await send_request(provider.url))[-1] == Finish(reason)


async def test_a_withheld_response_raises() -> None:
    refusal = [chunk({"refusal": "I can"}), chunk({"refusal": "not."}), chunk({}, "stop")]
    for chunks in (text_chunks("Well", finish="content_filter"), refusal):
        with fake_provider(ChatResponse(chunks)) as provider, pytest.raises(ar.LlmRefused) as refused:
            await send_request(provider.url)
    assert refused.value.detail == "I cannot."


async def test_other_choices_and_empty_chunks_are_skipped() -> None:
    other = {"choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "stop"}]}
    empty = {"choices": [{"index": 0, "delta": None, "finish_reason": None}]}
    with fake_provider(ChatResponse([{"choices": []}, empty, other, *text_chunks("yes")])) as provider:
        assert join_text(await send_request(provider.url)) == "yes"


async def test_cancelling_closes_the_connection() -> None:
    with fake_provider(ChatResponse(text_chunks("Well and so on"), pause_after=2)) as provider:
        async with OpenAIClient("test", base_url=provider.url, api_key=KEY) as client:
            events: list[Any] = []
            reading = asyncio.create_task(read_events(client.stream(LlmRequest(HELLO)), events))
            while join_text(events) != "Well and":
                await asyncio.sleep(0.001)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            while not provider.disconnects:
                await asyncio.sleep(0.001)


async def test_closing_the_stream_closes_the_connection() -> None:
    with fake_provider(ChatResponse(text_chunks("Well and so on"), pause_after=2)) as provider:
        async with OpenAIClient("test", base_url=provider.url, api_key=KEY) as client:
            stream = client.stream(LlmRequest(HELLO))
            assert await anext(stream) == TextDelta("Well")
            await stream.aclose()
            while not provider.disconnects:
                await asyncio.sleep(0.001)
