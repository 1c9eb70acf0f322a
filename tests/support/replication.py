"""A PostgreSQL primary with a standby, which takes over from it."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg

from support.databases import PATIENCE, Postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Replication:
    """Two servers, each of which can be the primary; a commit waits until both have it.

    With `is_behind`, the standby gets nothing more once it has started, and no commit waits for it.
    """

    def __init__(self, folder: Path, *, is_behind: bool = False) -> None:
        self._is_behind = is_behind
        folders = [folder / name for name in ("a", "b")]
        for each in folders:
            each.mkdir()
        self.servers = [Postgres(each) for each in folders]
        self.primary, self.standby = self.servers
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers)
        self.location = f"postgresql://postgres@{hosts}/postgres"
        """Address that names both servers."""

    async def start(self) -> None:
        """Create and start both servers."""
        await asyncio.to_thread(self.primary.create)
        await self.primary.start()
        await self.attach_standby()

    async def attach_standby(self) -> None:
        """Make the other server, which must not run, a copy of the primary that follows it."""
        where = ("-h", "127.0.0.1", "-p", self.primary.port, "-U", "postgres")
        how = ("-R", "-X", "stream", "--checkpoint=fast", "--no-sync")
        shutil.rmtree(self.standby.data, ignore_errors=True)
        await asyncio.to_thread(self.standby.run, "pg_basebackup", "-D", self.standby.data, *where, *how)
        await self.standby.start()
        if self._is_behind:
            await change_setting(self.standby, "primary_conninfo", "")
            return
        await change_setting(self.primary, "synchronous_standby_names", "*")
        async with asyncio.timeout(PATIENCE):
            while not await ask(self.primary, "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"):
                await asyncio.sleep(0.01)

    async def promote(self) -> None:
        """Promote the standby, which must have lost its primary."""
        await asyncio.to_thread(self.standby.run, "pg_ctl", "promote", "-D", self.standby.data)
        self.primary, self.standby = self.standby, self.primary

    def kill(self) -> None:
        """Kill both servers with SIGKILL."""
        for server in self.servers:
            server.kill()


async def ask(server: Postgres, statement: str) -> list[tuple[Any, ...]]:
    """Run a statement on a server, also while its sessions may only read."""
    options = {"autocommit": True, "options": "-c default_transaction_read_only=off"}
    async with await psycopg.AsyncConnection.connect(server.location, **options) as connection:
        cursor = await connection.execute(statement)
        return await cursor.fetchall() if cursor.description else []


async def change_setting(server: Postgres, name: str, value: str) -> None:
    """Change a setting of a server, also in sessions that are open."""
    await ask(server, f"ALTER SYSTEM SET {name} = '{value}'")
    await ask(server, "SELECT pg_reload_conf()")


@contextlib.asynccontextmanager
async def replication(*, is_behind: bool = False) -> AsyncIterator[Replication]:
    """Start a primary and a standby, and kill and remove them afterwards."""
    with tempfile.TemporaryDirectory(prefix="replicated-", ignore_cleanup_errors=True) as name:
        # The servers may run as another user.
        Path(name).chmod(0o755)
        both = Replication(Path(name), is_behind=is_behind)
        try:
            await both.start()
            yield both
        finally:
            both.kill()
