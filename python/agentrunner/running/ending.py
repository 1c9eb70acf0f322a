"""Wait for a run that is ending, so that the thread's next run is not refused."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from agentrunner.running.maintenance import STOP_POLL_SECONDS

if TYPE_CHECKING:
    from agentrunner.running.table import RunTable
    from agentrunner.stores import Store

ENDING_WAIT_SECONDS = 30.0
"""Seconds that a new run waits for a run that is ending, before it is refused."""
CHECK_SECONDS = 0.25
"""Seconds between two reads of another process's run, so that not every refused message causes one."""
MAX_CLAIMS_WITHOUT_RUN = 3
"""Times that a thread may be busy although it has no live run, before the new run is refused."""
MAX_CHECKS = 1000
"""Number of runs whose last read is remembered."""


class EndingChecks:
    """Limits how often a run of another process is read to find out whether it is ending."""

    def __init__(self) -> None:
        self._checked_at: dict[tuple[str, int], float] = {}

    def is_due(self, thread_id: str, token: int) -> bool:
        """Return whether a run may be read again, and if so, note that it is read now."""
        now = asyncio.get_running_loop().time()
        if now - self._checked_at.get((thread_id, token), float("-inf")) < CHECK_SECONDS:
            return False
        if len(self._checked_at) >= MAX_CHECKS:
            self._checked_at.clear()
        self._checked_at[thread_id, token] = now
        return True


class EndingRun:
    """The live run of a thread, which a new run may wait for only if it is ending.

    A run is ending while it is being stopped, and while its agent still works after yielding the run's end.
    """

    def __init__(self, store: Store, table: RunTable, thread_id: str, checks: EndingChecks) -> None:
        self._store = store
        self._checks = checks
        self._table = table
        self._thread_id = thread_id
        self._deadline: float | None = None
        self._claims_without_run = 0
        self._ended_token: int | None = None
        """Token of another process's run whose agent has yielded its end; `None` if there is none."""

    async def wait(self) -> bool:
        """Wait until the thread may be free; return false at once if its run is not ending."""
        now = asyncio.get_running_loop().time()
        if self._deadline is None:
            self._deadline = now + ENDING_WAIT_SECONDS
        if now > self._deadline or not await self._is_ending():
            return False
        driver = self._table.driver(self._thread_id)
        if driver is None:
            await asyncio.sleep(STOP_POLL_SECONDS)
            return True
        # Do not wait for its end right away: if `abort_run()` fails, the stop is revoked.
        while driver.is_ending and not driver.is_closed and asyncio.get_running_loop().time() <= self._deadline:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_POLL_SECONDS):
                    await driver.wait_until_ended()
        return True

    async def _is_ending(self) -> bool:
        if (driver := self._table.driver(self._thread_id)) is not None:
            return driver.is_ending
        live_runs = await self._store.live(self._thread_id)
        if not live_runs:
            # The run has ended since the claim was refused, or the TypeScript runner holds the thread.
            self._claims_without_run += 1
            return self._claims_without_run <= MAX_CLAIMS_WITHOUT_RUN
        self._claims_without_run = 0
        return all([is_stopping or await self._has_ended(claim.token) for claim, is_stopping in live_runs])

    async def _has_ended(self, token: int) -> bool:
        """Return whether a run of another process has yielded its end."""
        if token == self._ended_token:
            return True
        if not self._checks.is_due(self._thread_id, token):
            return False
        async with self._table.hold(self._thread_id) as live:
            has_ended = live is None or live.recorder.ended
        if has_ended:
            self._ended_token = token
        return has_ended
