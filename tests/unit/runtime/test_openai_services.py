"""Services that are not OpenAI: the members they want back, the order of roles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest

from agentrunner.runtime import AgentRuntime, Tool
from agentrunner.runtime._openai_order import AFTER_TOOLS_TEXT, FIRST_USER_TEXT, LAST_USER_TEXT
from agentrunner.runtime.openai import OpenAIClient
from support.chat_completions import KEY, ChatResponse, call_delta, chunk, fake_provider, text_chunks
from support.inputs import make_input
from support.openai_requests import send_request
from support.scripted_model import collect_run, summarize

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import SqliteAgentRunner

pytestmark = pytest.mark.fault("D5")

SIGNATURE = "EhcKFQ+/=\u00e9\u2028\U0001f511" * 50


def pay(to: str) -> str:
    return f"paid {to}"


async def test_members_beside_a_call_come_back_with_it_after_an_approval_and_a_restart(
    sqlite_factory: Callable[..., SqliteAgentRunner],
) -> None:
    extra = {"google": {"thought_signature": SIGNATURE, "version": 3}}
    first = {**call_delta(0, "c1", "pay", '{"to":'), "extra_content": extra}
    second = {**call_delta(0, None, None, '"bob"}'), "rank": 1.5}
    second["function"]["strict_id"] = "f-1"
    responses = [
        ChatResponse([chunk({"role": "assistant", "tool_calls": [first]}), chunk({"tool_calls": [second]}),
                      chunk({}, "tool_calls")]),
        ChatResponse(text_chunks("done")),
    ]  # fmt: skip
    answer = [{"interruptId": "int-c1", "status": "resolved", "payload": {"approved": True}}]
    with fake_provider(*responses) as provider:
        for run, fields in (("r1", {"messages": ["go"]}), ("r2", {"resume": answer}), ("r3", {"messages": ["and"]})):
            async with OpenAIClient("test", base_url=provider.url, api_key=KEY) as llm, sqlite_factory() as runner:
                agent = AgentRuntime(llm, tools=[Tool(pay, policy="ask")])
                events = await collect_run(runner, agent, make_input("t1", run, **fields))
                assert summarize(events)[-1] == "RUN_FINISHED"
    call = {
        "extra_content": extra, "rank": 1.5, "id": "c1", "type": "function",
        "function": {"strict_id": "f-1", "name": "pay", "arguments": '{"to":"bob"}'},
    }  # fmt: skip
    for request in provider.requests[1:]:
        assert request["messages"][1]["tool_calls"] == [call]


async def convert(*messages: tuple[str, Any], **options: Any) -> list[tuple[str, Any]]:
    """Return the roles and contents that the provider receives."""
    with fake_provider(ChatResponse(text_chunks("ok"))) as provider:
        await send_request(provider.url, *({"id": r, "role": r, "content": c} for r, c in messages), **options)
    return [(message["role"], message["content"]) for message in provider.requests[0]["messages"]]


async def test_roles_alternate_after_one_system_message() -> None:
    messages = [
        ("assistant", "Welcome!"), ("assistant", "How can I help?"), ("user", "a"), ("system", "Be brief."),
        ("user", "b"), ("assistant", "  "), ("user", "c"), ("developer", "Be kind."), ("assistant", "d"),
    ]  # fmt: skip
    assert await convert(*messages) == [
        ("system", "Be brief.\n\nBe kind."), ("user", FIRST_USER_TEXT), ("assistant", "Welcome!\n\nHow can I help?"),
        ("user", "a\n\nb\n\nc"), ("assistant", "d"), ("user", LAST_USER_TEXT),
    ]  # fmt: skip
    as_they_are = [
        ("system" if role == "developer" else role, content) for role, content in messages if content.strip()
    ]
    assert await convert(*messages, alternate_roles=False) == as_they_are


async def test_pictures_are_merged_with_the_text_around_them() -> None:
    picture = {"type": "image", "source": {"type": "url", "value": "https://example.org/a.png"}}
    part = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}
    assert await convert(("user", "look:"), ("user", [picture]), ("user", "well?")) == [
        ("user", [{"type": "text", "text": "look:"}, part, {"type": "text", "text": "well?"}])
    ]


async def test_a_user_message_after_results_has_an_assistant_message_before_it() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    history: list[dict[str, Any]] = [
        {"id": "1", "role": "user", "content": "look"},
        {"id": "2", "role": "assistant", "content": "Let me."},
        {"id": "3", "role": "assistant", "toolCalls": [call]},
        {"id": "4", "role": "tool", "toolCallId": "c1", "content": "a door"},
        {"id": "5", "role": "user", "content": "and?"},
    ]
    with fake_provider(ChatResponse(text_chunks("ok"))) as provider:
        await send_request(provider.url, *history)
    sent = provider.requests[0]["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "assistant", "user"]
    assert (sent[1]["content"], sent[1]["tool_calls"]) == ("Let me.", [call])
    assert sent[3]["content"] == AFTER_TOOLS_TEXT


async def test_reasoning_comes_back_where_a_service_requires_it() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    history: list[dict[str, Any]] = [
        {"id": "1", "role": "user", "content": "look"},
        {"id": "2", "role": "reasoning", "content": "Hm."},
        {"id": "3", "role": "assistant", "toolCalls": [call]},
        {"id": "4", "role": "tool", "toolCallId": "c1", "content": "a door"},
        {"id": "5", "role": "assistant", "toolCalls": [{**call, "id": "c2"}]},
        {"id": "6", "role": "tool", "toolCallId": "c2", "content": "a wall"},
    ]
    with fake_provider(ChatResponse(text_chunks("ok"))) as provider:
        await send_request(provider.url, *history, reasoning_field="reasoning_content")
    sent = [message for message in provider.requests[0]["messages"] if message["role"] == "assistant"]
    assert [message["reasoning_content"] for message in sent] == ["Hm.", ""]


@pytest.mark.parametrize(
    ("base_url", "alternates", "field"),
    [
        (None, False, None),
        ("https://me.openai.azure.com/openai", False, None),
        ("https://api.deepseek.com", True, "reasoning_content"),
        ("https://api.mistral.ai/v1", True, None),
    ],
)
async def test_defaults_follow_the_service(base_url: str | None, alternates: bool, field: str | None) -> None:
    async with OpenAIClient("test", base_url=base_url, api_key=KEY) as client:
        assert (client._alternates_roles, client._reasoning_field) == (alternates, field)
    async with openai.AsyncOpenAI(base_url=base_url, api_key=KEY, http_client=httpx.AsyncClient()) as own:
        client = OpenAIClient("test", client=own, reasoning_field="")
        assert (client._alternates_roles, client._reasoning_field) == (alternates, "")
