"""The app with a harness: its lifespan, and the errors that clients get."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest

from agentrunner import InMemoryAgentRunner
from agentrunner.errors import RunnerClosed
from agentrunner.harness import Harness
from agentrunner.server import create_app
from support.agents import Gate, agent_with
from support.events import text_message
from support.inputs import make_input

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import AgentRunner

SAYING = agent_with(*text_message("m", "Hello"))


async def test_the_harness_is_started_and_closed_with_the_app(runner_factory: Callable[..., AgentRunner]) -> None:
    runner = runner_factory()
    harness = Harness(runner, {"default": SAYING})
    app = create_app(runner, harness)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        assert harness._state.liveness.owner_id
        assert (await http.get("/info")).json()["agents"].keys() == {"default"}
        answer = await http.post("/agent/default/run", json=make_input())
        assert answer.text.count("data: ") == 5
        assert [run.state for run in await harness.runs()] == ["completed"]
    with pytest.raises(RunnerClosed):
        await harness.runs()
    with pytest.raises(RunnerClosed):
        await runner.threads.list()


async def test_live_runs_end_before_the_harness_is_closed(runner_factory: Callable[..., AgentRunner]) -> None:
    gate = Gate()
    runner = runner_factory()
    harness = Harness(runner, {"default": gate})
    app = create_app(runner, harness, shutdown_seconds=0)
    async with app.router.lifespan_context(app):
        stream = await runner.run(harness.agents["default"], make_input())
        await gate.reached.wait()
    events = [event.to_dict() async for event in stream]
    assert events[-1]["code"] == "INTERRUPTED"
    assert gate.cancelled


async def test_a_run_that_the_policy_refuses_is_an_error_with_a_code(
    runner_factory: Callable[..., AgentRunner],
) -> None:
    runner = runner_factory()
    harness = Harness(runner, {"default": SAYING}, policy=lambda request: ["not today"])
    app = create_app(runner, harness)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        answer = await http.post("/agent/default/run", json=make_input())
        assert answer.status_code == 200
        assert '"code":"RUN_REFUSED"' in answer.text
        assert "not today" in answer.text
        assert (await http.get("/threads")).json()["threads"] == []


def test_the_app_and_its_harness_must_share_a_runner() -> None:
    with pytest.raises(ValueError, match="different runners"):
        create_app(InMemoryAgentRunner(), Harness(InMemoryAgentRunner(), {"default": SAYING}))
