"""Putting processes to sleep with SIGSTOP, at moments at which others can go on without them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from campaigns import Context, Outcome
    from support.processes import Process

WRITE_LOCK = 120
"""The byte of a SQLite file's `-shm` that is locked by who writes."""


async def put_to_sleep(process: Process, context: Context, outcome: Outcome) -> None:
    """Stop a process at a random moment."""
    while True:
        await asyncio.sleep(context.random.uniform(0, 0.05))
        process.stop()
        outcome.count("stops")
        if context.backend != "sqlite" or not in_transaction(process.pid, Path(context.location)):
            return
        # Until it goes on, or is killed, SQLite lets nobody else write: its lease is the least of it.
        outcome.count("of them inside a transaction, let go on")
        process.go_on()


def in_transaction(pid: int, file: Path) -> bool:
    """Whether a process holds the lock under which a SQLite file's log is written."""
    inode = file.with_name(f"{file.name}-shm").stat().st_ino
    for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
        # Such as `1: POSIX  ADVISORY  WRITE 4711 08:01:1234 120 120`; who waits for a lock has an arrow before POSIX.
        words = line.split()
        whose = words[1] == "POSIX" and words[3:5] == ["WRITE", str(pid)] and words[5].endswith(f":{inode}")
        if whose and int(words[6]) <= WRITE_LOCK <= float(words[7].replace("EOF", "inf")):
            return True
    return False
