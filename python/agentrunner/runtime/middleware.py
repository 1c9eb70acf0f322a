"""Middleware: hooks that see each step of a turn and can change it."""

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
    """The session, run and turn in which a middleware is called."""

    session_id: str
    run_id: str
    turn: int
    """Number of model requests in this user's turn so far; 0 before the first one."""
    session: Session | None
    """The session as it is now; `None` before the first user message has created it."""


class Middleware:
    """Base class of middleware: override the hooks you need.

    The runtime calls its middleware in the order of the `middlewares` option. An exception in a hook fails the turn.
    There are two exceptions: in `on_user_message` it refuses the message and nothing is stored, and in `on_tool_call`
    it becomes the call's error. After a crash the runtime calls the hooks again for everything that the last checkpoint
    does not contain.

    Example:
        class Shorten(Middleware):
            async def on_tool_result(self, context, call, result):
                return replace(result, content=result.content[:10_000])
    """

    async def on_user_message(self, context: TurnContext, message: dict[str, Any]) -> dict[str, Any] | None:
        """See a new user message before the session stores it.

        Args:
            context: The session and run; its `turn` is 0.
            message: The message in AG-UI's wire form.

        Returns:
            The message to store, or `None` to store it unchanged. Its id does not change.

        Raises:
            Exception: To refuse the message. The run does not start.
        """

    async def on_pre_llm(self, context: TurnContext, request: LlmRequest) -> LlmRequest | None:
        """See a request, with its messages, tools and settings, before the model does.

        Args:
            context: The session, run and turn.
            request: The request, already trimmed by the context manager.

        Returns:
            The request to send, or `None` to send it unchanged.
        """

    async def on_post_llm(self, context: TurnContext, response: ModelResponse) -> ModelResponse | None:
        """See a model's response before the session stores it.

        Clients have seen the response as it arrived. If the hook changes it, they receive a snapshot of all messages.

        Args:
            context: The session, run and turn.
            response: The complete response.

        Returns:
            The response to store, or `None` to store it unchanged.
        """

    async def on_tool_call(self, context: TurnContext, call: ToolCall, arguments: dict[str, Any]) -> None:
        """See a tool call before it runs.

        Args:
            context: The session, run and turn.
            call: The call, with the arguments the model wrote.
            arguments: The validated arguments the tool will receive: the model's, or those of an approver.

        Raises:
            Exception: To keep the tool from running. The model receives it as the call's error.
        """

    async def on_tool_result(self, context: TurnContext, call: ToolCall, result: ToolResult) -> ToolResult | None:
        """See the result of a tool call before the model does.

        Args:
            context: The session, run and turn.
            call: The call that ran.
            result: Its result.

        Returns:
            The result to store, or `None` to store it unchanged.
        """
