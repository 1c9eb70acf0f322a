"""Connections that send half a request, or nothing: others must still be served."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner.server import Limits, create_app, uvicorn_server
from support.agents import Gate
from support.events import text_message
from support.inputs import make_input
from support.wire import open_wire, request, serve_app, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import AgentRunner

pytestmark = pytest.mark.fault("A4")
HALF_HEAD = b"POST /agent/default/run HTTP/1.1\r\nhost: localhost\r\nx-half"


@pytest.fixture
def runner(memory_factory: Callable[..., AgentRunner]) -> AgentRunner:
    return memory_factory()


def app_of(runner: AgentRunner, agent: Any = None, **options: Any) -> Any:
    return create_app(runner, {"default": agent or Gate()}, **options)


@pytest.mark.parametrize("sent", [b"", b"P", HALF_HEAD, request("GET", "/healthz") + HALF_HEAD])
async def test_a_connection_without_a_whole_head_is_closed_in_time(sent: bytes, runner: AgentRunner) -> None:
    async with serve_app(app_of(runner), head_seconds=0.1) as address, open_wire(address) as wire:
        await wire.send(sent)
        assert await wire.wait_until_closed()


async def test_a_head_in_bytes_has_no_more_time_than_one_in_halves(runner: AgentRunner) -> None:
    async with serve_app(app_of(runner), head_seconds=0.2) as address, open_wire(address) as wire:
        closing = asyncio.ensure_future(wire.wait_until_closed())
        while not closing.done():
            wire.writer.write(b"x")
            await asyncio.sleep(0.01)
        assert await closing


async def test_the_rest_of_a_refused_body_is_not_awaited_for_ever(runner: AgentRunner) -> None:
    app = app_of(runner, limits=Limits(body_bytes=10))
    async with serve_app(app, head_seconds=0.1) as address, open_wire(address) as wire:
        await wire.send(request("POST", "/agent/default/run", **{"content-length": "1000"}) + b"{")
        assert (await wire.answer()).status == 413
        assert await wire.wait_until_closed()


async def test_a_stream_outlives_the_time_of_a_head_even_with_half_a_request_behind_it(
    runner: AgentRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_late = asyncio.Event()
    close = uvicorn_server.AbortableProtocol._close_slow_sender

    def close_and_note(connection: Any) -> None:
        close(connection)
        is_late.set()

    monkeypatch.setattr(uvicorn_server.AbortableProtocol, "_close_slow_sender", close_and_note)
    gate = Gate(text_message("m", "first"), text_message("n", "last"))
    async with serve_app(app_of(runner, gate), head_seconds=0.05) as address, open_wire(address) as wire:
        await wire.ask("POST", "/agent/default/run", make_input())
        await wire.send(HALF_HEAD)
        await wire.head()
        await wire.until_seen(b"first")
        await is_late.wait()
        gate.open()
        await wire.until_seen(b"RUN_FINISHED")


async def test_half_heads_beyond_the_limit_make_way_for_requests(runner: AgentRunner) -> None:
    gate = Gate(text_message("m", "first"), text_message("n", "last"))
    app = app_of(runner, gate)
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(serve_app(app, max_connections=20))
        stream = await stack.enter_async_context(open_wire(address))
        await stream.ask("POST", "/agent/default/run", make_input())
        await stream.head()
        for _ in range(60):
            wire = await stack.enter_async_context(open_wire(address))
            await wire.send(HALF_HEAD)
        for _ in range(3):
            wire = await stack.enter_async_context(open_wire(address))
            await wire.ask("GET", "/healthz")
            assert (await wire.answer()).status == 200
        await until(lambda: len(app.state.connections) <= 20)
        # The connection with a request was not closed for them.
        gate.open()
        await stream.until_seen(b"RUN_FINISHED")


async def test_a_new_connection_is_closed_when_all_others_have_requests(runner: AgentRunner) -> None:
    gate = Gate(text_message("m", "first"))
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(serve_app(app_of(runner, gate), max_connections=3))
        for number in range(3):
            wire = await stack.enter_async_context(open_wire(address))
            await wire.ask("POST", "/agent/default/run", make_input(f"t{number}", f"r{number}"))
            await wire.head()
        refused = await stack.enter_async_context(open_wire(address))
        assert await refused.wait_until_closed()
        gate.open()


def test_the_limit_of_open_files_is_raised_or_limits_the_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    reserved = uvicorn_server.RESERVED_FILES
    for limits, wanted, allowed, raised in (
        ((1024, 100_000), 10_000, 10_000, [(10_000 + reserved, 100_000)]),
        ((1024, 4096), 10_000, 4096 - reserved, [(4096, 4096)]),
        ((1024, -1), 10_000, 10_000, [(10_000 + reserved, -1)]),
        ((-1, -1), 10_000, 10_000, []),
        ((50_000, 50_000), 10_000, 10_000, []),
    ):
        calls: list[tuple[int, int]] = []
        monkeypatch.setattr("resource.getrlimit", lambda _, limits=limits: limits)
        monkeypatch.setattr("resource.setrlimit", lambda _, limits, calls=calls: calls.append(limits))
        assert uvicorn_server._limit_open_files(wanted) == allowed
        assert calls == raised


@pytest.mark.parametrize("options", [{"head_seconds": 0}, {"max_connections": 0}, {"max_connections": True}])
def test_the_limits_are_checked(options: dict[str, Any], runner: AgentRunner) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        uvicorn_server.serve(app_of(runner), **options)
