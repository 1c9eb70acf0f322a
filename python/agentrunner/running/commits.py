"""Commit a run's events in order: take a batch, append it, and only then publish it.

No reader sees an event before it is durable.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from agentrunner.errors import LeaseLost, RunTooLarge, StoreError, StoreValueTooLarge

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner._core import Batch
    from agentrunner.running.live_run import LiveRun
    from agentrunner.running.stats import Stats
    from agentrunner.stores import Store

logger = logging.getLogger("agentrunner")


class Commits:
    """Makes a run's recorded events durable, one batch after another, and publishes each."""

    def __init__(self, live: LiveRun, store: Store, stats: Stats, on_failure: Callable[[Exception], None]) -> None:
        self._live = live
        self._store = store
        self._stats = stats
        self._on_failure = on_failure
        self._task: asyncio.Task[None] | None = None
        self._recorder_lock = live.recorder_lock
        self.error: Exception | None = None
        """Store error or lost lease that stopped all writes; `None` if there was none."""
        self.renewed_at = time.monotonic()
        """Time of the last request that extended the lease, on the monotonic clock."""
        self.last_batch_at = 0.0
        """Time when the last batch of events was taken, on the event loop's clock; 0 before the first."""

    @property
    def is_busy(self) -> bool:
        """Whether a batch of events is being committed."""
        return self._task is not None

    def start(self) -> None:
        """Start committing the recorded events, unless a commit is already under way."""
        if self._task is None and self.error is None:
            task = asyncio.get_running_loop().create_task(self._commit_all())
            # An eager task has already ended here if the store did not have to wait.
            self._task = None if task.done() else task

    async def wait(self) -> None:
        """Wait until all recorded events are committed, or a commit has failed."""
        while self._task is not None and self.error is None:
            await asyncio.wait([self._task])

    async def finish(self, is_stored: bool) -> None:
        """Commit the rest of an ended run and free its thread.

        Raises `StoreError` or `LeaseLost`.
        """
        await self.wait()
        if self.error is not None:
            raise self.error
        try:
            await self._commit(last=True, is_stored=is_stored)
        except StoreValueTooLarge as error:
            self.drop_content(error)
            await self._commit(last=True, is_stored=is_stored)

    def drop_content(self, reason: object) -> None:
        """Reduce the run to its start and a `RUN_ERROR`, because the store cannot take more of it."""
        claim = self._live.claim
        logger.error(
            "thread %s: the events of run %s cannot be stored and are dropped: %s",
            claim.thread_id, claim.run_id, reason,
        )  # fmt: skip
        self._live.recorder.drop_content("The run was too large to be stored; its events are gone", RunTooLarge.code)

    async def _commit_all(self) -> None:
        try:
            while await self._commit():
                self._live.wake()
        except (StoreError, LeaseLost) as error:
            self._on_failure(error)
        finally:
            self._task = None

    async def _commit(self, *, last: bool = False, is_stored: bool = True) -> bool:
        """Append the recorded events and then publish them; return false if there were none.

        The last batch is published after the store has finished the run, so that a reader that sees the run's end finds
        the thread free.
        """
        recorder = self._live.recorder
        async with self._recorder_lock:
            pending = recorder.take()
        if pending is None and not last:
            return False
        if pending is not None:
            self.last_batch_at = asyncio.get_running_loop().time()
            batch, has_barrier = pending
            # The last batch needs no barrier of its own: `finish` reaches the disk after it and covers both.
            await self._append(batch, has_barrier and not last)
        if last:
            await self._store.finish(self._live.claim, recorder, is_stored)
        async with self._recorder_lock:
            recorder.publish()
        return True

    async def _append(self, batch: Batch, has_barrier: bool) -> None:
        # Measure the lease from the request, not from the response: the store may have extended it at any time between.
        requested_at, began = time.monotonic(), time.perf_counter()
        await self._store.append(self._live.claim, batch, has_barrier)
        self._stats.count_commit(batch.last_seq - batch.first_seq + 1, time.perf_counter() - began)
        self.renewed_at = requested_at
