"""Agents that yield what a test lists."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from support.events import run_finished, run_started

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from ag_ui.core import RunAgentInput


def scripted_agent(events: Iterable[Any]) -> Callable[[RunAgentInput], AsyncIterator[Any]]:
    """Return an agent that yields exactly these events."""
    script = list(events)

    async def agent(input: RunAgentInput) -> AsyncIterator[Any]:
        for event in script:
            yield event

    return agent


async def failing_at_once(input: RunAgentInput) -> AsyncIterator[Any]:
    """Fail before the first event."""
    raise RuntimeError("boom")
    yield


def agent_with(*events: Any) -> Callable[[RunAgentInput], AsyncIterator[Any]]:
    """Return an agent that yields these events between its run's RUN_STARTED and RUN_FINISHED."""

    async def agent(input: RunAgentInput) -> AsyncIterator[Any]:
        yield run_started(input.thread_id, input.run_id)
        for event in events:
            yield event
        yield run_finished(input.thread_id, input.run_id)

    return agent


class Gate:
    """An agent that yields some events, waits for `open()`, and yields the rest.

    `reached` is set while it waits.
    """

    def __init__(self, before: Iterable[Any] = (), after: Iterable[Any] = ()) -> None:
        self.reached = asyncio.Event()
        self.cancelled = False
        self._opened = asyncio.Event()
        self._before, self._after = list(before), list(after)

    def open(self) -> None:
        self._opened.set()

    async def run(self, input: RunAgentInput) -> AsyncIterator[Any]:
        yield run_started(input.thread_id, input.run_id)
        for event in self._before:
            yield event
        self.reached.set()
        try:
            await self._opened.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        for event in self._after:
            yield event
        yield run_finished(input.thread_id, input.run_id)
