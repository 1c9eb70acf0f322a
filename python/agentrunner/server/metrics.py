"""Figures for Prometheus."""

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
    """What an app has served, and what its runner has done."""

    def __init__(self, runner: AgentRunner) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_RunnerFigures(runner.stats))
        self._requests = Counter(
            "agentrunner_http_requests", "Requests answered.", ["route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "agentrunner_http_request_seconds",
            "How long answers took; a stream until it ended.",
            ["route"],
            buckets=(0.005, 0.02, 0.1, 0.5, 2, 10, 60, 600),
            registry=self._registry,
        )

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def answer(self) -> Response:
        """Give all figures in Prometheus' text format."""
        return Response(generate_latest(self._registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


class _RunnerFigures(Collector):
    """The runner's own counters, read when they are asked for: counting twice would cost every commit."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        """Give them as they are now."""
        stats = self._stats
        yield GaugeMetricFamily("agentrunner_runs_active", "Runs driven here.", stats.runs_active)
        yield GaugeMetricFamily("agentrunner_readers", "Streams that follow a live run here.", stats.readers)
        yield CounterMetricFamily("agentrunner_runs_started", "Runs started here.", stats.runs_started)
        ended = CounterMetricFamily("agentrunner_runs_ended", "Runs ended here, by how.", labels=["how"])
        for how, count in stats.runs_ended.items():
            ended.add_metric([how], count)
        yield ended
        yield CounterMetricFamily("agentrunner_events", "Events recorded and durable.", stats.events)
        bounds = [*map(str, BUCKETS), "+Inf"]
        yield HistogramMetricFamily(
            "agentrunner_commit_seconds",
            "How long events took to be durable, a batch each.",
            list(zip(bounds, accumulate(stats.commit_buckets), strict=True)),
            stats.commit_seconds,
        )
        yield CounterMetricFamily("agentrunner_recoveries", "Runs ended in place of a dead process.", stats.recoveries)
        yield CounterMetricFamily("agentrunner_lease_losses", "Runs given up to another owner.", stats.lease_losses)
