"""The task that runs an agent, and the limited wait for its end."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context

logger = logging.getLogger("agentrunner")

STOP_GRACE_SECONDS = 5.0
"""Seconds after a request to end that an agent may take, before its run ends without it."""
PATIENCE_SECONDS = 3.0
"""Seconds after which an agent is cancelled if `abort_run` or closing its generator did not end it."""

_tasks: set[asyncio.Task[None]] = set()
"""Tasks of agents. Event loops keep only weak references, and a run that ended without its agent keeps none."""


class AgentTask:
    """Runs an agent in its own task, and stops waiting for it when its grace period is over."""

    def __init__(self, work: Coroutine[None, None, None], context: Context, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._over = self._loop.create_future()
        self._timers: list[asyncio.TimerHandle] = []
        self.is_given_up = False
        """Whether the agent was still running when its grace period was over."""
        self._task = self._loop.create_task(work, context=context, name=name)
        _tasks.add(self._task)
        self._task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[None]) -> None:
        _tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if self.is_given_up and error is not None:
            logger.warning("%s failed after its run had ended without it", task.get_name(), exc_info=error)
        self._end_wait()

    def _end_wait(self) -> None:
        for timer in self._timers:
            timer.cancel()
        if not self._over.done():
            self._over.set_result(None)

    def is_task(self, task: asyncio.Task[Any]) -> bool:
        """Return whether the agent runs in this task."""
        return task is self._task

    def add_end_callback(self, callback: Callable[[asyncio.Task[None]], object]) -> None:
        """Call a function when the agent has ended or its grace period is over."""
        self._over.add_done_callback(lambda _: callback(self._task))

    def end(self, *, is_patient: bool = False) -> None:
        """Make the agent end within the grace period: cancel it now, or later if `is_patient`."""
        if self._over.done():
            return
        if not self._timers:
            self._timers.append(self._loop.call_later(STOP_GRACE_SECONDS, self._give_up))
        if is_patient:
            self._timers.append(self._loop.call_later(PATIENCE_SECONDS, self._task.cancel))
        else:
            self._task.cancel()

    def _give_up(self) -> None:
        self.is_given_up = True
        # It may have caught the first cancellation, and be waiting for something else.
        self._task.cancel()
        self._end_wait()

    async def wait(self) -> None:
        """Wait until the agent has ended or its grace period is over."""
        await asyncio.wait([self._over])
