"""Middlewares: what may look at a turn as it goes, and change it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentrunner.runtime.llm import LlmRequest
    from agentrunner.runtime.model_response import ModelResponse
    from agentrunner.runtime.session import Session
    from agentrunner.runtime.tools import ToolCall, ToolResult


@dataclass(frozen=True, slots=True)
class TurnContext:
    """Where a middleware is called."""

    session_id: str
    run_id: str
    turn: int
    """How often the model has been asked in this user's turn; 0 before the first question."""
    session: Session | None
    """`None` where a session has yet to be made: with its first user message."""


class Middleware:
    """Derive from it and write the methods that are wanted; each may give what it was given, changed, or `None`.

    They are called in the order they were given in. What one raises fails the turn; before there is a turn, in
    `on_user_message`, it refuses the message, and nothing is kept of it. After a crash what has not been kept since
    the last checkpoint is called again.
    """

    async def on_user_message(self, context: TurnContext, message: dict[str, Any]) -> dict[str, Any] | None:
        """See a new user message, in AG-UI's wire form, before the session has it."""

    async def on_pre_llm(self, context: TurnContext, request: LlmRequest) -> LlmRequest | None:
        """See a question, its messages, tools and settings, before the model does."""

    async def on_post_llm(self, context: TurnContext, answer: ModelResponse) -> ModelResponse | None:
        """See an answer before the session has it. Clients were shown it as it came, and are told of a change."""

    async def on_tool_call(self, context: TurnContext, call: ToolCall, arguments: dict[str, Any]) -> None:
        """See a call before it is run. What this raises is the call's error, for the model."""

    async def on_tool_result(self, context: TurnContext, call: ToolCall, result: ToolResult) -> ToolResult | None:
        """See what a call gave before the model does."""
