"""A SQLite store that is closed while another program reads the file."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from agentrunner import SqliteStore

pytestmark = pytest.mark.processes

READER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN")
connection.execute("SELECT count(*) FROM live_runs").fetchall()
print("reading", flush=True)
sys.stdin.read()
"""


async def test_closing_neither_waits_for_readers_nor_blocks_writers(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    ends, stays = SqliteStore(path), SqliteStore(path)
    await ends.open()
    await stays.open()
    # Of another process: it has a SQLite of its own.
    with subprocess.Popen(
        [sys.executable, "-c", READER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        assert reader.stdin
        assert reader.stdout
        try:
            assert await asyncio.to_thread(reader.stdout.readline) == "reading\n"
            await stays.claim("t1", "r1", "{}", None, [], None)
            # A close that waited for the reader would take SQLite's ten seconds, and keep every writer out as long.
            async with asyncio.timeout(9):
                await asyncio.gather(ends.aclose(), stays.claim("t2", "r2", "{}", None, [], None))
        finally:
            reader.stdin.close()
            await stays.aclose()
