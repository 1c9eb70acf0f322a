"""A server process like `agentrunner serve`, on any store; SIGUSR1 makes it print figures."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import gc
import json
import os
import signal
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uvicorn

from agentrunner import AgentRunner
from agentrunner.server import Limits, create_app, uvicorn_server
from agentrunner.stores.urls import store_from_url
from campaigns import mutations
from support.programs.agents import AGENTS


class Telling(uvicorn_server.UvicornServer):
    """Prints its port when it is ready, and its figures on SIGUSR1, as lines of JSON."""

    store_port: int | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        assert sockets
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self.tell)
        print(json.dumps({"port": sockets[0].getsockname()[1]}), flush=True)

    def tell(self) -> None:
        held = {
            "resident": resident(),
            "descriptors": descriptors(self.store_port),
            "tasks": sum(not is_listening(task) for task in asyncio.all_tasks()),
            "connections": len(self.server_state.connections),
        }
        print(json.dumps(held), flush=True)


def is_listening(task: asyncio.Task[object]) -> bool:
    """Whether a task is a store's own, of which each process keeps a few for later readers."""
    return getattr(task.get_coro(), "__qualname__", "").startswith(("PostgresListener.", "RedisWatcher."))


def descriptors(store_port: int | None) -> int:
    """Return the number of open descriptors.

    Connections to the store's server do not count: a pool has as many as it needs.
    """
    # List first: the listing opens one more descriptor.
    numbers = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208
    return len(numbers) - 1 - sum(is_connected_to(number, store_port) for number in numbers if store_port)


def is_connected_to(descriptor: int, port: int | None) -> bool:
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError:
        return False
    try:
        return sock.family == socket.AF_INET and sock.getpeername()[1] == port
    except OSError:
        return False
    finally:
        sock.detach()


def resident() -> int:
    """Return the process's resident bytes, without memory that the allocator still holds."""
    gc.collect()
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("location")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--lease-ttl", type=float, default=10.0)
    parser.add_argument("--resume-window", type=float, default=300.0)
    parser.add_argument("--stalled", type=float, default=30.0)
    parser.add_argument("--shutdown", type=float, default=10.0)
    parser.add_argument("--live-window", type=int, default=1 << 20)
    parser.add_argument("--send-buffer", type=int)
    parser.add_argument("--bookings", type=Path, help="serve the agent of `bookings.py`, which writes there")
    options = parser.parse_args()
    mutations.apply()

    class Connection(uvicorn_server.AbortableProtocol):
        stalled_seconds = options.stalled

    store = store_from_url(options.location, lease_ttl=options.lease_ttl, resume_window=options.resume_window)
    runner = AgentRunner(store, live_window_bytes=options.live_window)
    limits = Limits(stalled_seconds=options.stalled)
    agents: Any = AGENTS
    if options.bookings is not None:
        from support.bookings import Bookings, booking_harness

        agents = booking_harness(runner, Bookings(options.bookings))
    app = create_app(runner, agents, limits=limits, shutdown_seconds=options.shutdown)
    uvicorn_server.configure_logging("text")
    config = uvicorn.Config(
        app, http=Connection, loop="uvloop", ws="none", lifespan="on", access_log=False, log_config=None,
        backlog=2048, timeout_graceful_shutdown=uvicorn_server.LAST_READS_SECONDS + 2,
    )  # fmt: skip
    with socket.create_server(("127.0.0.1", options.port), backlog=2048) as listening:
        if options.send_buffer is not None:
            # Small, so that a client that does not read soon blocks the server.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, options.send_buffer)
        server = Telling(config, app)
        server.store_port = urlsplit(options.location).port
        server.run(sockets=[listening])


if __name__ == "__main__":
    main()
