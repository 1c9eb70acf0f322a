"""A runtime under a harness whose tool needs an approval, for the tests of approvals."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

from agentrunner.errors import AgentError
from agentrunner.harness import Harness
from agentrunner.runtime import (
    AgentRuntime,
    Finish,
    RuntimeConfig,
    TextDelta,
    ToolCallArgs,
    ToolCallStart,
    ToolContext,
    tool,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agentrunner import AgentRunner
    from agentrunner.runtime import LlmEvent, LlmRequest

ARGS = {"place": "Tasca", "seats": 2}
OTHER = {"place": "Solar", "seats": 8}
MAY_I = "Allow 'book' to run?"


class Model:
    """Calls `book` on request (twice with `both`), reports the result, or says hello.

    If the user said `fail`, it fails after the tool.
    """

    async def stream(self, request: LlmRequest, /) -> AsyncIterator[LlmEvent]:
        last = request.messages[-1]
        if last["role"] == "tool":
            user_texts = [str(message["content"]) for message in request.messages if message["role"] == "user"]
            if "fail" in user_texts[-1]:
                raise AgentError("the model does not answer")
            yield TextDelta("Well: ")
            yield TextDelta(str(last["content"]))
        elif "book" in str(last["content"]):
            yield TextDelta("I look.")
            turn = sum(message["role"] == "assistant" for message in request.messages)
            for number, args in enumerate([ARGS, OTHER] if "both" in str(last["content"]) else [ARGS]):
                yield ToolCallStart(f"call-{turn}-{number}", "book")
                yield ToolCallArgs(f"call-{turn}-{number}", json.dumps(args))
            yield Finish("tool_calls")
            return
        else:
            yield TextDelta("Hello")
        yield Finish("stop")


class Bookings:
    """The tool, which writes a line to a file for each run.

    While a file `hold` is beside it, each run waits.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.hold = path.with_suffix(".hold")

    def book(self, place: str, seats: int, context: ToolContext) -> str:
        """Book a table."""
        line = json.dumps({"place": place, "seats": seats, "key": context.idempotency_key, "pid": os.getpid()})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
        while self.hold.exists():
            time.sleep(0.005)
        return f"{seats} seats at {place}"

    @property
    def made(self) -> list[dict[str, Any]]:
        """All bookings so far."""
        return [json.loads(line) for line in self.path.read_text("utf-8").splitlines()] if self.path.exists() else []

    def wait(self, count: int = 1) -> None:
        """Wait until there are so many bookings."""
        end = time.monotonic() + 20
        while len(self.made) < count:
            assert time.monotonic() < end, "nobody has booked"
            time.sleep(0.005)


def runtime(bookings: Bookings, *, expires: float | None = None) -> AgentRuntime:
    """Return the agent; its approvals expire after `expires` seconds."""
    booking = tool(name="book", policy="ask")(bookings.book)
    return AgentRuntime(Model(), tools=[booking], config=RuntimeConfig(approval_expires=expires))


def booking_harness(
    runner: AgentRunner, bookings: Bookings, *, expires: float | None = None, **options: Any
) -> Harness:
    """Return a harness with the agent."""
    return Harness(runner, {"default": runtime(bookings, expires=expires)}, **options)
