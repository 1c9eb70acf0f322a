"""The server of `benches/idle_readers.py`, which drops clients that stall."""

import asyncio
import contextlib
import ctypes
import gc
import signal
import socket
import sys
import time

import uvicorn

from agentrunner import SqliteAgentRunner
from agentrunner.server import Limits, create_app
from agentrunner.server.uvicorn_server import AbortableProtocol
from benches.common import resident

CONTENT = b'{"type":"CUSTOM","name":"tick","value":"%d~%s"}'
PADDING = b"x" * 1000
go = asyncio.Event()


async def agent(run):
    yield b'{"type":"RUN_STARTED","threadId":"%s","runId":"%s"}' % (run.thread_id.encode(), run.run_id.encode())
    # Emit nothing before every client is connected: earlier events would come by replay.
    await go.wait()
    rate, began = run.forwarded_props["rate"], time.monotonic()
    for number in range(run.forwarded_props["count"]):
        await asyncio.sleep(began + number / rate - time.monotonic())
        yield CONTENT % (time.monotonic_ns(), PADDING)
    yield b'{"type":"RUN_FINISHED","threadId":"%s","runId":"%s"}' % (run.thread_id.encode(), run.run_id.encode())


async def opener(run):
    go.set()
    yield b'{"type":"RUN_STARTED","threadId":"%s","runId":"%s"}' % (run.thread_id.encode(), run.run_id.encode())


def print_memory(*_: object) -> None:
    """Print the memory in use, after returning the allocator's free memory."""
    gc.collect()
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    print(resident("VmRSS"), flush=True)


def main() -> None:
    path, stalled = sys.argv[1:]

    class Connection(AbortableProtocol):
        stalled_seconds = float(stalled)

    app = create_app(
        SqliteAgentRunner(path), {"default": agent, "opener": opener}, limits=Limits(stalled_seconds=float(stalled))
    )
    config = uvicorn.Config(
        app, http=Connection, loop="uvloop", ws="none", access_log=False, log_level="warning", backlog=2048,
        timeout_graceful_shutdown=5,
    )  # fmt: skip
    with socket.create_server(("127.0.0.1", 0), backlog=2048) as listening:
        # A small buffer, so that the server soon has to wait for a client that does not read.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16_384)
        signal.signal(signal.SIGUSR1, print_memory)
        print(listening.getsockname()[1], flush=True)
        uvicorn.Server(config).run(sockets=[listening])


main()
