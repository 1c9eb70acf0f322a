"""`serve`, up to uvicorn itself, and errors over a real connection."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.middleware.trustedhost import TrustedHostMiddleware

from agentrunner.server import Limits, create_app, uvicorn_server
from support.agents import agent_with
from support.events import text_message
from support.inputs import make_input
from support.wire import client, serve_app

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import AgentRunner

JSON = {"content-type": "application/json"}
TOO_LARGE = {"error": "Request body too large", "message": "A body has at most 1000 bytes"}


def app_of(runner: AgentRunner, agent: Any = None, **options: Any) -> Any:
    return create_app(runner, {"default": agent or agent_with(*text_message("m", "hello"))}, **options)


@pytest.fixture
def runner(memory_factory: Callable[..., AgentRunner]) -> AgentRunner:
    return memory_factory()


def pad_input(size: int, run: str = "r1") -> bytes:
    """Return a run's input of exactly this many bytes."""
    body = json.dumps(make_input(run=run)).encode()
    return body + b" " * (size - len(body))


HOSTS = ["localhost", "LocalHost:8000", "127.0.0.1", "127.0.0.1:8000", "[::1]", "[::1]:8000"]
FOREIGN = ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example:8000", "", "[", "10.0.0.1"]


@pytest.fixture
def uvicorn_servers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collect what `serve` passes to uvicorn, without running it."""
    servers: list[Any] = []
    monkeypatch.setattr(uvicorn_server.UvicornServer, "run", lambda self: servers.append(self))
    monkeypatch.setattr(uvicorn_server, "configure_logging", lambda _: None)
    return servers


@pytest.mark.parametrize("host", uvicorn_server.LOOPBACK_HOSTS)
async def test_on_loopback_only_loopback_names_are_answered(
    host: str, runner: AgentRunner, uvicorn_servers: list[Any]
) -> None:
    uvicorn_server.serve(app_of(runner), host=host)
    app = uvicorn_servers[0].config.app
    for name in HOSTS + FOREIGN:
        async with client(app) as http:
            answer = await http.get("/info", headers={"host": name})
            assert answer.status_code == (200 if name in HOSTS else 400), name


async def test_with_authentication_or_on_a_public_host_any_name_is_answered(
    runner: AgentRunner, uvicorn_servers: list[Any]
) -> None:
    uvicorn_server.serve(app_of(runner, authenticate=lambda _: None), host="127.0.0.1")
    uvicorn_server.serve(app_of(runner), host="0.0.0.0")  # noqa: S104 - the subject of this test
    assert not any(isinstance(server.config.app, TrustedHostMiddleware) for server in uvicorn_servers)
    for name in FOREIGN:
        async with client(uvicorn_servers[0].config.app) as http:
            assert (await http.get("/threads/clear", headers={"host": name})).status_code in (401, 405)


async def test_errors_are_the_same_over_a_real_connection(runner: AgentRunner) -> None:
    async with (
        serve_app(app_of(runner, limits=Limits(body_bytes=1000))) as (host, port),
        httpx.AsyncClient(base_url=f"http://{host}:{port}") as http,
    ):
        answer = await http.post("/agent/default/run", content=pad_input(2000), headers=JSON)
        assert (answer.status_code, answer.json()) == (413, TOO_LARGE)
        assert (await http.get("/info")).status_code == 200
