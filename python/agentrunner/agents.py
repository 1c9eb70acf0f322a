"""Agents made from plain Python functions."""

from __future__ import annotations

import functools
import inspect
import uuid
from typing import TYPE_CHECKING, Any, ParamSpec

from agentrunner._generators import close_events
from agentrunner.errors import AgentError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

P = ParamSpec("P")

IS_TEXT_AGENT = "is_text_agent"
"""Attribute that marks the agents that `text_agent` returned."""


def text_agent(function: Callable[P, AsyncIterator[str]]) -> Callable[P, AsyncIterator[dict[str, Any]]]:
    """Turn an async generator of text into an agent that streams it as one assistant message.

    Args:
        function: An async generator function, or a method, that takes the run's input and yields the text bit by bit.
            Empty strings are skipped; if the function yields no text, the run has no message. An exception ends the
            run with `RUN_ERROR`, as in any agent; so does a yielded value that is not a `str`.

    Returns:
        The agent, for `AgentRunner.run`, `Harness` and `create_app`.

    Raises:
        TypeError: `function` is not an async generator function, or is already a text agent.

    Example::

        @text_agent
        async def parrot(input: RunAgentInput) -> AsyncIterator[str]:
            for word in input.messages[-1].content.split():
                yield word + " "

        async for event in runner.run(parrot, input):
            print(event.to_dict())

    """
    problem = _find_problem(function)
    if problem is not None:
        raise TypeError(f"text_agent needs an async generator function: `async def` with `yield`; this is {problem}")

    @functools.wraps(function)
    async def agent(*args: P.args, **kwargs: P.kwargs) -> AsyncIterator[dict[str, Any]]:
        # The input is the last argument: a method gets its object before it.
        run_input: Any = [*args, *kwargs.values()][-1]
        run_ids = {"threadId": run_input.thread_id, "runId": run_input.run_id}
        yield {"type": "RUN_STARTED", **run_ids}
        message_id: str | None = None
        texts = function(*args, **kwargs)
        if not hasattr(texts, "__aiter__"):
            raise AgentError(f"a text agent must return an async iterator of str, not {type(texts).__name__}")
        try:
            async for text in texts:
                if not isinstance(text, str):
                    raise AgentError(f"a text agent must yield str, not {type(text).__name__}")
                if not text:
                    continue
                if message_id is None:
                    message_id = str(uuid.uuid4())
                    yield {"type": "TEXT_MESSAGE_START", "messageId": message_id, "role": "assistant"}
                yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": message_id, "delta": text}
        finally:
            await close_events(texts)
        if message_id is not None:
            yield {"type": "TEXT_MESSAGE_END", "messageId": message_id}
        yield {"type": "RUN_FINISHED", **run_ids}

    vars(agent)[IS_TEXT_AGENT] = True
    return agent


def _find_problem(function: Any) -> str | None:
    """Return the reason why a function cannot be a text agent; `None` if it can."""
    if getattr(function, IS_TEXT_AGENT, False):
        return "already a text agent"
    if not callable(function):
        return f"an object of type {type(function).__name__}"
    for code in (function, type(function).__call__):
        if inspect.iscoroutinefunction(code):
            return "an async function without `yield`"
        if inspect.isgeneratorfunction(code):
            return "a generator function without `async`"
    return None
