"""Report when the event loop was blocked, for how long, and by which run."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

logger = logging.getLogger("agentrunner")

TICK_SECONDS = 0.1
"""Seconds between two ticks, which show that the event loop runs."""
LEAST_SECONDS = 0.05
"""Seconds of the shortest blockage that is reported, however short a lease is."""
CHECKS_PER_BLOCKAGE = 4
"""Number of times that the thread checks the event loop during the shortest reported blockage."""


class Culprit(NamedTuple):
    """The run and the line of code that blocked the event loop."""

    run: str | None
    """Phrase for the run whose task blocked it; `None` if unknown."""
    place: str
    """File, line and function that the event loop was executing."""


class LoopWatch:
    """Reports blockages of at least `seconds`, each in one warning when it is over.

    A thread watches the event loop during the blockage, because afterwards nothing shows what it was doing.
    `describe_task` returns a phrase for the run that a task belongs to. If the loop is closed before the runner, the
    thread calls `on_abandoned`.
    """

    def __init__(
        self,
        seconds: float,
        describe_task: Callable[[asyncio.Task[Any]], str | None],
        on_abandoned: Callable[[], None],
    ) -> None:
        self._seconds = max(seconds, LEAST_SECONDS)
        self._describe_task = describe_task
        self._on_abandoned = on_abandoned
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._ticked_at = time.monotonic()
        self._culprit: Culprit | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="agentrunner-watch", daemon=True)

    async def run(self) -> None:
        """Show that the event loop runs and report its blockages, until cancelled."""
        self._ticked_at = time.monotonic()
        self._thread.start()
        try:
            while True:
                await asyncio.sleep(TICK_SECONDS)
                self._tick()
        finally:
            self._closing.set()

    async def aclose(self) -> None:
        """Wait until the thread has ended; `run` must have been cancelled."""
        self._closing.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join)

    def _tick(self) -> None:
        now = time.monotonic()
        late_seconds = now - self._ticked_at - TICK_SECONDS
        culprit, self._culprit, self._ticked_at = self._culprit, None, now
        if late_seconds < self._seconds:
            return
        if culprit is None:
            logger.warning(
                "this process was paused for %.1f s: it was stopped, or C code blocked all its Python threads; "
                "its runs continue, unless another process has taken them over meanwhile", late_seconds,
            )  # fmt: skip
            return
        logger.warning(
            "the event loop was blocked for %.1f s by %s, in %s; the runs of this process keep their threads, but no "
            "reader received anything meanwhile: move blocking work to another thread, with asyncio.to_thread",
            late_seconds, culprit.run or "an unknown task", culprit.place,
        )  # fmt: skip

    def _watch(self) -> None:
        interval = self._seconds / CHECKS_PER_BLOCKAGE
        checked_at = time.monotonic()
        while not self._closing.wait(interval):
            now = time.monotonic()
            # If this thread was late too, the process was stopped, and the loop has had no time to tick since then.
            was_on_time = now - checked_at < 2 * interval
            checked_at = now
            if self._loop.is_closed():
                self._on_abandoned()
                return
            if was_on_time and self._culprit is None and now - self._ticked_at > self._seconds / 2:
                self._culprit = self._look()

    def _look(self) -> Culprit:
        frame = sys._current_frames().get(self._loop_thread)
        task = asyncio.current_task(self._loop)
        run = self._describe_task(task) if task is not None else None
        return Culprit(run, _describe(frame) if frame is not None else "an unknown place")


def _describe(frame: FrameType) -> str:
    code = frame.f_code
    return f"{code.co_filename}:{frame.f_lineno} ({code.co_name})"
