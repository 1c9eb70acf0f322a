"""A campaign's own Redis or PostgreSQL server, which can be killed and restarted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from campaigns import NotRun

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PATIENCE = 60.0
"""Seconds a server may take to be ready: after a kill it first recovers."""


class Database:
    """A server that is killed with SIGKILL and restarted on its files."""

    location: str

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._server: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]

    def command(self) -> list[str]:
        """Return the command that starts the server."""
        raise NotImplementedError

    async def ask(self) -> None:
        """Return if the server responds. Raises its client's errors."""
        raise NotImplementedError

    @property
    def user(self) -> str | None:
        """The user of the process, if not the current user."""
        return None

    async def start(self) -> Self:
        """Start the server and wait until it responds. Raises `TimeoutError`."""
        async with asyncio.timeout(PATIENCE):
            while not await self._answers():
                # A server may fail because the killed one still holds its port or files: start it again.
                if self._server is None or self._server.poll() is not None:
                    with (self.folder / "server.log").open("ab") as log:
                        self._server = subprocess.Popen(self.command(), stdout=log, stderr=log, user=self.user)
                await asyncio.sleep(0.01)
        return self

    async def _answers(self) -> bool:
        if self._server is None or self._server.poll() is not None:
            return False
        with contextlib.suppress(Exception):
            await self.ask()
            return True
        return False

    async def stop(self) -> None:
        """Stop the server as for a planned restart, and wait for its end."""
        if self._server is not None:
            self._server.send_signal(signal.SIGINT)
            await asyncio.to_thread(self._server.wait)
            self._server = None

    def kill(self) -> None:
        """Kill the server and its children with SIGKILL."""
        if self._server is None:
            return
        children = Path(f"/proc/{self._server.pid}/task/{self._server.pid}/children")
        family = [int(pid) for pid in children.read_text(encoding="ascii").split()] if children.exists() else []
        self._server.kill()
        self._server.wait()
        self._server = None
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Redis(Database):
    """A Redis that writes each change to disk before it responds; never with `keeps=False`."""

    def __init__(self, folder: Path, keeps: bool = True) -> None:
        super().__init__(folder)
        self._keeps = keeps
        self.location = f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> list[str]:
        written = ["--appendonly", "yes", "--appendfsync", "always"] if self._keeps else ["--appendonly", "no"]
        where = ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)]
        return [find_program("redis-server"), *where, "--save", "", *written]

    async def ask(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(b"PING\r\n")
            if await reader.readline() != b"+PONG\r\n":
                raise ConnectionError("it is loading")
        finally:
            writer.close()


class Postgres(Database):
    """A PostgreSQL as `initdb` creates it; for root it runs as user postgres."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.location = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self.data = folder / "data"
        if self.user is not None:
            shutil.chown(folder, self.user)

    def create(self) -> None:
        """Create an empty database."""
        self.run("initdb", "-D", self.data, "-U", "postgres", "-A", "trust", "--no-sync")

    def run(self, program: str, *arguments: object) -> None:
        """Run a program of PostgreSQL. Raises `CalledProcessError`."""
        command = [find_program(program), *map(str, arguments)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, user=self.user)

    @property
    def user(self) -> str | None:
        return "postgres" if os.geteuid() == 0 else None

    def command(self) -> list[str]:
        where = ["-h", "127.0.0.1", "-p", str(self.port), "-D", str(self.data), "-k", str(self.folder)]
        # A killed server then leaves no shared memory after the removal of its folder.
        return [find_program("postgres"), *where, "-c", "dynamic_shared_memory_type=mmap"]

    async def ask(self) -> None:
        import psycopg

        async with await psycopg.AsyncConnection.connect(self.location, connect_timeout=5) as connection:
            await connection.execute("SELECT 1")


class PgBouncer(Database):
    """A PgBouncer in front of a server, which gives each transaction any free session."""

    def __init__(self, folder: Path, location: str) -> None:
        super().__init__(folder)
        self._ini = folder / "pgbouncer.ini"
        server = urlsplit(location)
        password = f" password={server.password}" if server.password else ""
        self._ini.write_text(f"""[databases]
* = host={server.hostname} port={server.port or 5432} user={server.username}{password}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
""")
        self.location = f"postgresql://postgres@127.0.0.1:{self.port}{server.path}"

    @property
    def user(self) -> str | None:
        return "postgres" if os.geteuid() == 0 else None

    def command(self) -> list[str]:
        return [find_program("pgbouncer"), "-q", str(self._ini)]

    async def ask(self) -> None:
        import psycopg

        async with await psycopg.AsyncConnection.connect(self.location, connect_timeout=5) as connection:
            await connection.execute("SELECT 1")


def find_program(program: str) -> str:
    """Return a program's path, also in Debian's PostgreSQL folder. Raises `NotRun`."""
    hidden = sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")))
    path = shutil.which(program) or shutil.which(program, path=os.pathsep.join(reversed(hidden)))
    if path is None:
        raise NotRun(f"there is no {program}")
    return path


@contextlib.asynccontextmanager
async def database(backend: str, **options: bool) -> AsyncIterator[Database]:
    """Start a server for one campaign, and kill and remove it afterwards."""
    # Not in a folder that only its owner may enter: the server may run as another user.
    with tempfile.TemporaryDirectory(prefix=f"campaign-{backend}-", ignore_cleanup_errors=True) as name:
        server = Redis(Path(name), **options) if backend == "redis" else Postgres(Path(name))
        if isinstance(server, Postgres):
            server.create()
        try:
            yield await server.start()
        finally:
            server.kill()
