"""Servers that are told to exit during a run: they exit, and the run's readers are told."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from support.inputs import make_input
from support.paths import child_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.fault("D7"), pytest.mark.processes]

APP = """
import asyncio
from agentrunner import SqliteAgentRunner
from agentrunner.server import create_app

async def endless(input):
    while True:
        yield {"type": "CUSTOM", "name": "tick", "value": 0}
        await asyncio.sleep(0.01)

app = create_app(SqliteAgentRunner("threads.db"), {"default": endless}, shutdown_seconds=0.3)
"""
BIN = Path(sys.executable).parent
SERVERS = {
    "uvicorn": [str(BIN / "uvicorn"), "main:app", "--port", "{port}"],
    "gunicorn": [
        str(BIN / "gunicorn"), "main:app", "--worker-class", "uvicorn_worker.UvicornWorker",
        "--bind", "127.0.0.1:{port}",
    ],
}  # fmt: skip
EXIT_SECONDS = 60
"""A server that waits for its streams would never exit."""


@contextlib.contextmanager
def running(name: str, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    (folder / "main.py").write_text(APP)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [word.format(port=port) for word in SERVERS[name]]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env=child_environment()) as server,
    ):
        try:
            yield server, f"http://127.0.0.1:{port}"
        finally:
            server.kill()


def wait_until_served(http: httpx.Client) -> None:
    deadline = time.monotonic() + EXIT_SECONDS
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            http.get("/healthz")
            return
        time.sleep(0.05)
    pytest.fail("the server did not start")


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_that_is_told_to_exit_ends_the_streams_and_exits(name: str, tmp_path: Path) -> None:
    seen = b""
    with running(name, tmp_path) as (server, url), httpx.Client(base_url=url, timeout=EXIT_SECONDS) as http:
        wait_until_served(http)
        with http.stream("POST", "/agent/default/run", json=make_input()) as stream:
            for piece in stream.iter_bytes():
                if not seen:
                    server.send_signal(signal.SIGTERM)
                seen += piece
        server.wait(EXIT_SECONDS)
    last = json.loads(seen.strip().rpartition(b"data: ")[2])
    assert (last["type"], last["code"]) == ("RUN_ERROR", "INTERRUPTED")
    assert b"Traceback" not in (tmp_path / "log").read_bytes()
