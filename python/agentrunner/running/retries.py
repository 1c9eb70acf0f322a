"""Decide when to retry ending a run whose end could not be stored."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from agentrunner.errors import StoreClosed, StoreFull, StoreMissing, StoreReadOnly

if TYPE_CHECKING:
    from agentrunner._core import Claim
    from agentrunner.errors import StoreError

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 60.0
"""Seconds between two attempts, doubled after each one."""
PAUSE_FACTOR = 10
"""Shortest pause between attempts that callers request, as a multiple of an attempt's duration."""
MAX_ATTEMPTS = 8
"""Number of attempts after which the run is stored without its content."""


class UnfinishedRun(NamedTuple):
    """A run whose end could not be stored, without its events."""

    claim: Claim
    error: StoreError
    attempts: int = 0
    ended_at: float = 0.0
    """Time when the last attempt ended, on the monotonic clock."""
    seconds: float = 0.0
    """Seconds that the last attempt took."""

    def is_due(self, *, is_urgent: bool) -> bool:
        """Return whether the next attempt is due; it is due sooner if a caller waits for it."""
        pause = min(FIRST_PAUSE_SECONDS * float(1 << min(self.attempts, 10)), LONGEST_PAUSE_SECONDS)
        if is_urgent:
            # Otherwise each request for a thread that cannot be freed would replay the run.
            pause = min(pause, PAUSE_FACTOR * self.seconds)
        return time.monotonic() - self.ended_at >= pause

    @property
    def may_lose_content(self) -> bool:
        """Whether the store has refused the run too often to keep its content."""
        passing = (StoreFull, StoreReadOnly, StoreMissing, StoreClosed)
        return self.attempts + 1 >= MAX_ATTEMPTS and not isinstance(self.error, passing)
