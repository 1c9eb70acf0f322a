"""A bus of what runs say, for any number of listeners; nobody waits for a slow one."""

from __future__ import annotations

import asyncio
import weakref
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentrunner.runtime.checkpoints import Checkpoint


@dataclass(frozen=True, slots=True)
class RuntimeEvent:
    """Something that happened in a session."""

    session_id: str
    run_id: str
    event: dict[str, Any]
    """An AG-UI event, or of type `checkpoint`: its `step`, `number` and `turn`."""


@dataclass(frozen=True, slots=True)
class Missed:
    """In the place of events a listener was too slow for."""

    count: int


class EventBus:
    """Keeps the last events for those who listen."""

    def __init__(self, capacity: int = 1024) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is at least 1, not {capacity}")
        self._events: deque[RuntimeEvent] = deque(maxlen=capacity)
        self._published = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._closed = False
        self._listeners: weakref.WeakSet[Subscription] = weakref.WeakSet()

    def publish(self, event: RuntimeEvent) -> None:
        """Tell all listeners; returns at once."""
        if not self._listeners:
            return
        self._events.append(event)
        self._published += 1
        self._wake()

    def checkpoint(self, made: Checkpoint) -> None:
        """Tell all listeners that a checkpoint was written."""
        event = {"type": "checkpoint", "step": made.step, "number": made.number, "turn": made.turn}
        self.publish(RuntimeEvent(made.session_id, made.run_id, event))

    def close(self) -> None:
        """End the subscriptions once they have read what there is."""
        self._closed = True
        self._wake()

    def subscribe(self) -> Subscription:
        """Listen from now on."""
        subscription = Subscription(self)
        self._listeners.add(subscription)
        return subscription

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class Subscription:
    """What one listener is told: `async for event in subscription`. Leaving it costs nothing."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self._read = bus._published

    def __aiter__(self) -> AsyncIterator[RuntimeEvent | Missed]:
        return self

    async def __anext__(self) -> RuntimeEvent | Missed:
        bus = self._bus
        while self._read == bus._published:
            if bus._closed:
                raise StopAsyncIteration
            waiter = asyncio.get_running_loop().create_future()
            bus._waiters.append(waiter)
            await waiter
        first = bus._published - len(bus._events)
        if self._read < first:
            missed = Missed(first - self._read)
            self._read = first
            return missed
        event = bus._events[self._read - first]
        self._read += 1
        return event
