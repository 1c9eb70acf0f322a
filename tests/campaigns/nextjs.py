"""Streams through the `rewrites` of a Next.js app: each frame passes at once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

import httpx

from agentrunner import InMemoryAgentRunner
from agentrunner.server import create_app
from campaigns import Campaign, NotRun, Outcome
from support.inputs import make_input
from support.paths import NODE
from support.serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from campaigns import Context

PROJECT = NODE / "nextjs"
NEXT = PROJECT / "node_modules" / "next" / "dist" / "bin" / "next"
AT_ONCE = 5
FRAMES = 50
FRAME_SECONDS = 0.05
"""Seconds between two frames of a stream."""
LATE_MILLISECONDS = 100.0
READY_SECONDS = 60.0
SENT_AT = re.compile(rb'"value":(\d+)')


class Transformable:
    """The app without `no-transform`: proxies may collect its frames to compress them."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.context = app.context

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_transformable(message: Any) -> None:
            if "headers" in message:
                message["headers"] = [
                    (name, value.replace(b", no-transform", b"")) for name, value in message["headers"]
                ]
            await send(message)

        await self.app(scope, receive, send_transformable)


async def agent(input: Any) -> AsyncIterator[Any]:
    """Yield events that say when they were made."""
    for _ in range(FRAMES):
        yield {"type": "CUSTOM", "name": "tick", "value": time.monotonic_ns()}
        await asyncio.sleep(FRAME_SECONDS)


@contextlib.contextmanager
def next_app(command: str, agent_url: str) -> Iterator[str]:
    """Run `next start` or `next dev`; yield the URL that leads to the server behind it."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    arguments = ["node", NEXT, command, "--hostname", "127.0.0.1", "--port", str(port)]
    with subprocess.Popen(
        arguments, cwd=PROJECT, env=environment(agent_url), stdout=subprocess.DEVNULL, start_new_session=True
    ) as process:
        try:
            yield f"http://127.0.0.1:{port}/api"
        finally:
            # The command starts processes of its own.
            os.killpg(process.pid, 9)


def environment(agent_url: str) -> dict[str, str]:
    return {**os.environ, "AGENT_URL": agent_url, "NEXT_TELEMETRY_DISABLED": "1"}


def build(agent_url: str) -> None:
    """Install the packages if they are missing, and build the app for a server."""
    if not NEXT.exists():
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=PROJECT, check=True)
    subprocess.run(
        ["node", NEXT, "build"], cwd=PROJECT, env=environment(agent_url), stdout=subprocess.DEVNULL, check=True
    )


async def wait_until_ready(http: httpx.AsyncClient) -> httpx.Response:
    """Return the first response that comes from the server behind the app."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            response = await http.get("/openapi.json")
            if response.status_code == 200:
                return response
        except httpx.TransportError:
            pass
        if time.monotonic() > deadline:
            raise TimeoutError("the Next.js app does not answer")
        await asyncio.sleep(0.1)


async def measure(http: httpx.AsyncClient, thread: str) -> list[float]:
    """Read a run's stream, and return the delay of each frame in milliseconds."""
    delays: list[float] = []
    rest = b""
    async with http.stream("POST", "/agent/default/run", json=make_input(thread=thread)) as stream:
        async for data in stream.aiter_bytes():
            now = time.monotonic_ns()
            *frames, rest = (rest + data).split(b"\n\n")
            delays += [(now - int(sent)) / 1e6 for frame in frames for sent in SENT_AT.findall(frame)]
    return delays


async def measure_all(context: Context, outcome: Outcome, url: str, command: str, streams: int) -> list[float]:
    """Read streams through the app, some at a time, and return delays in milliseconds."""
    delays: list[float] = []
    headers = {"accept-encoding": "gzip, deflate, br"}
    limits = httpx.Limits(max_connections=AT_ONCE)
    async with httpx.AsyncClient(base_url=url, headers=headers, limits=limits, timeout=READY_SECONDS) as http:
        if "content-encoding" not in (await wait_until_ready(http)).headers:
            outcome.fail(f"next {command} does not compress, so it shows nothing about streams")
        # The first request makes `next dev` compile.
        await measure(http, f"{command}-first")
        for first in range(0, streams, AT_ONCE):
            numbers = range(first, min(first + AT_ONCE, streams))
            for stream in await asyncio.gather(*(measure(http, f"{command}-{number}") for number in numbers)):
                context.tick()
                delays += stream
                late = [delay for delay in stream if delay > LATE_MILLISECONDS * context.patience]
                if late or len(stream) != FRAMES:
                    outcome.fail(
                        f"next {command}: {len(stream)} of {FRAMES} frames, {len(late)} of them late, "
                        f"the latest by {max(late, default=0.0):.0f} ms"
                    )
    return delays


def run(context: Context) -> Outcome:
    if shutil.which("npm") is None:
        raise NotRun("npm is not installed")
    if not NEXT.exists() and context.rounds < CAMPAIGN.rounds_in_full(context.backend):
        raise NotRun("Next.js is not installed in tests/node/nextjs, `make torture` does it")
    outcome = Outcome({"streams": 0, "frames": 0})
    app: Any = create_app(InMemoryAgentRunner(), {"default": agent}, shutdown_seconds=0)
    with serving(Transformable(app) if context.mutation else app) as agent_url:
        build(agent_url)
        for command, streams in (("start", context.rounds - context.rounds // 2), ("dev", context.rounds // 2)):
            with next_app(command, agent_url) as url:
                delays = sorted(asyncio.run(measure_all(context, outcome, url, command, streams)))
            outcome.count("streams", streams)
            outcome.count("frames", len(delays))
            for name, part in (("median", 0.5), ("99 %", 0.99), ("longest", 1.0)):
                outcome.figures[f"{name} ms, next {command}"] = round(delays[int((len(delays) - 1) * part)], 1)
    return outcome


CAMPAIGN = Campaign(
    name="nextjs",
    promise="proxies pass each frame at once",
    bar="through the `rewrites` of `next start` and `next dev`, which compress: each frame within 100 ms",
    backends=("sqlite",),
    small=2,
    full={"sqlite": 200},
    run=run,
    mutations={"frames_may_be_transformed": "streams forbid proxies to compress them"},
)
