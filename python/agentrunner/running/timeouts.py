"""End runs that take too long, and runs whose agent is silent for too long."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agentrunner._checks import check_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

BLOCKED_LOOP_SECONDS = 1.0
"""Seconds that a timer must be late for the event loop to count as blocked; agents could not yield then."""


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
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._silent_since: float | None = None

    @property
    def silent_seconds(self) -> float:
        """Seconds since the agent's last event; 0 while one is being stored or nothing is watched."""
        if self._silent_since is None or self._is_busy():
            return 0.0
        return max(0.0, self._loop.time() - max(self._silent_since, self._last_activity()))

    def start(self, timeouts: RunTimeouts) -> None:
        """Watch the run from now on."""
        self.stop()
        self._silent_since = now = self._loop.time()
        if (limit := timeouts.run_timeout) is not None:
            message = f"The run took longer than {limit:g} s"
            self._timers["run"] = self._loop.call_at(now + limit, self._on_timeout, message)
        if timeouts.silence_timeout is not None:
            self._check_silence_at(now + timeouts.silence_timeout, timeouts.silence_timeout)

    def stop(self) -> None:
        """Stop watching the run, because it has ended or does not wait for its agent."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._silent_since = None

    def _check_silence_at(self, due: float, limit: float) -> None:
        self._timers["silence"] = self._loop.call_at(due, self._check_silence, due, limit)

    def _check_silence(self, due: float, limit: float) -> None:
        lateness = self._loop.time() - due
        if lateness > BLOCKED_LOOP_SECONDS and self._silent_since is not None:
            self._silent_since = max(self._silent_since, self._last_activity()) + lateness
        remaining = limit - self.silent_seconds
        if remaining > 0:
            self._check_silence_at(self._loop.time() + remaining, limit)
        else:
            self._on_timeout(f"The agent was silent for longer than {limit:g} s")
