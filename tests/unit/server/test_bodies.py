"""The body of a request: too large, too slow, compressed, or never complete."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner.server import Limits, create_app
from support.agents import agent_with
from support.events import text_message
from support.inputs import make_input
from support.wire import client, open_wire, request, serve_app, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import AgentRunner
TOO_LARGE = {"error": "Request body too large", "message": "A body has at most 1000 bytes"}
JSON = {"content-type": "application/json"}
SLOW = {"error": "Request body too slow"}


def app_of(runner: AgentRunner, agent: Any = None, **options: Any) -> Any:
    return create_app(runner, {"default": agent or agent_with(*text_message("m", "hello"))}, **options)


@pytest.fixture
def runner(memory_factory: Callable[..., AgentRunner]) -> AgentRunner:
    return memory_factory()


def pad_input(size: int, run: str = "r1") -> bytes:
    """Return a run's input of exactly this many bytes."""
    body = json.dumps(make_input(run=run)).encode()
    return body + b" " * (size - len(body))


async def test_a_body_may_be_as_long_as_the_limit_and_no_byte_longer(runner: AgentRunner) -> None:
    async with client(app_of(runner, limits=Limits(body_bytes=1000)), **JSON) as http:
        for path in ("/agent/default/run", "/agent/default/connect", "/agent/default/stop/t", "/threads/clear", "/"):
            for size, refused in ((1000, False), (1001, True)):
                answer = await http.post(path, content=pad_input(size, f"{path}{size}"))
                assert (answer.status_code == 413) == refused, path
                assert not refused or answer.json() == TOO_LARGE
        answer = await http.request("DELETE", "/threads/t", content=pad_input(1001))
        assert (answer.status_code, answer.json()) == (413, TOO_LARGE)


async def test_a_body_in_chunks_is_counted_as_it_arrives(runner: AgentRunner) -> None:
    async with serve_app(app_of(runner, limits=Limits(body_bytes=1000))) as address, open_wire(address) as wire:
        head = request("POST", "/agent/default/run", **{"transfer-encoding": "chunked"})
        await wire.send(head.replace(b"content-length: 0\r\n", b""))
        # The response arrives while the endless body is still being sent.
        answering = asyncio.create_task(wire.answer())
        while not answering.done():
            await wire.send(b"64\r\n" + b" " * 100 + b"\r\n")
            await asyncio.sleep(0)
        answer = answering.result()
        assert (answer.status, answer.json) == (413, TOO_LARGE)


async def test_a_declared_gibibyte_is_refused_before_any_of_it_arrives(runner: AgentRunner) -> None:
    async with serve_app(app_of(runner)) as address:
        for path in ("/agent/default/run", "/", "/threads/clear", "/no/such/path"):
            for length in (1 << 30, 10**18, 10**30):
                async with open_wire(address) as wire:
                    await wire.send(request("POST", path, **{"content-length": str(length)}))
                    status = (await wire.answer()).status
                    # The HTTP parser itself refuses some of these lengths.
                    assert status == (413 if length < 1 << 64 else 400)


async def test_a_gibibyte_that_is_sent_is_not_kept_in_memory(runner: AgentRunner) -> None:
    async with serve_app(app_of(runner)) as address, open_wire(address) as wire:
        await wire.send(request("POST", "/agent/default/run", **{"content-length": str(1 << 30)}))
        assert (await wire.answer()).status == 413
        before, block = resident(), bytes(1 << 20)
        try:
            for _ in range(256):
                await wire.send(block)
        except ConnectionError:
            pass
        assert resident() - before < 16 << 20


def resident() -> int:
    """Return the memory of this process in bytes."""
    with open("/proc/self/statm", "rb") as figures:  # noqa: PTH123 - as it is here, not a file to be made
        return int(figures.read().split()[1]) * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_body_in_endless_chunks_does_not_grow_the_memory(runner: AgentRunner) -> None:
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        block = bytes(1 << 20)
        while sent < 1 << 30:
            sent += len(block)
            yield block

    before = resident()
    async with client(app_of(runner), **JSON) as http, aclosing(endless()) as body:
        answer = await http.post("/agent/default/run", content=body)
    assert answer.status_code == 413
    assert sent <= 16 << 20
    assert resident() - before < 32 << 20


async def test_a_slow_body_is_refused_and_its_connection_closed(runner: AgentRunner) -> None:
    async with serve_app(app_of(runner, limits=Limits(body_seconds=0.2))) as address, open_wire(address) as wire:
        await wire.send(request("POST", "/agent/default/run", **{"content-length": "1000"}) + b"{")
        answer = await wire.answer()
        assert (answer.status, answer.json) == (408, SLOW)
        # The connection is closed, so a slow sender cannot hold it open.
        assert answer.headers["connection"] == "close"
        assert await wire.wait_until_closed()


async def test_a_client_that_leaves_while_it_sends_its_body_is_not_an_error(
    runner: AgentRunner, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "agentrunner.access")
    async with serve_app(app_of(runner)) as address:
        async with open_wire(address) as wire:
            await wire.send(request("POST", "/agent/default/run", **{"content-length": "1000"}) + b"{")
            wire.vanish()
        await until(lambda: any(record.name == "agentrunner.access" for record in caplog.records))
    (record,) = [record for record in caplog.records if record.name == "agentrunner.access"]
    assert getattr(record, "status", None) == 499
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "GZIP", "identity, gzip", "x"])
async def test_a_compressed_body_is_refused(coding: str, runner: AgentRunner) -> None:
    async with client(app_of(runner)) as http:
        answer = await http.post("/agent/default/run", json=make_input(), headers={"content-encoding": coding})
        assert answer.status_code == 415
        assert answer.json()["error"] == "Unsupported content encoding"
        answer = await http.post("/agent/default/run", json=make_input(), headers={"content-encoding": " Identity "})
        assert answer.status_code == 200
