"""Log when a store cannot be used: at the beginning, rarely meanwhile, and at the end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging

REMINDER_SECONDS = 60.0
"""Seconds between two warnings of one outage."""


class OutageLog:
    """Logs the outages that periodic work notices; logging each failure would fill the log.

    `work` is what fails, as the subject of a sentence.
    """

    def __init__(self, logger: logging.Logger, work: str) -> None:
        self._logger = logger
        self._work = work
        self._began_at: float | None = None
        """Time of the first failure since the last success, on the monotonic clock."""
        self._warned_at = 0.0

    def note_failure(self, error: Exception) -> None:
        """Log a warning if an outage begins, or if the last warning is long ago."""
        now = time.monotonic()
        if self._began_at is None:
            self._began_at = now
        elif now - self._warned_at < REMINDER_SECONDS:
            return
        self._warned_at = now
        self._logger.warning("%s failed and is tried again: %s: %s", self._work, type(error).__name__, error)

    def note_success(self) -> None:
        """Log the end of an outage, if there was one."""
        if self._began_at is None:
            return
        seconds, self._began_at = time.monotonic() - self._began_at, None
        # Also a warning: a log that shows the beginning must show the end.
        self._logger.warning("%s succeeds again, after %.0f s", self._work, seconds)

    def forget(self) -> None:
        """End an outage without a line, because nothing uses the store any more."""
        self._began_at = None
