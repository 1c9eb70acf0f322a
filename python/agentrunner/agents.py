"""Agents made from plain Python functions."""

from __future__ import annotations

import functools
import uuid
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ag_ui.core import RunAgentInput


def text_agent(
    function: Callable[[RunAgentInput], AsyncIterator[str]],
) -> Callable[[RunAgentInput], AsyncIterator[dict[str, Any]]]:
    """Turn an async generator of text into an agent that streams it as one assistant message.

    Args:
        function: An async generator function that takes the run's input and yields the text bit by bit. Empty strings
            are skipped; a function that yields no text makes a run without a message. An exception ends the run with
            `RUN_ERROR`, as it does in any agent.

    Returns:
        The agent, for `AgentRunner.run`, `Harness` and `create_app`.

    Example::

        @text_agent
        async def parrot(input: RunAgentInput) -> AsyncIterator[str]:
            for word in input.messages[-1].content.split():
                yield word + " "

        async for event in runner.run(parrot, input):
            print(event.to_dict())

    """

    @functools.wraps(function)
    async def agent(input: RunAgentInput) -> AsyncIterator[dict[str, Any]]:
        run_ids = {"threadId": input.thread_id, "runId": input.run_id}
        yield {"type": "RUN_STARTED", **run_ids}
        message_id: str | None = None
        async for text in function(input):
            if not text:
                continue
            if message_id is None:
                message_id = str(uuid.uuid4())
                yield {"type": "TEXT_MESSAGE_START", "messageId": message_id, "role": "assistant"}
            yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": message_id, "delta": text}
        if message_id is not None:
            yield {"type": "TEXT_MESSAGE_END", "messageId": message_id}
        yield {"type": "RUN_FINISHED", **run_ids}

    return agent
