"""What a runner has done, in plain counters."""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Literal, TypeAlias

from agentrunner.running.driver import Driver

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentrunner.running.live_run import LiveRun

How: TypeAlias = Literal["finished", "failed", "stopped"]

BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""Upper bounds, in seconds, of the classes commits are counted in by how long they took."""


class Stats:
    """Counts since the runner was made, and what it is at now: `runner.stats`. All of it is to be read only."""

    def __init__(self, live: Mapping[str, LiveRun]) -> None:
        self._live = live
        self.runs_started = 0
        """Runs started here."""
        self.runs_ended: dict[How, int] = {"finished": 0, "failed": 0, "stopped": 0}
        """Those of them that have ended: `failed` with a `RUN_ERROR`, else `stopped` because somebody asked for it."""
        self.events = 0
        """Events recorded and durable."""
        self.commits = 0
        """Batches of events made durable."""
        self.commit_seconds = 0.0
        """How long those took, all in all."""
        self.commit_buckets = [0] * (len(BUCKETS) + 1)
        """How many of them took at most so long as each of `BUCKETS` and longer than the one before; the rest last."""
        self.recoveries = 0
        """Runs ended and stored in place of a process that is gone."""
        self.lease_losses = 0
        """Runs given up because another process has taken them over, or may have."""

    def committed(self, events: int, seconds: float) -> None:
        """Count a batch that was made durable."""
        self.events += events
        self.commits += 1
        self.commit_seconds += seconds
        self.commit_buckets[bisect_left(BUCKETS, seconds)] += 1

    @property
    def runs_active(self) -> int:
        """How many live runs are driven here."""
        return sum(isinstance(live, Driver) and not live.closed for live in self._live.values())

    @property
    def readers(self) -> int:
        """How many streams follow a live run here."""
        return sum(live.readers for live in self._live.values() if not live.closed)
