"""Group commit: all items that arrive during one commit share the next."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

BATCH_ITEMS = 128
"""The greatest number of items in one commit."""


class GroupCommit(Generic[T]):
    """Commits items in the order in which they arrive, one batch at a time.

    All items that arrive during one commit are in the next. `commit` takes a batch and returns an outcome for each
    item: `None`, or the exception that `add` raises. If `commit` itself raises, every `add` of the batch raises that
    error.
    """

    def __init__(self, commit: Callable[[list[T]], Awaitable[list[Exception | None]]]) -> None:
        self._commit = commit
        self._queue: list[tuple[T, asyncio.Future[None]]] = []
        self._committing: asyncio.Task[None] | None = None

    async def add(self, item: T) -> None:
        """Commit an item together with all waiting items.

        If the caller is cancelled before the commit begins, the item is left out.
        """
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._queue.append((item, waiter))
        if self._committing is None:
            task = loop.create_task(self._commit_all())
            # An eager task has already ended here if the commit did not have to wait.
            self._committing = None if task.done() else task
        await waiter

    async def wait_until_idle(self) -> None:
        """Wait until no item is left to commit."""
        while self._committing is not None:
            await asyncio.wait([self._committing])

    async def _commit_all(self) -> None:
        try:
            while self._queue:
                batch, self._queue = self._queue[:BATCH_ITEMS], self._queue[BATCH_ITEMS:]
                await self._commit_batch([entry for entry in batch if not entry[1].done()])
        finally:
            self._committing = None
            # Items are left only if this task was cancelled, as it is when the event loop closes.
            abandoned, self._queue = self._queue, []
            for _, waiter in abandoned:
                waiter.cancel()

    async def _commit_batch(self, batch: list[tuple[T, asyncio.Future[None]]]) -> None:
        if not batch:
            return
        outcomes: list[Exception | None]
        try:
            outcomes = await self._commit([item for item, _ in batch])
        except Exception as error:  # noqa: BLE001 - every caller of `add` in this batch raises it
            outcomes = [error] * len(batch)
        except BaseException:
            for _, waiter in batch:
                waiter.cancel()
            raise
        for (_, waiter), outcome in zip(batch, outcomes, strict=True):
            if waiter.done():
                continue
            if outcome is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(outcome)
