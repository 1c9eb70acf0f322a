"""Requests that come when the runner is closed: each route refuses them alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentrunner.server import create_app
from agentrunner.server.routes import ROUTES
from support.agents import agent_with
from support.events import text_message
from support.inputs import make_input
from support.wire import client

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import AgentRunner

pytestmark = pytest.mark.fault("D8")

STORELESS = ("info", "inspector/metadata", "inspector/learning", "transcribe", "threads/subscribe")
"""Routes that need no store."""


async def test_every_route_that_needs_a_closed_runner_answers_503(memory_factory: Callable[..., AgentRunner]) -> None:
    runner = memory_factory()
    app = create_app(runner, {"default": agent_with(*text_message("m", "Hello"))})
    async with app.lifespan(app):
        pass
    statuses: dict[str, int] = {}
    async with client(app) as http:
        for row in ROUTES.rows:
            if row.name in STORELESS:
                continue
            path = row.path.replace("{agentId}", "default").replace("{threadId}", "t1")
            content = make_input() if row.name in ("agent/run", "agent/connect", "agent/suggest") else {}
            answer = await http.request(row.method, path, json=content)
            statuses[f"{row.method} {row.name}"] = answer.status_code
            assert answer.headers.get("retry-after") == "1", row
    assert set(statuses.values()) == {503}, statuses
