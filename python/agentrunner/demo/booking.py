"""An agent that books a table once the user approves; its model is a script."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import TYPE_CHECKING

from agentrunner.runtime import AgentRuntime, Finish, TextDelta, ToolCallArgs, ToolCallStart, tool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agentrunner.runtime import LlmEvent, LlmRequest

WORD_SECONDS = 0.03
"""Seconds between two words."""
TABLE = {"restaurant": "Tasca do Jaime", "time": "21:00", "seats": 2}


class Concierge:
    """Stands in for a model: calls the tool, then reports its result or its refusal."""

    async def stream(self, request: LlmRequest, /) -> AsyncIterator[LlmEvent]:
        """Yield the model's events for one request."""
        last = request.messages[-1]
        has_result = last["role"] == "tool"
        if not has_result:
            text = "There is a table for two at nine, by the window."
        elif last.get("error"):
            text = "Then I will not book it."
        else:
            text = f"Your table is booked: {str(last['content']).splitlines()[-1]}. Ask for the sardines."
        for word in text.split(" "):
            yield TextDelta(f"{word} ")
            await asyncio.sleep(WORD_SECONDS)
        if not has_result:
            call = f"call-{uuid.uuid4().hex[:8]}"
            yield ToolCallStart(call, "book")
            yield ToolCallArgs(call, json.dumps(TABLE))
        yield Finish("stop" if has_result else "tool_calls")


class Booking(AgentRuntime):
    """A runtime with a booking tool, which calls `on_booking` with each booking."""

    description = "Finds a table and books it once that is approved (a runtime with a tool, under a harness)."

    def __init__(self, on_booking: Callable[[str], object] | None = None) -> None:
        async def book(restaurant: str, time: str, seats: int) -> str:
            """Book a table."""
            booking = f"{seats} seats at {restaurant}, {time}"
            if on_booking is not None:
                on_booking(booking)
            return booking

        super().__init__(Concierge(), tools=[tool(policy="ask")(book)])
