"""What `make serve` serves: a guide, one that asks before it acts, one that says a lot at once. All offline."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

from agentrunner.demo.agent import agent as guide

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ag_ui.core import RunAgentInput

PACE = 0.03


async def approval(input: RunAgentInput) -> AsyncIterator[dict[str, Any]]:
    """Ask before booking; book, or not, once that is answered."""
    yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
    finished = {"type": "RUN_FINISHED", "threadId": input.thread_id, "runId": input.run_id}
    message_id = f"message-{uuid.uuid4()}"
    if not input.resume:
        async for event in _text(message_id, "I have found a table for two at nine. Shall I book it?"):
            yield event
        yield {"type": "STATE_SNAPSHOT", "snapshot": {"table": {"time": "21:00", "seats": 2, "booked": False}}}
        asked = {"id": f"interrupt-{uuid.uuid4()}", "reason": "confirmation", "message": "Book the table?"}
        yield finished | {"outcome": {"type": "interrupt", "interrupts": [asked]}}
        return
    answer = input.resume[0]
    # A client may say no by cancelling, or by what it sends.
    agreed = answer.status == "resolved" and answer.payload not in (False, "reject", {"approved": False})
    if agreed:
        call_id = f"call-{uuid.uuid4()}"
        yield {"type": "TOOL_CALL_START", "toolCallId": call_id, "toolCallName": "book"}
        yield {"type": "TOOL_CALL_ARGS", "toolCallId": call_id, "delta": '{"time":"21:00","seats":2}'}
        yield {"type": "TOOL_CALL_END", "toolCallId": call_id}
        yield {"type": "TOOL_CALL_RESULT", "toolCallId": call_id, "messageId": f"{call_id}-result", "content": "booked"}
        yield {"type": "STATE_DELTA", "delta": [{"op": "replace", "path": "/table/booked", "value": True}]}
    async for event in _text(message_id, "It is booked." if agreed else "Then I leave it."):
        yield event
    yield finished


async def burst(input: RunAgentInput) -> AsyncIterator[dict[str, Any]]:
    """Say 10,000 events as fast as they can be kept."""
    yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
    for number in range(100):
        message_id = f"message-{uuid.uuid4()}"
        yield {"type": "TEXT_MESSAGE_START", "messageId": message_id, "role": "assistant"}
        for word in range(97):
            yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": message_id, "delta": f"{number}.{word} "}
        yield {"type": "TEXT_MESSAGE_END", "messageId": message_id}
    yield {"type": "RUN_FINISHED", "threadId": input.thread_id, "runId": input.run_id}


async def _text(message_id: str, text: str) -> AsyncIterator[dict[str, Any]]:
    yield {"type": "TEXT_MESSAGE_START", "messageId": message_id, "role": "assistant"}
    for word in text.split(" "):
        yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": message_id, "delta": f"{word} "}
        await asyncio.sleep(PACE)
    yield {"type": "TEXT_MESSAGE_END", "messageId": message_id}


agents = {"default": guide, "approval": approval, "burst": burst}
