"""The app run by Hypercorn, and mounted in a FastAPI app."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

import httpx
import pytest

from agentrunner import InMemoryAgentRunner
from agentrunner.server import create_app
from support.agents import Gate, agent_with
from support.events import text_message
from support.inputs import make_input
from support.serving import serving
from support.streams import collect
from support.wire import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import AgentRunner


def listens(host: str, port: int) -> bool:
    with socket.socket() as trying:
        return trying.connect_ex((host, port)) == 0


@pytest.mark.parametrize("version", ["1.1", "2"])
async def test_hypercorn_can_serve_the_app(version: str, memory_factory: Callable[..., AgentRunner]) -> None:
    from hypercorn.asyncio import serve as run_hypercorn
    from hypercorn.config import Config

    gate = Gate(text_message("m", "first"), text_message("n", "last"))
    runner = memory_factory()
    app = create_app(runner, {"default": gate, "quick": agent_with(*text_message("m", "hello"))}, shutdown_seconds=0)
    config = Config()
    config.bind, config.loglevel, config.graceful_timeout = ["127.0.0.1:0"], "WARNING", 1
    (listening,) = config.create_sockets().insecure_sockets
    host, port = listening.getsockname()
    # Hypercorn closes the descriptor that it is given, so it gets a copy.
    config.bind = [f"fd://{listening.dup().detach()}"]
    listening.close()
    ending = asyncio.Event()
    serving_it = asyncio.create_task(run_hypercorn(app, config, shutdown_trigger=ending.wait))  # type: ignore[arg-type]
    try:
        await until(lambda: listens(host, port))
        async with httpx.AsyncClient(
            base_url=f"http://{host}:{port}", http1=version == "1.1", http2=version == "2"
        ) as http:
            answer = await http.post("/agent/quick/run", json=make_input("quick", "r0"))
            assert answer.http_version == f"HTTP/{version}"
            assert answer.status_code == 200
            assert answer.content.count(b"\n\n") == 5
            assert ("connection" in answer.headers) == (version == "1.1")
            assert (await http.get("/threads/quick/messages")).json()["messages"][0]["content"] == "hello"
            async with http.stream("POST", "/agent/default/run", json=make_input("t", "r1")) as stream:
                async for piece in stream.aiter_bytes():
                    if b"first" in piece:
                        break
            # The first reader has left; the run continues, and a second reader reads it to its end.
            assert await runner.is_running("t")
            live = next(iter(runner._table.live_runs.values()))
            async with http.stream("POST", "/agent/default/connect", json=make_input("t", "r2")) as stream:
                data = b""
                async for piece in stream.aiter_bytes():
                    data += piece
                    if b"first" in data:
                        gate.open()
            assert data.count(b"RUN_FINISHED") == 1
            assert b'"last"' in data
            assert live.is_closed
            gate._opened.clear()
            async with http.stream("POST", "/agent/default/run", json=make_input("t", "r3")) as stream:
                pieces = stream.aiter_bytes()
                await anext(pieces)
                assert (await http.post("/agent/default/stop/t", json={})).json()["stopped"] is True
                rest = b"".join([piece async for piece in pieces])
            assert b"RUN_FINISHED" in rest
    finally:
        ending.set()
        await serving_it
    assert runner.draining


@pytest.mark.parametrize(("mounted_at", "old_spelling"), [("/agents", False), ("/deep/down", True)])
def test_mounted_in_a_fastapi_app(mounted_at: str, old_spelling: bool) -> None:
    from fastapi import FastAPI

    runner = InMemoryAgentRunner()
    app = create_app(runner, {"default": agent_with(*text_message("m", "hello"))}, inspector=True, shutdown_seconds=0)
    outer = FastAPI(lifespan=app.router.lifespan_context if old_spelling else app.lifespan)
    outer.mount(mounted_at, app)

    @outer.get("/own")
    def own() -> str:
        return "its own"

    with serving(outer) as url, httpx.Client(base_url=url) as http:
        assert http.get("/own").json() == "its own"
        assert http.get(f"{mounted_at}/info").json()["agents"].keys() == {"default"}
        assert http.get(f"{mounted_at}/readyz").json() == {"status": "ok"}
        answer = http.post(f"{mounted_at}/agent/default/run", json=make_input("a/b", "r1"))
        assert answer.content.endswith(b'"runId":"r1"}\n\n')
        assert http.post(f"{mounted_at}/", json=make_input("a/b", "r2")).status_code == 200
        assert http.get(f"{mounted_at}/threads/a%2Fb/messages").json()["messages"][0]["content"] == "hellohello"
        assert http.get("/info").status_code == 404
        assert not runner.draining
    assert runner.draining
    assert runner.is_closed


async def test_the_end_of_the_lifespan_ends_the_runs(memory_factory: Callable[..., AgentRunner]) -> None:
    gate, runner = Gate(), memory_factory()
    app = create_app(runner, {"default": gate}, shutdown_seconds=0)
    async with app.lifespan(app):
        stream = await runner.run(gate, make_input())
        await gate.reached.wait()
    events = await collect(stream)
    assert (events[-1]["type"], events[-1]["code"]) == ("RUN_ERROR", "INTERRUPTED")
    assert gate.cancelled
