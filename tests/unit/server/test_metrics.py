"""`/metrics`, read by Prometheus' own parser."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
from prometheus_client.parser import text_string_to_metric_families

from agentrunner.server import create_app
from support.agents import Gate, agent_with
from support.events import text_message
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from agentrunner import AgentRunner


async def read_metrics(client: httpx.AsyncClient) -> dict[str, float]:
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    return {
        sample.name + "".join(f" {value}" for value in sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


async def test_the_metrics_are_those_of_the_runner_and_the_routes(runner: AgentRunner) -> None:
    gate = Gate()
    app = create_app(runner, {"default": agent_with(*text_message("m1", "a", "b")), "gate": gate})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        assert (await read_metrics(client))["agentrunner_runs_started_total"] == 0
        await client.post("/agent/default/run", json=make_input("t1", "r1"))
        await client.post("/agent/nobody/run", json=make_input("t1", "r2"))
        stream = await runner.run(gate, make_input("t2", "r3"))
        await gate.reached.wait()
        metrics = await read_metrics(client)
        assert metrics["agentrunner_runs_active"] == 1
        assert metrics["agentrunner_readers"] == 1
        assert metrics["agentrunner_oldest_silence_seconds"] >= 0
        assert metrics["agentrunner_runs_started_total"] == 2
        assert metrics["agentrunner_runs_ended_total finished"] == 1
        assert metrics["agentrunner_events_total"] >= 6
        assert metrics["agentrunner_commit_seconds_count"] >= 1
        assert metrics["agentrunner_commit_seconds_bucket +Inf"] == metrics["agentrunner_commit_seconds_count"]
        assert metrics["agentrunner_recoveries_total"] == 0
        assert metrics["agentrunner_http_requests_total agent/run 200"] == 1
        assert metrics["agentrunner_http_requests_total agent/run 404"] == 1
        assert metrics["agentrunner_http_request_seconds_count agent/run"] == 2
        gate.open()
        await collect(stream)
        metrics = await read_metrics(client)
        assert (metrics["agentrunner_runs_active"], metrics["agentrunner_readers"]) == (0, 0)
        assert metrics["agentrunner_runs_ended_total finished"] == 2
