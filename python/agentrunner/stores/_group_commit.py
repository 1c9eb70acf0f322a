"""Group commit: what arrives while one commit is under way goes together in the next."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

LARGEST = 128
"""How many items share a commit at most."""


class GroupCommit(Generic[T]):
    """Items that are committed together, in the order in which they came; one commit is under way at a time.

    `commit` gives, an item each, what became of it: `None`, or the exception its `add` raises. If it raises itself,
    every `add` of that group raises the same.
    """

    def __init__(self, commit: Callable[[list[T]], Awaitable[list[Exception | None]]]) -> None:
        self._commit = commit
        self._waiting: list[tuple[T, asyncio.Future[None]]] = []
        self._committing: asyncio.Task[None] | None = None

    async def add(self, item: T) -> None:
        """Commit an item with whatever else waits. Cancelled before its commit has begun, it is left out."""
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._waiting.append((item, waiter))
        if self._committing is None:
            task = loop.create_task(self._commit_all())
            # An eager task over a commit that never waits has ended already.
            self._committing = None if task.done() else task
        await waiter

    async def settled(self) -> None:
        """Wait until nothing is to be committed any more."""
        while self._committing is not None:
            await asyncio.wait([self._committing])

    async def _commit_all(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting[:LARGEST], self._waiting[LARGEST:]
                await self._commit_group([pair for pair in group if not pair[1].done()])
        finally:
            self._committing = None
            # Anything is left only where the loop is being closed.
            left, self._waiting = self._waiting, []
            for _, waiter in left:
                waiter.cancel()

    async def _commit_group(self, group: list[tuple[T, asyncio.Future[None]]]) -> None:
        if not group:
            return
        outcomes: list[Exception | None]
        try:
            outcomes = await self._commit([item for item, _ in group])
        except Exception as error:  # noqa: BLE001 - it is theirs whose items these are
            outcomes = [error] * len(group)
        except BaseException:
            for _, waiter in group:
                waiter.cancel()
            raise
        for (_, waiter), outcome in zip(group, outcomes, strict=True):
            if waiter.done():
                continue
            if outcome is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(outcome)
