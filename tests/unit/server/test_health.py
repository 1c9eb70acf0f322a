"""`/healthz` and `/readyz`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from agentrunner import StoreError
from agentrunner.server import create_app
from support.agents import agent_with

if TYPE_CHECKING:
    import pytest

    from agentrunner import AgentRunner


async def test_ready_is_who_can_read_its_store_and_takes_runs(
    runner: AgentRunner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(runner, {"default": agent_with()})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        assert (await client.get("/readyz")).json() == {"status": "ok"}

        async def failing(thread_id: str | None = None) -> None:
            raise StoreError("/somewhere/threads.db: disk I/O error")

        with monkeypatch.context() as broken:
            broken.setattr(await runner.opened(), "live", failing)
            answer = await client.get("/readyz")
            # What it is goes to the log: anybody may ask.
            assert (answer.status_code, answer.json()) == (503, {"status": "unavailable"})
            assert "disk I/O error" in caplog.text
            assert (await client.get("/healthz")).json() == {"status": "ok"}
        await runner.drain(0)
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()) == (503, {"status": "draining"})
