"""Call listeners in order, each in a separate task, so that none delays a run."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("agentrunner.harness")

T = TypeVar("T")

BACKLOG_EVENTS = 10_000
"""Number of events that are kept for a slow listener; beyond that the oldest are dropped."""


class ListenerSubscription(Generic[T]):
    """A listener that is called for every event until `close()`.

    Example::

        with harness.subscribe(lambda event: print(event.type, event.data)) as subscription:
            await harness.run("Order tea")
        print(subscription.missed)
    """

    def __init__(self, listener: Callable[[T], Any], bus: Bus[T] | None = None) -> None:
        self._listener = listener
        self._bus = bus
        self._backlog: deque[T] = deque()
        self._task: asyncio.Task[None] | None = None
        self._context = contextvars.copy_context()
        self.missed = 0
        """Number of events that were dropped because the listener was too slow."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop calling the listener, even for the events that are still queued for it."""
        if self._bus is not None:
            self._bus.remove(self)
        self._backlog.clear()
        if self._task is not None:
            self._task.cancel()

    def offer(self, event: T) -> None:
        """Queue an event for the listener."""
        if len(self._backlog) >= BACKLOG_EVENTS:
            self._backlog.popleft()
            self.missed += 1
            if self.missed == 1:
                logger.warning("the listener %r is too slow: events are dropped for it", self._listener)
        self._backlog.append(event)
        if self._task is None:
            # In the subscriber's context: in the caller's, a run that the listener starts would share its slot.
            task = asyncio.get_running_loop().create_task(self._call(), context=self._context.copy())
            # An eager task has already ended here if the listener did not have to wait.
            self._task = None if task.done() else task

    async def _call(self) -> None:
        try:
            while self._backlog:
                event = self._backlog.popleft()
                try:
                    result = self._listener(event)
                    if inspect.isawaitable(result):
                        await result
                except Exception:
                    logger.exception("the listener %r failed", self._listener)
        finally:
            self._task = None

    async def drain(self) -> None:
        """Wait until the listener was called for all events so far."""
        while self._task is not None:
            await asyncio.wait([self._task])


class Bus(Generic[T]):
    """All listeners to the same events; the bus is true while it has any."""

    def __init__(self) -> None:
        self._subscriptions: tuple[ListenerSubscription[T], ...] = ()

    def __bool__(self) -> bool:
        return bool(self._subscriptions)

    def subscribe(self, listener: Callable[[T], Any]) -> ListenerSubscription[T]:
        """Call a listener for every event from now on."""
        subscription = ListenerSubscription(listener, self)
        self._subscriptions += (subscription,)
        return subscription

    def remove(self, subscription: ListenerSubscription[T]) -> None:
        """Drop a subscription."""
        self._subscriptions = tuple(each for each in self._subscriptions if each is not subscription)

    def publish(self, event: T) -> None:
        """Queue an event for every listener."""
        for subscription in self._subscriptions:
            subscription.offer(event)

    async def drain(self) -> None:
        """Wait until all listeners were called for all events so far."""
        for subscription in self._subscriptions:
            await subscription.drain()
