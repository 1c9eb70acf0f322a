"""Close and cancel an async generator from the task that iterates over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator


class CancelledEvents:
    """The events that an agent yields after a cancellation was passed on to it.

    An agent that waits at a `yield` does not notice that its task is cancelled. The code that iterates over it notices,
    and throws the error into the agent here. If the agent is not a generator, the error itself is raised.
    """

    def __init__(self, events: AsyncIterator[Any], error: asyncio.CancelledError) -> None:
        self._events = events
        self._error: asyncio.CancelledError | None = error

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        error, self._error = self._error, None
        if error is None:
            return await anext(self._events)
        throw = getattr(self._events, "athrow", None)
        if throw is None:
            raise error
        return await throw(error)


def needs_closing(events: AsyncIterator[Any]) -> bool:
    """Return whether an iterator is a generator that has not ended."""
    # A generator that has ended has no frame.
    return hasattr(events, "aclose") and getattr(events, "ag_frame", events) is not None


async def close_events(events: AsyncIterator[Any]) -> None:
    """Close a generator in the current task, because cancel scopes must not change tasks."""
    if needs_closing(events):
        await events.aclose()  # type: ignore[attr-defined]
