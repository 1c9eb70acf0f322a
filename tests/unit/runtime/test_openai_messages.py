"""Messages and tools, converted to chat completions."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

import agentrunner as ar
from support.chat_completions import (
    ChatResponse,
    fake_provider,
    text_chunks,
)
from support.openai_requests import send_request


async def convert(*messages: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    """Return the messages that the provider receives for these."""
    with fake_provider(ChatResponse(text_chunks("ok"))) as provider:
        await send_request(provider.url, *messages, **{"alternate_roles": False, **options})
    return provider.requests[0]["messages"]


def tool_call(id: str, arguments: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": "look", "arguments": arguments}}


def make_part(kind: str, source: str, value: str, mime: str | None = None) -> dict[str, Any]:
    return {"type": kind, "source": {"type": source, "value": value, **({"mimeType": mime} if mime else {})}}


async def test_a_history_is_converted() -> None:
    assert await convert(
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


async def test_reasoning_is_sent_back_if_configured() -> None:
    history = [
        {"id": "1", "role": "user", "content": "Look."},
        {"id": "2", "role": "reasoning", "content": "Hm."},
        {"id": "3", "role": "assistant", "content": "A door."},
        {"id": "4", "role": "user", "content": "And?"},
    ]
    unanswered = [*history[:2], {"id": "5", "role": "user", "content": "Well?"}, *history[2:]]
    assert "reasoning_content" not in str(await convert(*unanswered, reasoning_field="reasoning_content"))
    converted = await convert(*history, reasoning_field="reasoning_content")
    assert converted[1] == {"role": "assistant", "content": "A door.", "reasoning_content": "Hm."}
    assert "reasoning_content" not in (await convert(*history))[1]


async def test_message_parts_are_converted() -> None:
    letter = base64.b64encode("Grüße".encode()).decode()
    parts = [
        {"type": "text", "text": "See:"},
        make_part("image", "url", "http://pictures/1.png"),
        make_part("image", "data", "AAAA", "image/png"),
        make_part("video", "url", "http://pictures/1.mp4"),
        make_part("audio", "data", "BBBB", "audio/mpeg"),
        make_part("document", "data", "CCCC", "application/pdf") | {"metadata": {"filename": "plan.pdf"}},
        make_part("document", "data", letter, "text/plain"),
        make_part("document", "file", "file-1"),
    ]
    assert await convert({"id": "1", "role": "user", "content": parts}) == [{"role": "user", "content": [
        {"type": "text", "text": "See:"},
        {"type": "image_url", "image_url": {"url": "http://pictures/1.png"}},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "video_url", "video_url": {"url": "http://pictures/1.mp4"}},
        {"type": "input_audio", "input_audio": {"data": "BBBB", "format": "mp3"}},
        {"type": "file", "file": {"filename": "plan.pdf", "file_data": "data:application/pdf;base64,CCCC"}},
        {"type": "text", "text": "Grüße"},
        {"type": "file", "file": {"file_id": "file-1"}},
    ]}]  # fmt: skip


async def test_text_parts_become_one_text() -> None:
    parts = [{"type": "text", "text": "One"}, {"type": "text", "text": "two"}]
    assert await convert({"id": "1", "role": "user", "content": parts}) == [{"role": "user", "content": "One\ntwo"}]


async def test_media_of_tools_follow_their_results() -> None:
    converted = await convert(
        {"id": "1", "role": "user", "content": "Draw twice."},
        {"id": "2", "role": "assistant", "toolCalls": [tool_call("a", "{}"), tool_call("b", "")]},
        {"id": "3", "role": "tool", "toolCallId": "a", "content": [
            {"type": "text", "text": "drawn"}, make_part("image", "data", "AAAA", "image/png"),
        ]},
        {"id": "4", "role": "tool", "toolCallId": "b", "content": [{"type": "text", "text": "no ink"}]},
        {"id": "5", "role": "user", "content": "Thanks"},
    )  # fmt: skip
    assert [message["role"] for message in converted] == ["user", "assistant", "tool", "tool", "user", "user"]
    assert converted[5]["content"] == "Thanks"
    assert converted[1]["tool_calls"][1]["function"]["arguments"] == "{}"
    assert converted[2]["content"].startswith("drawn\n")
    assert converted[3]["content"] == "no ink"
    assert converted[4]["content"] == [
        {"type": "text", "text": "Returned by the tool call a:"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
    ]


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user", "content": [{"type": "hologram"}]},
        {"role": "user", "content": [make_part("audio", "url", "http://a")]},
        {"role": "user", "content": [make_part("audio", "data", "AA", "audio/ogg")]},
        {"role": "user", "content": [make_part("document", "data", "!!!", "text/plain")]},
        {"role": "ghost", "content": "Boo"},
    ],
)
async def test_a_message_that_cannot_be_converted_is_not_sent(message: dict[str, Any]) -> None:
    with fake_provider(ChatResponse(text_chunks("ok"))) as provider:
        with pytest.raises(ar.LlmRequestInvalid):
            await send_request(provider.url, message)
        assert not provider.requests
