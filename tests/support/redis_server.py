"""A Redis server for one test, which can kill, stop and restart it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import redis.asyncio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agentrunner import Store


@contextlib.asynccontextmanager
async def opened(store: Store) -> AsyncIterator[Any]:
    await store.open()
    try:
        yield store
    finally:
        await store.aclose()


async def keys(client: redis.asyncio.Redis, prefix: str) -> set[bytes]:
    return {key async for key in client.scan_iter(f"{prefix}*", count=10_000)}


class Server:
    """A Redis server for one test."""

    def __init__(self, folder: Path) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.skip("not run: there is no redis-server")
        self._program = program
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.options: list[str] = ["--save", "", "--appendonly", "no"]

    def start(self, *options: str) -> None:
        self.options = list(options) or self.options
        with (self._folder / "log").open("ab") as log:
            where = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self._folder)]
            self._process = subprocess.Popen([self._program, *where, *self.options], stdout=log)

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def client(self) -> redis.asyncio.Redis:
        """Return a connection once the server answers."""
        client = redis.asyncio.Redis.from_url(self.url)
        while True:
            with contextlib.suppress(redis.exceptions.RedisError):
                await client.ping()
                return client
            await asyncio.sleep(0.01)

    def stop(self) -> None:
        if self._process is not None:
            self.kill()
