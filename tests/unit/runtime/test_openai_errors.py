"""Provider and connection errors of chat completions, as this package's exceptions."""

from __future__ import annotations

import traceback
from typing import Any

import pytest

import agentrunner as ar
from agentrunner.runtime.llm import Finish, LlmRequest
from agentrunner.runtime.openai import OpenAIClient
from support.chat_completions import (
    DISCONNECT,
    KEY,
    ChatResponse,
    ErrorResponse,
    chunk,
    fake_provider,
    text_chunks,
)
from support.openai_requests import HELLO, join_text, read_events, send_request


def error_body(message: str, code: Any = None, kind: str | None = None, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "code": code, "type": kind, "param": param}}


IN_7_SECONDS = {"retry-after": "7"}
FAILURES: list[tuple[ErrorResponse, type[ar.LlmError]]] = [
    (ErrorResponse(401, error_body(f"Incorrect API key provided: {KEY}", "invalid_api_key")), ar.LlmUnauthorized),
    (ErrorResponse(403, error_body("no access to the model")), ar.LlmUnauthorized),
    (ErrorResponse(403, error_body("input was flagged by moderation")), ar.LlmRefused),
    (ErrorResponse(402, error_body("Insufficient credits")), ar.LlmQuotaExhausted),
    (ErrorResponse(429, error_body("You exceeded your current quota", "insufficient_quota")), ar.LlmQuotaExhausted),
    (
        ErrorResponse(429, error_body("Rate limit reached", "rate_limit_exceeded"), {"retry-after": "7"}),
        ar.LlmRateLimited,
    ),
    (ErrorResponse(429, error_body("quota exceeded this minute"), IN_7_SECONDS), ar.LlmRateLimited),
    (ErrorResponse(500, error_body("The server had an error")), ar.LlmOverloaded),
    (ErrorResponse(503, "<html>Service unavailable</html>"), ar.LlmOverloaded),
    (ErrorResponse(529, error_body("Overloaded")), ar.LlmOverloaded),
    (ErrorResponse(400, error_body("too long", "context_length_exceeded")), ar.LlmContextTooLong),
    (ErrorResponse(400, error_body("This model's maximum context length is 8192 tokens.")), ar.LlmContextTooLong),
    (ErrorResponse(400, error_body("prompt is too long: 9 tokens > 8 maximum")), ar.LlmContextTooLong),
    (ErrorResponse(413, "too large"), ar.LlmContextTooLong),
    (ErrorResponse(400, error_body("The response was filtered", "content_filter")), ar.LlmRefused),
    (ErrorResponse(404, error_body("no such model", "model_not_found")), ar.LlmRequestInvalid),
    (
        ErrorResponse(400, error_body("Unsupported parameter", "unsupported_parameter", param="max_tokens")),
        ar.LlmRequestInvalid,
    ),
    (ErrorResponse(422, {"detail": [{"loc": ["body"], "msg": "wrong", "input": "Hello"}]}), ar.LlmRequestInvalid),
]


@pytest.mark.parametrize(("response", "error_class"), FAILURES, ids=[f"{f.status}-{k.__name__}" for f, k in FAILURES])
async def test_http_errors_raise_typed_exceptions(response: ErrorResponse, error_class: type[ar.LlmError]) -> None:
    with fake_provider(response) as provider, pytest.raises(ar.LlmError) as raised:
        await send_request(provider.url)
    error = raised.value
    assert type(error) is error_class
    assert error.status == response.status
    assert error.retry_after == (7.0 if "retry-after" in response.headers else None)
    assert error.retryable == (error_class in (ar.LlmRateLimited, ar.LlmOverloaded))
    assert "test" in str(error)
    assert len(provider.requests) == 1, "the request is not repeated"


async def test_error_texts_contain_no_key_and_nothing_of_the_request() -> None:
    for response in (FAILURES[0][0], ErrorResponse(400, error_body(f"cannot parse 'Hello' with Bearer {KEY}"))):
        with fake_provider(response) as provider, pytest.raises(ar.LlmError) as raised:
            await send_request(provider.url)
        assert "Hello" not in str(raised.value)
        logged = "".join(traceback.format_exception(raised.value))
        assert KEY not in logged
        assert "the provider said:" in logged


async def test_an_unsupported_parameter_is_named() -> None:
    with (
        fake_provider(FAILURES[16][0]) as provider,
        pytest.raises(ar.LlmRequestInvalid, match=r"400.*unsupported.*max_tokens"),
    ):
        await send_request(provider.url)


async def test_a_request_is_repeated_max_retries_times() -> None:
    soon = {"retry-after-ms": "1"}
    limited, overloaded = (
        ErrorResponse(429, error_body("slow down"), soon),
        ErrorResponse(500, error_body("failed"), soon),
    )
    with fake_provider(limited, overloaded, ChatResponse(text_chunks("There you are"))) as provider:
        assert join_text(await send_request(provider.url, max_retries=2)) == "There you are"
        assert len(provider.requests) == 3
    with fake_provider(limited) as provider:
        with pytest.raises(ar.LlmRateLimited) as raised:
            await send_request(provider.url, max_retries=2)
        assert len(provider.requests) == 3
    assert raised.value.retry_after == 0.001


async def test_an_incomplete_response_raises() -> None:
    incomplete = text_chunks("It was a dark")[:-1]
    for response in (
        ChatResponse([*incomplete, DISCONNECT]),
        ChatResponse(incomplete),
        ChatResponse(incomplete, sends_done=False),
        ChatResponse([DISCONNECT]),
    ):
        events: list[Any] = []
        with fake_provider(response) as provider:
            async with OpenAIClient("test", base_url=provider.url, api_key=KEY, max_retries=0) as client:
                with pytest.raises(ar.LlmUnreachable, match=r"before it was complete|closed the connection"):
                    await read_events(client.stream(LlmRequest(HELLO)), events)
        assert join_text(events) == ("" if response.chunks == [DISCONNECT] else "It was a dark")


async def test_a_complete_response_survives_a_disconnect_after_it() -> None:
    with fake_provider(ChatResponse([*text_chunks("All of it"), DISCONNECT])) as provider:
        events = await send_request(provider.url)
    assert join_text(events) == "All of it"
    assert events[-1] == Finish("stop")


IN_STREAM = [
    (error_body("Overloaded", kind="overloaded_error"), ar.LlmOverloaded),
    (error_body("slow down", 429), ar.LlmRateLimited),
    (error_body("maximum context length"), ar.LlmContextTooLong),
    (error_body("bad tool", kind="invalid_request_error"), ar.LlmRequestInvalid),
    (error_body("upstream", 502), ar.LlmOverloaded),
]


@pytest.mark.parametrize(("error", "error_class"), IN_STREAM)
async def test_errors_in_the_middle_of_a_stream(error: dict[str, Any], error_class: type[ar.LlmError]) -> None:
    with fake_provider(ChatResponse([chunk({"content": "Well"}), error])) as provider, pytest.raises(error_class):
        await send_request(provider.url)


@pytest.mark.parametrize("nonsense", ["{not json", '{"choices": 7}', '{"choices": [{"delta": {"tool_calls": 1}}]}'])
async def test_a_response_that_is_not_the_protocol_raises(nonsense: str) -> None:
    with (
        fake_provider(ChatResponse([nonsense])) as provider,
        pytest.raises(ar.LlmResponseInvalid, match="not chat completions"),
    ):
        await send_request(provider.url)


async def test_a_provider_that_cannot_be_reached() -> None:
    with fake_provider(ChatResponse([])) as provider:
        url = provider.url
    with pytest.raises(ar.LlmUnreachable, match="cannot be reached"):
        await send_request(url)


async def test_a_provider_that_stops_sending_times_out() -> None:
    with (
        fake_provider(ChatResponse(text_chunks("Well and so on"), pause_after=1)) as provider,
        pytest.raises(ar.LlmUnreachable),
    ):
        await send_request(provider.url, timeout=0.2)
