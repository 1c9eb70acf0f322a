"""SQLite's write-ahead log stays short even if there is a reader at every moment."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from agentrunner.stores import Change
from agentrunner.stores.sqlite import SqliteStore

pytestmark = pytest.mark.processes

# Another process: two copies of SQLite in one drop each other's locks. Each reader begins before the last one ends.
READERS = """
import sqlite3, sys, time
def begun():
    reader = sqlite3.connect(sys.argv[1], isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM records").fetchall()
    return reader
last = begun()
print(flush=True)
while True:
    following = begun()
    time.sleep(0.01)
    last.close()
    last = following
"""
MIB = 1 << 20


async def test_overlapping_readers_do_not_keep_the_log_growing(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    store = SqliteStore(path)
    await store.open()
    readers = subprocess.Popen([sys.executable, "-c", READERS, path], stdout=subprocess.PIPE)
    try:
        assert readers.stdout is not None
        readers.stdout.readline()
        log, longest = Path(f"{path}-wal"), 0
        for number in range(1000):
            await store.write([Change("kind", str(number % 4), "t", bytes([number % 256]) * MIB)])
            if (now := log.stat().st_size) < longest:
                break
            longest = now
            await asyncio.sleep(0.02)
        assert longest < 900 * MIB
    finally:
        readers.kill()
        readers.communicate()
        await store.aclose()
