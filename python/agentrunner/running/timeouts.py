"""End runs that take too long, and runs whose agent is silent for too long."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentrunner._checks import check_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT_CHECK_SECONDS = 1.0
"""Greatest number of seconds between two checks of a run that has a time limit."""
BLOCKED_LOOP_SECONDS = 1.0
"""Seconds that a check must be late for its delay not to count.

The event loop was blocked, or the process stopped, so that no agent of this process could do anything.
"""


@dataclass(frozen=True, slots=True)
class RunTimeouts:
    """Seconds that a run may take and its agent may be silent; `None` sets no limit."""

    run_timeout: float | None = None
    silence_timeout: float | None = None

    def __post_init__(self) -> None:
        for name in ("run_timeout", "silence_timeout"):
            if (value := getattr(self, name)) is not None:
                check_seconds(name, value, 0.001)

    def or_else(self, other: RunTimeouts) -> RunTimeouts:
        """Return these timeouts, with those of `other` where these set no limit."""
        return RunTimeouts(
            other.run_timeout if self.run_timeout is None else self.run_timeout,
            other.silence_timeout if self.silence_timeout is None else self.silence_timeout,
        )


class Watch:
    """Watches one run and reports when it takes too long or is silent for too long."""

    def __init__(
        self, last_activity: Callable[[], float], is_busy: Callable[[], bool], on_timeout: Callable[[str], None]
    ) -> None:
        """Take functions that return when the last event was, and whether one is being stored."""
        self._loop = asyncio.get_running_loop()
        self._last_activity = last_activity
        self._is_busy = is_busy
        self._on_timeout = on_timeout
        self._timeouts = RunTimeouts()
        self._timer: asyncio.TimerHandle | None = None
        self._began = 0.0
        """Time from which the run's time counts, on the event loop's clock."""
        self._silent_since: float | None = None
        """Time from which the agent's silence counts, unless its last event was later; `None` if nothing is watched."""

    @property
    def silent_seconds(self) -> float:
        """Seconds since the agent's last event; 0 while one is being stored or nothing is watched."""
        if self._silent_since is None or self._is_busy():
            return 0.0
        return max(0.0, self._loop.time() - max(self._silent_since, self._last_activity()))

    def start(self, timeouts: RunTimeouts) -> None:
        """Watch the run from now on."""
        self.stop()
        self._timeouts = timeouts
        self._began = self._silent_since = self._loop.time()
        self._check_limits()

    def stop(self) -> None:
        """Stop watching the run, because it has ended or does not wait for its agent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._silent_since = None

    def _check_limits(self) -> None:
        """Report a limit that is exceeded, or check again when the next one may be."""
        now, timeouts = self._loop.time(), self._timeouts
        remaining = LIMIT_CHECK_SECONDS
        if (limit := timeouts.run_timeout) is not None:
            remaining = min(remaining, self._began + limit - now)
            if self._began + limit <= now:
                self._on_timeout(f"The run took longer than {limit:g} s")
                return
        if (limit := timeouts.silence_timeout) is not None:
            remaining = min(remaining, limit - self.silent_seconds)
            if remaining <= 0:
                self._on_timeout(f"The agent was silent for longer than {limit:g} s")
                return
        if timeouts != RunTimeouts():
            self._timer = self._loop.call_at(now + remaining, self._check, now + remaining)

    def _check(self, due: float) -> None:
        lateness = self._loop.time() - due
        if lateness > BLOCKED_LOOP_SECONDS and self._silent_since is not None:
            self._began += lateness
            last_activity = max(self._silent_since, self._last_activity())
            if last_activity <= due:
                self._silent_since = last_activity + lateness
        self._check_limits()
