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


async def test_a_server_is_ready_if_it_reads_its_store_and_accepts_runs(
    runner: AgentRunner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = create_app(runner, {"default": agent_with()})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        assert (await client.get("/readyz")).json() == {"status": "ok"}

        async def failing(thread_id: str | None = None) -> None:
            raise StoreError("/somewhere/threads.db: disk I/O error")

        with monkeypatch.context() as broken:
            broken.setattr(await runner.open(), "live", failing)
            answer = await client.get("/readyz")
            # The reason is only logged, as this route is open to all.
            assert (answer.status_code, answer.json()) == (503, {"status": "unavailable"})
            assert "disk I/O error" in caplog.text
            assert (await client.get("/healthz")).json() == {"status": "ok"}
        await runner.drain(0)
        answer = await client.get("/readyz")
        assert (answer.status_code, answer.json()) == (503, {"status": "draining"})
