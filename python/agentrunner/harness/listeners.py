"""Listeners: told in order, each by a task of its own, so that none keeps a run waiting or breaks it."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("agentrunner.harness")

T = TypeVar("T")

BACKLOG = 10_000
"""What is kept for a listener that is slow; past it the oldest is dropped."""


class Subscription(Generic[T]):
    """A listener that is being told. `close()`, or leaving it as a context, ends that."""

    def __init__(self, listener: Callable[[T], Any], bus: Bus[T] | None = None) -> None:
        self._listener = listener
        self._bus = bus
        self._backlog: deque[T] = deque()
        self._task: asyncio.Task[None] | None = None
        self.missed = 0
        """How many events were dropped because the listener was too slow."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Tell it nothing more."""
        if self._bus is not None:
            self._bus.remove(self)
        self._backlog.clear()
        if self._task is not None:
            self._task.cancel()

    def offer(self, event: T) -> None:
        """Have the listener told, later."""
        if len(self._backlog) >= BACKLOG:
            self._backlog.popleft()
            self.missed += 1
            if self.missed == 1:
                logger.warning("the listener %r is too slow: events are dropped for it", self._listener)
        self._backlog.append(event)
        if self._task is None:
            task = asyncio.get_running_loop().create_task(self._tell())
            # An eager task of a listener that never waits has ended already.
            self._task = None if task.done() else task

    async def _tell(self) -> None:
        try:
            while self._backlog:
                event = self._backlog.popleft()
                try:
                    told = self._listener(event)
                    if inspect.isawaitable(told):
                        await told
                except Exception:
                    logger.exception("the listener %r failed", self._listener)
        finally:
            self._task = None

    async def told(self) -> None:
        """Wait until the listener has been told all there is."""
        while self._task is not None:
            await asyncio.wait([self._task])


class Bus(Generic[T]):
    """All listeners to the same thing."""

    def __init__(self) -> None:
        self._listening: tuple[Subscription[T], ...] = ()

    def __bool__(self) -> bool:
        return bool(self._listening)

    def subscribe(self, listener: Callable[[T], Any]) -> Subscription[T]:
        """Tell a listener everything from now on."""
        subscription = Subscription(listener, self)
        self._listening += (subscription,)
        return subscription

    def remove(self, subscription: Subscription[T]) -> None:
        """Tell it no more."""
        self._listening = tuple(each for each in self._listening if each is not subscription)

    def tell(self, event: T) -> None:
        """Have all listeners told."""
        for each in self._listening:
            each.offer(event)

    async def told(self) -> None:
        """Wait until all listeners have been told."""
        for each in self._listening:
            await each.told()

    def close(self) -> None:
        """Tell nobody any more."""
        for each in self._listening:
            each.close()
