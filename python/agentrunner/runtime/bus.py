"""The event bus: any number of subscribers see the events of all sessions."""

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
    """An event of one session."""

    session_id: str
    run_id: str
    event: dict[str, Any]
    """An AG-UI event, or an event of type `checkpoint` with the checkpoint's `step`, `number` and `turn`."""


@dataclass(frozen=True, slots=True)
class Missed:
    """A gap: this many events left the buffer before the subscriber read them."""

    count: int


class EventBus:
    """A buffer of the last events, from which every subscriber reads at its own speed.

    A slow subscriber misses events; the runs never wait for it.
    """

    def __init__(self, capacity: int = 1024) -> None:
        if capacity < 1:
            raise ValueError(f"capacity must be at least 1 event, not {capacity}")
        self._events: deque[RuntimeEvent] = deque(maxlen=capacity)
        self._published = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._closed = False
        self._subscriptions: weakref.WeakSet[Subscription] = weakref.WeakSet()

    def publish(self, event: RuntimeEvent) -> None:
        """Show an event to all subscribers, without waiting for them."""
        if not self._subscriptions:
            return
        self._events.append(event)
        self._published += 1
        self._wake()

    def publish_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Show all subscribers that a checkpoint was written."""
        event = {
            "type": "checkpoint", "step": checkpoint.step, "number": checkpoint.number, "turn": checkpoint.turn,
        }  # fmt: skip
        self.publish(RuntimeEvent(checkpoint.session_id, checkpoint.run_id, event))

    def close(self) -> None:
        """End every subscription after the events it has not read yet."""
        self._closed = True
        self._wake()

    def subscribe(self) -> Subscription:
        """Return a subscription to all events from now on."""
        subscription = Subscription(self)
        self._subscriptions.add(subscription)
        return subscription

    async def read(self, position: int) -> tuple[RuntimeEvent | Missed, int]:
        """Wait for the event at a position, and return it with the next position.

        Raises `StopAsyncIteration` if the bus is closed and has no event there.
        """
        while position == self._published:
            if self._closed:
                raise StopAsyncIteration
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter
        first = self._published - len(self._events)
        if position < first:
            return Missed(first - position), first
        return self._events[position - first], position + 1

    @property
    def published(self) -> int:
        """Number of events published so far, which is the position of the next one."""
        return self._published

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


class Subscription:
    """One subscriber's view of the event bus. It needs no closing: drop it when you are done.

    Example:
        async for event in agent.subscribe_events():
            print(event)
    """

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self._position = bus.published

    def __aiter__(self) -> AsyncIterator[RuntimeEvent | Missed]:
        return self

    async def __anext__(self) -> RuntimeEvent | Missed:
        event, self._position = await self._bus.read(self._position)
        return event
