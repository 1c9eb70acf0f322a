"""Proxies of Node.js in front of the server: each frame passes at once."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from agentrunner import InMemoryAgentRunner
from agentrunner.server import create_app
from support.inputs import make_input
from support.nodejs import install, needs_node
from support.paths import NODE
from support.serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

PROXIES = NODE / "proxies"
EVENTS = 20

pytestmark = [needs_node, pytest.mark.processes]


@contextlib.contextmanager
def express_before(url: str) -> Iterator[str]:
    """Start the proxy; yield its URL."""
    install(PROXIES)
    with subprocess.Popen(["node", PROXIES / "express.mjs", url], stdout=subprocess.PIPE) as proxy:
        try:
            assert proxy.stdout is not None
            yield f"http://127.0.0.1:{int(proxy.stdout.readline())}"
        finally:
            proxy.kill()


@pytest.mark.fault("D2")
async def test_express_with_compression_passes_each_frame_before_the_next_is_made() -> None:
    loop, received = asyncio.get_running_loop(), asyncio.Semaphore(0)

    async def agent(input: Any) -> AsyncIterator[Any]:
        for number in range(EVENTS):
            # Wait until the client has the event before; a proxy that collects events would end the test here.
            permission = asyncio.run_coroutine_threadsafe(received.acquire(), loop)
            await asyncio.wrap_future(permission)
            yield {"type": "CUSTOM", "name": "tick", "value": number}

    app = create_app(InMemoryAgentRunner(), {"default": agent}, shutdown_seconds=0)
    with serving(app) as url, express_before(url) as proxied:
        headers = {"accept-encoding": "gzip, deflate, br"}
        async with httpx.AsyncClient(base_url=proxied, headers=headers, timeout=30) as http:
            # What is not a stream is compressed, so the proxy does compress.
            assert (await http.get("/openapi.json")).headers["content-encoding"] in ("br", "gzip")
            seen = b""
            async with http.stream("POST", "/agent/default/run", json=make_input()) as stream:
                assert stream.headers["cache-control"] == "no-cache, no-transform"
                received.release()
                async for data in stream.aiter_bytes():
                    seen += data
                    for _ in range(data.count(b'"tick"')):
                        received.release()
    assert seen.count(b'"tick"') == EVENTS
    assert seen.endswith(b"\n\n")
