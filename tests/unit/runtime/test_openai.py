"""`OpenAIClient` over real HTTP: answers, their pieces, what goes wrong, what is asked."""

from __future__ import annotations

import asyncio
import base64
import json
import traceback
from typing import TYPE_CHECKING, Any

import openai
import pytest

import agentrunner as ar
from agentrunner.runtime.llm import (
    Finish,
    LlmRequest,
    ReasoningDelta,
    TextDelta,
    ToolCallArgs,
    ToolCallStart,
    ToolSpec,
    Usage,
)
from agentrunner.runtime.openai import OpenAIClient
from support.chat_completions import END, KEY, Answer, Failure, call, calling, chunk, saying, service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentrunner.runtime.llm import LlmEvent

HELLO = [{"id": "m1", "role": "user", "content": "Hello"}]
USAGE = {
    "prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17,
    "prompt_tokens_details": {"cached_tokens": 8}, "completion_tokens_details": {"reasoning_tokens": 2},
}  # fmt: skip


async def ask(url: str, *messages: dict[str, Any], tools: Any = (), settings: Any = None, **options: Any) -> list[Any]:
    """Ask, and give the answer's events."""
    async with OpenAIClient("test", base_url=url, api_key=KEY, **{"max_retries": 0, **options}) as client:
        return await read(client.stream(LlmRequest(list(messages) or HELLO, list(tools), settings or {})))


async def read(stream: AsyncIterator[LlmEvent], into: list[Any] | None = None) -> list[Any]:
    """Read an answer's events, also into a list that has them where it breaks off."""
    events = [] if into is None else into
    async for event in stream:
        events.append(event)
    return events


def text(events: list[LlmEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def calls(events: list[LlmEvent]) -> list[tuple[str, str, Any]]:
    """Give the calls: id, name, arguments."""
    made = {event.id: [event.name, ""] for event in events if isinstance(event, ToolCallStart)}
    for event in events:
        if isinstance(event, ToolCallArgs):
            made[event.id][1] += event.delta
    assert len(made) == sum(isinstance(event, ToolCallStart) for event in events), "ids are unique"
    return [(key, name, json.loads(args)) for key, (name, args) in made.items()]


@pytest.mark.parametrize("cut", [None, 1, 2, 3, 7, 64])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
async def test_a_text_comes_whole_however_its_stream_is_cut(cut: int | None, line_end: str) -> None:
    with service(Answer(saying("Grüße, 世界 🌍 !", usage=USAGE), cut, line_end)) as said:
        events = await ask(said.url)
    assert text(events) == "Grüße, 世界 🌍 !"
    assert events[-2:] == [Usage(12, 5, 8, 2), Finish("stop")]
    assert [event for event in events if isinstance(event, Finish)] == [events[-1]]


async def test_what_is_asked_is_said_in_the_protocols_words() -> None:
    tool = ToolSpec("weather", "Tell it.", {"type": "object", "properties": {"city": {"type": "string"}}})
    with service(Answer(saying("ok"))) as said:
        await ask(said.url, tools=[tool], settings={"temperature": 0.5, "top_k": 3})
    assert said.questions == [{
        "model": "test", "stream": True, "stream_options": {"include_usage": True}, "temperature": 0.5, "top_k": 3,
        "messages": [{"role": "user", "content": "Hello"}],
        "tools": [{"type": "function", "function": {
            "name": "weather", "description": "Tell it.", "parameters": dict(tool.parameters),
        }}],
    }]  # fmt: skip
    assert said.headers[0]["authorization"] == f"Bearer {KEY}"


async def test_settings_of_a_question_go_before_the_clients() -> None:
    with service(Answer(saying("ok"))) as said:
        async with OpenAIClient("test", base_url=said.url, settings={"seed": 1, "top_p": 0.1}) as client:
            await read(client.stream(LlmRequest(HELLO, settings={"seed": 2})))
            with pytest.raises(ar.LlmRequestInvalid, match="'stream' cannot be a setting"):
                await read(client.stream(LlmRequest(HELLO, settings={"stream": False})))
    assert (said.questions[0]["seed"], said.questions[0]["top_p"]) == (2, 0.1)


async def test_a_service_need_not_be_asked_for_the_usage() -> None:
    with service(Answer(saying("ok"))) as said:
        events = await ask(said.url, usage=False)
    assert "stream_options" not in said.questions[0]
    assert not any(isinstance(event, Usage) for event in events)


async def test_the_environments_key_goes_to_no_other_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-of-openai")
    with service(Answer(saying("ok"))) as said:
        async with OpenAIClient("test", base_url=said.url) as client:
            await read(client.stream(LlmRequest(HELLO)))
    assert "secret" not in said.headers[0]["authorization"]


async def test_a_client_needs_a_key_for_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ar.LlmUnauthorized, match="OPENAI_API_KEY"):
        OpenAIClient("gpt-5")


@pytest.mark.parametrize(
    "wrong", [{"timeout": 0}, {"timeout": float("nan")}, {"max_retries": -1}, {"max_retries": 1.5}]
)
async def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        OpenAIClient("test", api_key=KEY, **wrong)
    with pytest.raises(ValueError, match="your own client"):
        OpenAIClient("test", api_key=KEY, client=openai.AsyncOpenAI(api_key=KEY))


# Tool calls.

TWO = [("call-1", "weather", {"city": "Lisbon"}), ("call-2", "time", {"zone": "WET"})]


@pytest.mark.parametrize("cut", [None, 1, 5])
async def test_calls_side_by_side(cut: int | None) -> None:
    chunks = calling(*((key, name, json.dumps(args)) for key, name, args in TWO), text="Let me look.")
    with service(Answer(chunks, cut)) as said:
        events = await ask(said.url)
    assert text(events) == "Let me look."
    assert calls(events) == TWO
    assert events[-1] == Finish("tool_calls")


async def test_ids_and_indexes_may_be_missing() -> None:
    lisbon, wet = '{"city": "Lisbon"}', '{"zone": "WET"}'
    ways = {
        "no ids": [call(0, None, "weather", lisbon[:5]), call(1, None, "time", wet), call(0, None, None, lisbon[5:])],
        "empty ids": [call(0, "", "weather", lisbon), call(1, "", "time", wet)],
        "no indexes": [call(None, "a", "weather", lisbon), call(None, "b", "time", wet[:3]),
                       call(None, None, None, wet[3:])],
        "neither": [call(None, None, "weather", lisbon[:5]), call(None, None, None, lisbon[5:]),
                    call(None, None, "time", wet)],
        "all at index 0": [call(0, "a", "weather", lisbon), call(0, "b", "time", wet)],
        "all at index 0, no ids": [call(0, None, "weather", lisbon), call(0, None, "time", wet)],
        "all of one id": [call(0, "x", "weather", lisbon), call(1, "x", "time", wet)],
        "the id with every piece": [call(0, "a", "weather", lisbon[:5]), call(0, "a", None, lisbon[5:]),
                                    call(1, "b", "time", wet)],
        "a new id with every piece": [call(0, "a", "weather", lisbon[:5]), call(0, "c", None, lisbon[5:]),
                                      call(1, "b", "time", wet)],
        "the name with every piece": [call(0, "a", "weather", lisbon[:5]), call(0, "a", "weather", lisbon[5:]),
                                      call(0, "a", "weather", ""), call(1, "b", "time", wet)],
        "the name with every piece and nothing else": [
            call(None, None, "weather", lisbon[:5]), call(None, None, "weather", lisbon[5:]),
            call(None, None, "time", wet),
        ],
        "no indexes, the name behind the first": [
            call(None, "a", None, lisbon[:5]), call(None, "a", "weather", lisbon[5:]),
            call(None, "b", None, wet[:5]), call(None, "b", "time", wet[5:]),
        ],
        "the name behind the first": [call(0, "a", None, lisbon[:5]), call(0, None, "weather", lisbon[5:]),
                                      call(1, "b", "time", wet)],
        "arguments as an object": [call(0, "a", "weather", {"city": "Lisbon"}), call(1, "b", "time", {"zone": "WET"})],
    }  # fmt: skip
    for way, pieces in ways.items():
        chunks = [*(chunk({"tool_calls": [piece]}) for piece in pieces), chunk({}, "stop")]
        with service(Answer(chunks)) as said:
            events = await ask(said.url)
        assert [made[1:] for made in calls(events)] == [made[1:] for made in TWO], way
        assert events[-1] == Finish("tool_calls"), way


async def test_one_tool_twice_at_one_index() -> None:
    lisbon, porto = '{"city": "Lisbon"}', '{"city": "Porto"}'
    for pieces in (
        [call(0, None, "weather", lisbon), call(0, None, "weather", porto)],
        [call(0, "a", "weather", lisbon[:5]), call(0, "a", None, lisbon[5:]), call(0, "b", "weather", porto)],
    ):
        with service(Answer([chunk({"tool_calls": pieces}), chunk({}, "tool_calls")])) as said:
            events = await ask(said.url)
        assert [args for _, _, args in calls(events)] == [{"city": "Lisbon"}, {"city": "Porto"}]


@pytest.mark.parametrize("keys", [("a", "b"), (None, None)])
async def test_calls_without_arguments_at_one_index(keys: tuple[str | None, ...]) -> None:
    first, second = keys
    names = ["now", "now"] if first else ["now", "today"]
    pieces = [call(0, first, names[0], ""), call(0, second, names[1], "")]
    with service(Answer([chunk({"tool_calls": pieces}), chunk({}, "tool_calls")])) as said:
        events = await ask(said.url)
    assert [made[1:] for made in calls(events)] == [(name, {}) for name in names]


async def test_arguments_are_an_object_also_where_there_are_none() -> None:
    with service(Answer([chunk({"tool_calls": [call(0, "a", "now", "")]}), chunk({}, "tool_calls")])) as said:
        events = await ask(said.url)
    assert calls(events) == [("a", "now", {})]


async def test_a_call_without_a_name_is_no_call() -> None:
    with (
        service(Answer([chunk({"tool_calls": [call(0, "a", None, "{}")]}), chunk({}, "tool_calls")])) as said,
        pytest.raises(ar.LlmResponseInvalid, match="without a name"),
    ):
        await ask(said.url)


# Reasoning, reasons.


@pytest.mark.parametrize("fields", [("reasoning_content",), ("reasoning",), ("reasoning_content", "reasoning")])
async def test_reasoning_comes_once(fields: tuple[str, ...]) -> None:
    thoughts = [chunk(dict.fromkeys(fields, thought)) for thought in ("Let me ", "think.")]
    with service(Answer([*thoughts, *saying("Yes.")])) as said:
        events = await ask(said.url)
    assert "".join(event.text for event in events if isinstance(event, ReasoningDelta)) == "Let me think."
    assert text(events) == "Yes."


@pytest.mark.parametrize(("said_as", "reason"), [("stop", "stop"), ("length", "length"), ("eos", "other")])
async def test_why_an_answer_ended(said_as: str, reason: Any) -> None:
    with service(Answer(saying("Well", finish=said_as))) as said:
        assert (await ask(said.url))[-1] == Finish(reason)


async def test_a_withheld_answer_is_an_error() -> None:
    refusal = [chunk({"refusal": "I can"}), chunk({"refusal": "not."}), chunk({}, "stop")]
    for chunks in (saying("Well", finish="content_filter"), refusal):
        with service(Answer(chunks)) as said, pytest.raises(ar.LlmRefused) as refused:
            await ask(said.url)
    assert refused.value.detail == "I cannot."


async def test_other_choices_and_chunks_without_any_are_left_out() -> None:
    other = {"choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "stop"}]}
    empty = {"choices": [{"index": 0, "delta": None, "finish_reason": None}]}
    with service(Answer([{"choices": []}, empty, other, *saying("yes")])) as said:
        assert text(await ask(said.url)) == "yes"


# What goes wrong.


def failed(message: str, code: Any = None, kind: str | None = None, param: str | None = None) -> dict[str, Any]:
    return {"error": {"message": message, "code": code, "type": kind, "param": param}}


FAILURES: list[tuple[Failure, type[ar.LlmError]]] = [
    (Failure(401, failed(f"Incorrect API key provided: {KEY}", "invalid_api_key")), ar.LlmUnauthorized),
    (Failure(403, failed("no access to the model")), ar.LlmUnauthorized),
    (Failure(403, failed("input was flagged by moderation")), ar.LlmRefused),
    (Failure(402, failed("Insufficient credits")), ar.LlmQuotaExhausted),
    (Failure(429, failed("You exceeded your current quota", "insufficient_quota")), ar.LlmQuotaExhausted),
    (Failure(429, failed("Rate limit reached", "rate_limit_exceeded"), {"retry-after": "7"}), ar.LlmRateLimited),
    (Failure(429, failed("quota exceeded this minute"), {"retry-after": "7"}), ar.LlmRateLimited),
    (Failure(500, failed("The server had an error")), ar.LlmOverloaded),
    (Failure(503, "<html>Service unavailable</html>"), ar.LlmOverloaded),
    (Failure(529, failed("Overloaded")), ar.LlmOverloaded),
    (Failure(400, failed("too long", "context_length_exceeded")), ar.LlmContextTooLong),
    (Failure(400, failed("This model's maximum context length is 8192 tokens.")), ar.LlmContextTooLong),
    (Failure(400, failed("prompt is too long: 9 tokens > 8 maximum")), ar.LlmContextTooLong),
    (Failure(413, "too large"), ar.LlmContextTooLong),
    (Failure(400, failed("The response was filtered", "content_filter")), ar.LlmRefused),
    (Failure(404, failed("no such model", "model_not_found")), ar.LlmRequestInvalid),
    (Failure(400, failed("Unsupported parameter", "unsupported_parameter", param="max_tokens")), ar.LlmRequestInvalid),
    (Failure(422, {"detail": [{"loc": ["body"], "msg": "wrong", "input": "Hello"}]}), ar.LlmRequestInvalid),
]


@pytest.mark.parametrize(("failure", "kind"), FAILURES, ids=[f"{f.status}-{k.__name__}" for f, k in FAILURES])
async def test_a_services_errors_are_ours(failure: Failure, kind: type[ar.LlmError]) -> None:
    with service(failure) as said, pytest.raises(ar.LlmError) as raised:
        await ask(said.url)
    error = raised.value
    assert type(error) is kind
    assert error.status == failure.status
    assert error.retry_after == (7.0 if "retry-after" in failure.headers else None)
    assert error.retryable == (kind in (ar.LlmRateLimited, ar.LlmOverloaded))
    assert "test" in str(error)
    assert len(said.questions) == 1, "it was not asked again"


async def test_errors_name_no_key_and_nothing_of_what_was_asked() -> None:
    for failure in (FAILURES[0][0], Failure(400, failed(f"cannot parse 'Hello' with Bearer {KEY}"))):
        with service(failure) as said, pytest.raises(ar.LlmError) as raised:
            await ask(said.url)
        assert "Hello" not in str(raised.value)
        shown = "".join(traceback.format_exception(raised.value))
        assert KEY not in shown
        assert "the service said:" in shown


async def test_an_unsupported_parameter_is_named() -> None:
    with service(FAILURES[16][0]) as said, pytest.raises(ar.LlmRequestInvalid, match=r"400.*unsupported.*max_tokens"):
        await ask(said.url)


async def test_an_overloaded_service_is_asked_again_so_often_and_no_more() -> None:
    soon = {"retry-after-ms": "1"}
    limited, overloaded = Failure(429, failed("slow down"), soon), Failure(500, failed("failed"), soon)
    with service(limited, overloaded, Answer(saying("There you are"))) as said:
        assert text(await ask(said.url, max_retries=2)) == "There you are"
        assert len(said.questions) == 3
    with service(limited) as said:
        with pytest.raises(ar.LlmRateLimited) as raised:
            await ask(said.url, max_retries=2)
        assert len(said.questions) == 3
    assert raised.value.retry_after == 0.001


async def test_an_answer_that_breaks_off_is_no_answer() -> None:
    begun = saying("It was a dark")[:-1]
    for answer in (Answer([*begun, END]), Answer(begun), Answer(begun, done=False), Answer([END])):
        events: list[Any] = []
        with service(answer) as said:
            async with OpenAIClient("test", base_url=said.url, api_key=KEY, max_retries=0) as client:
                with pytest.raises(ar.LlmUnreachable, match=r"before it was complete|closed the connection"):
                    await read(client.stream(LlmRequest(HELLO)), events)
        assert text(events) == ("" if answer.chunks == [END] else "It was a dark")


async def test_a_whole_answer_stays_whole_when_the_connection_breaks_behind_it() -> None:
    with service(Answer([*saying("All of it"), END])) as said:
        events = await ask(said.url)
    assert text(events) == "All of it"
    assert events[-1] == Finish("stop")


IN_STREAM = [
    (failed("Overloaded", kind="overloaded_error"), ar.LlmOverloaded),
    (failed("slow down", 429), ar.LlmRateLimited),
    (failed("maximum context length"), ar.LlmContextTooLong),
    (failed("bad tool", kind="invalid_request_error"), ar.LlmRequestInvalid),
    (failed("upstream", 502), ar.LlmOverloaded),
]


@pytest.mark.parametrize(("error", "kind"), IN_STREAM)
async def test_an_error_within_a_stream(error: dict[str, Any], kind: type[ar.LlmError]) -> None:
    with service(Answer([chunk({"content": "Well"}), error])) as said, pytest.raises(kind):
        await ask(said.url)


@pytest.mark.parametrize("nonsense", ["{not json", '{"choices": 7}', '{"choices": [{"delta": {"tool_calls": 1}}]}'])
async def test_what_is_not_the_protocol_is_an_error(nonsense: str) -> None:
    with service(Answer([nonsense])) as said, pytest.raises(ar.LlmResponseInvalid, match="not chat completions"):
        await ask(said.url)


async def test_a_service_that_is_not_there() -> None:
    with service(Answer([])) as said:
        url = said.url
    with pytest.raises(ar.LlmUnreachable, match="cannot be reached"):
        await ask(url)


async def test_a_service_that_says_nothing_in_time() -> None:
    with service(Answer(saying("Well and so on"), pause_after=1)) as said, pytest.raises(ar.LlmUnreachable):
        await ask(said.url, timeout=0.2)


async def test_cancelling_closes_the_connection() -> None:
    with service(Answer(saying("Well and so on"), pause_after=2)) as said:
        async with OpenAIClient("test", base_url=said.url, api_key=KEY) as client:
            events: list[Any] = []
            reading = asyncio.create_task(read(client.stream(LlmRequest(HELLO)), events))
            while text(events) != "Well and":
                await asyncio.sleep(0.001)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading
            while not said.closed:
                await asyncio.sleep(0.001)


async def test_leaving_early_closes_the_connection() -> None:
    with service(Answer(saying("Well and so on"), pause_after=2)) as said:
        async with OpenAIClient("test", base_url=said.url, api_key=KEY) as client:
            stream = client.stream(LlmRequest(HELLO))
            assert await anext(stream) == TextDelta("Well")
            await stream.aclose()
            while not said.closed:
                await asyncio.sleep(0.001)


# Messages.


async def chat(*messages: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    """Give what the service was told for these messages."""
    with service(Answer(saying("ok"))) as said:
        await ask(said.url, *messages, **options)
    return said.questions[0]["messages"]


def tool_call(id: str, arguments: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": "look", "arguments": arguments}}


def part(kind: str, of: str, value: str, mime: str | None = None) -> dict[str, Any]:
    return {"type": kind, "source": {"type": of, "value": value, **({"mimeType": mime} if mime else {})}}


async def test_a_history_as_chat_completions_know_it() -> None:
    assert await chat(
        {"id": "1", "role": "system", "content": "Be brief."},
        {"id": "2", "role": "developer", "content": "Use tools."},
        {"id": "3", "role": "user", "content": "Look."},
        {"id": "4", "role": "reasoning", "content": "Hm."},
        {"id": "5", "role": "activity", "activityType": "PLAN", "content": {}},
        {"id": "6", "role": "assistant", "toolCalls": [tool_call("a", '{"at": 1}'), tool_call("b", '{"at"')]},
        {"id": "7", "role": "tool", "toolCallId": "a", "content": "a door"},
        {"id": "8", "role": "tool", "toolCallId": "b", "content": "", "error": "no JSON"},
        {"id": "9", "role": "assistant", "content": ""},
        {"id": "10", "role": "assistant", "content": "A door."},
    ) == [
        {"role": "system", "content": "Be brief."},
        {"role": "system", "content": "Use tools."},
        {"role": "user", "content": "Look."},
        {"role": "assistant", "content": None, "tool_calls": [
            tool_call("a", '{"at": 1}'), tool_call("b", json.dumps({"invalid_json": '{"at"'})),
        ]},
        {"role": "tool", "tool_call_id": "a", "content": "a door"},
        {"role": "tool", "tool_call_id": "b", "content": "no JSON"},
        {"role": "assistant", "content": "A door."},
    ]  # fmt: skip


async def test_reasoning_is_handed_back_where_that_is_wanted() -> None:
    history = [
        {"id": "1", "role": "user", "content": "Look."},
        {"id": "2", "role": "reasoning", "content": "Hm."},
        {"id": "3", "role": "assistant", "content": "A door."},
        {"id": "4", "role": "user", "content": "And?"},
    ]
    lost = [*history[:2], {"id": "5", "role": "user", "content": "Well?"}, *history[2:]]
    assert "reasoning_content" not in str(await chat(*lost, reasoning_field="reasoning_content"))
    told = await chat(*history, reasoning_field="reasoning_content")
    assert told[1] == {"role": "assistant", "content": "A door.", "reasoning_content": "Hm."}
    assert "reasoning_content" not in (await chat(*history))[1]


async def test_parts() -> None:
    letter = base64.b64encode("Grüße".encode()).decode()
    parts = [
        {"type": "text", "text": "See:"},
        part("image", "url", "http://pictures/1.png"),
        part("image", "data", "AAAA", "image/png"),
        part("video", "url", "http://pictures/1.mp4"),
        part("audio", "data", "BBBB", "audio/mpeg"),
        part("document", "data", "CCCC", "application/pdf") | {"metadata": {"filename": "plan.pdf"}},
        part("document", "data", letter, "text/plain"),
        part("document", "file", "file-1"),
    ]
    assert await chat({"id": "1", "role": "user", "content": parts}) == [{"role": "user", "content": [
        {"type": "text", "text": "See:"},
        {"type": "image_url", "image_url": {"url": "http://pictures/1.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "video_url", "video_url": {"url": "http://pictures/1.mp4"}},
        {"type": "input_audio", "input_audio": {"data": "BBBB", "format": "mp3"}},
        {"type": "file", "file": {"filename": "plan.pdf", "file_data": "data:application/pdf;base64,CCCC"}},
        {"type": "text", "text": "Grüße"},
        {"type": "file", "file": {"file_id": "file-1"}},
    ]}]  # fmt: skip


async def test_parts_that_are_all_text_are_a_text() -> None:
    parts = [{"type": "text", "text": "One"}, {"type": "text", "text": "two"}]
    assert await chat({"id": "1", "role": "user", "content": parts}) == [{"role": "user", "content": "One\ntwo"}]


async def test_what_tools_show_follows_behind_their_results() -> None:
    told = await chat(
        {"id": "1", "role": "user", "content": "Draw twice."},
        {"id": "2", "role": "assistant", "toolCalls": [tool_call("a", "{}"), tool_call("b", "")]},
        {"id": "3", "role": "tool", "toolCallId": "a", "content": [
            {"type": "text", "text": "drawn"}, part("image", "data", "AAAA", "image/png"),
        ]},
        {"id": "4", "role": "tool", "toolCallId": "b", "content": [{"type": "text", "text": "no ink"}]},
        {"id": "5", "role": "user", "content": "Thanks"},
    )  # fmt: skip
    assert [message["role"] for message in told] == ["user", "assistant", "tool", "tool", "user", "user"]
    assert told[5]["content"] == "Thanks"
    assert told[1]["tool_calls"][1]["function"]["arguments"] == "{}"
    assert told[2]["content"].startswith("drawn\n")
    assert told[3]["content"] == "no ink"
    assert told[4]["content"] == [
        {"type": "text", "text": "Returned by the tool call a:"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "hologram"}]},
        {"role": "user", "content": [part("audio", "url", "http://a")]},
        {"role": "user", "content": [part("audio", "data", "AA", "audio/ogg")]},
        {"role": "user", "content": [part("document", "data", "!!!", "text/plain")]},
        {"role": "ghost", "content": "Boo"},
    ],
)
async def test_what_has_no_form_is_refused_before_it_is_asked(message: dict[str, Any]) -> None:
    with service(Answer(saying("ok"))) as said:
        with pytest.raises(ar.LlmRequestInvalid):
            await ask(said.url, message)
        assert not said.questions
