"""Counters of a runner's work."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentrunner.running.live_run import LiveRun

Outcome: TypeAlias = Literal["finished", "failed", "stopped"]

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Upper bounds, in seconds, of the histogram of commit durations."""


class Stats:
    """Read-only counters since the runner was made, and its current load: `runner.stats`.

    Example::

        print(runner.stats.runs_active, runner.stats.events)

    """

    def __init__(self, live_runs: Mapping[str, LiveRun]) -> None:
        self._live_runs = live_runs
        self.runs_started = 0
        """Number of runs started by this runner."""
        self.runs_ended: dict[Outcome, int] = {"finished": 0, "failed": 0, "stopped": 0}
        """Number of runs that ended: `failed` with a `RUN_ERROR`, otherwise `stopped` if a stop was requested."""
        self.events = 0
        """Number of events recorded and durable."""
        self.commits = 0
        """Number of batches made durable."""
        self.commit_seconds = 0.0
        """Seconds that all commits took in total."""
        self.commit_buckets = [0] * (len(BUCKETS) + 1)
        """Number of commits per bucket, from the previous bound up to its own; the last bucket has no bound."""
        self.recoveries = 0
        """Number of runs of dead processes that this process ended and stored."""
        self.lease_losses = 0
        """Number of runs abandoned because another process took them over, or may have."""

    def count_commit(self, events: int, seconds: float) -> None:
        """Count a batch of events that became durable within some seconds."""
        self.events += events
        self.commits += 1
        self.commit_seconds += seconds
        self.commit_buckets[bisect_left(BUCKETS, seconds)] += 1

    @property
    def runs_active(self) -> int:
        """Number of live runs whose agents run in this process."""
        return sum(live.is_driven and not live.is_closed for live in self._live_runs.values())

    @property
    def readers(self) -> int:
        """Number of streams that follow a live run in this process."""
        return sum(live.readers for live in self._live_runs.values() if not live.is_closed)

    @property
    def oldest_silence_seconds(self) -> float:
        """Seconds since the last event of the live run that has been silent for longest here."""
        return max((live.silent_seconds for live in self._live_runs.values() if not live.is_closed), default=0.0)
