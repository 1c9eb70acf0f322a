"""Metrics for Prometheus: the requests of an app and the work of its runner."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector
from starlette.responses import Response

from agentrunner.running.stats import BUCKETS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

    from agentrunner.runner import AgentRunner
    from agentrunner.running.stats import Stats


class Metrics:
    """The metrics of one app and its runner."""

    def __init__(self, runner: AgentRunner) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_RunnerMetrics(runner.stats))
        self._requests = Counter(
            "agentrunner_http_requests", "Requests answered.", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "agentrunner_http_request_seconds",
            "Seconds from a request to the end of its response; of a stream, to its end.",
            ["route"],
            buckets=(0.005, 0.02, 0.1, 0.5, 2, 10, 60, 600),
            registry=self._registry,
        )

    def count_response(self, route: str, status: int, seconds: float) -> None:
        """Count a response, and the seconds from its request to its end."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def to_response(self) -> Response:
        """Return all metrics in Prometheus' text format."""
        return Response(generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


class _RunnerMetrics(Collector):
    """The counters of a runner, read on each scrape.

    Counting them in Prometheus' objects as well would slow down every commit.
    """

    def __init__(self, stats: Stats) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        """Yield the current values."""
        stats = self._stats
        yield GaugeMetricFamily("agentrunner_runs_active", "Live runs of this process.", stats.runs_active)
        yield GaugeMetricFamily("agentrunner_readers", "Streams that follow a live run of this process.", stats.readers)
        yield GaugeMetricFamily(
            "agentrunner_oldest_silence_seconds",
            "Seconds since the last event of the live run that has been silent longest.",
            stats.oldest_silence_seconds,
        )
        yield CounterMetricFamily("agentrunner_runs_started", "Runs started by this process.", stats.runs_started)
        runs_ended = CounterMetricFamily(
            "agentrunner_runs_ended", "Runs ended by this process, by outcome.", labels=["how"]
        )
        for how, count in stats.runs_ended.items():
            runs_ended.add_metric([how], count)
        yield runs_ended
        yield CounterMetricFamily("agentrunner_events", "Events recorded durably.", stats.events)
        bounds = [*map(str, BUCKETS), "+Inf"]
        yield HistogramMetricFamily(
            "agentrunner_commit_seconds",
            "Seconds until a batch of events was durable.",
            list(zip(bounds, accumulate(stats.commit_buckets), strict=True)),
            stats.commit_seconds,
        )
        yield CounterMetricFamily(
            "agentrunner_recoveries", "Runs of dead processes that this process ended.", stats.recoveries
        )
        yield CounterMetricFamily(
            "agentrunner_lease_losses", "Runs of this process that another owner took over.", stats.lease_losses
        )
