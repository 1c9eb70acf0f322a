"""A runtime whose tool asks before it runs: it books a table. Its model is a script, in place of a paid one."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import TYPE_CHECKING

from agentrunner.runtime import AgentRuntime, Finish, TextDelta, ToolCallArgs, ToolCallStart, tool

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agentrunner.runtime import LlmEvent, LlmRequest

PACE = 0.03
"""Seconds between two words."""
TABLE = {"restaurant": "Tasca do Jaime", "time": "21:00", "seats": 2}


class Concierge:
    """Calls the tool first; once that has a result, or was not allowed, says so."""

    async def stream(self, request: LlmRequest, /) -> AsyncIterator[LlmEvent]:
        """Answer."""
        last = request.messages[-1]
        answered = last["role"] == "tool"
        if not answered:
            text = "There is a table for two at nine, by the window."
        elif last.get("error"):
            text = "Then I leave it."
        else:
            text = f"It is done: {str(last['content']).splitlines()[-1]}. Ask for the sardines."
        for word in text.split(" "):
            yield TextDelta(f"{word} ")
            await asyncio.sleep(PACE)
        if not answered:
            call = f"call-{uuid.uuid4().hex[:8]}"
            yield ToolCallStart(call, "book")
            yield ToolCallArgs(call, json.dumps(TABLE))
        yield Finish("stop" if answered else "tool_calls")


class Booking(AgentRuntime):
    """The runtime with its tool. `told`: of each table that is booked."""

    description = "Find a table and book it, once that is approved: a runtime with a tool, under a harness."

    def __init__(self, told: Callable[[str], object] | None = None) -> None:
        async def book(restaurant: str, time: str, seats: int) -> str:
            """Book a table."""
            booked = f"{seats} seats at {restaurant}, {time}"
            if told is not None:
                told(booked)
            return booked

        super().__init__(Concierge(), tools=[tool(policy="ask")(book)])
