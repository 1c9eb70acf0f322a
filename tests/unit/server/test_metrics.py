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


async def figures(client: httpx.AsyncClient) -> dict[str, float]:
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
        assert (await figures(client))["agentrunner_runs_started_total"] == 0
        await client.post("/agent/default/run", json=make_input("t1", "r1"))
        await client.post("/agent/nobody/run", json=make_input("t1", "r2"))
        stream = await runner.run(gate, make_input("t2", "r3"))
        await gate.reached.wait()
        found = await figures(client)
        assert found["agentrunner_runs_active"] == 1
        assert found["agentrunner_readers"] == 1
        assert found["agentrunner_runs_started_total"] == 2
        assert found["agentrunner_runs_ended_total finished"] == 1
        assert found["agentrunner_events_total"] >= 6
        assert found["agentrunner_commit_seconds_count"] >= 1
        assert found["agentrunner_commit_seconds_bucket +Inf"] == found["agentrunner_commit_seconds_count"]
        assert found["agentrunner_recoveries_total"] == 0
        assert found["agentrunner_http_requests_total agent/run 200"] == 1
        assert found["agentrunner_http_requests_total agent/run 404"] == 1
        assert found["agentrunner_http_request_seconds_count agent/run"] == 2
        gate.open()
        await collect(stream)
        found = await figures(client)
        assert (found["agentrunner_runs_active"], found["agentrunner_readers"]) == (0, 0)
        assert found["agentrunner_runs_ended_total finished"] == 2
