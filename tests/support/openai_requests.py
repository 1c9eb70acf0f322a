"""Requests through `OpenAIClient`, and what tests look at in its events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from agentrunner.runtime.llm import LlmRequest, TextDelta, ToolCallArgs, ToolCallStart
from agentrunner.runtime.openai import OpenAIClient
from support.chat_completions import KEY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentrunner.runtime.llm import LlmEvent

HELLO = [{"id": "m1", "role": "user", "content": "Hello"}]
TWO_CALLS = [("call-1", "weather", {"city": "Lisbon"}), ("call-2", "time", {"zone": "WET"})]


async def send_request(
    url: str, *messages: dict[str, Any], tools: Any = (), settings: Any = None, **options: Any
) -> list[Any]:
    """Send a request, and return the events of the response."""
    async with OpenAIClient("test", base_url=url, api_key=KEY, **{"max_retries": 0, **options}) as client:
        return await read_events(client.stream(LlmRequest(list(messages) or HELLO, list(tools), settings or {})))


async def read_events(stream: AsyncIterator[LlmEvent], into: list[Any] | None = None) -> list[Any]:
    """Return a response's events, which are also added to `into`, even if the stream raises."""
    events = [] if into is None else into
    async for event in stream:
        events.append(event)
    return events


def join_text(events: list[LlmEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def collect_calls(events: list[LlmEvent]) -> list[tuple[str, str, Any]]:
    """Return the id, name and arguments of each call."""
    calls = {event.id: [event.name, ""] for event in events if isinstance(event, ToolCallStart)}
    for event in events:
        if isinstance(event, ToolCallArgs):
            calls[event.id][1] += event.delta
    assert len(calls) == sum(isinstance(event, ToolCallStart) for event in events), "ids are unique"
    return [(call_id, name, json.loads(args)) for call_id, (name, args) in calls.items()]
