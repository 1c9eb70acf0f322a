"""Processes put to sleep with SIGSTOP at moments when other processes can continue."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from campaigns import Context, Outcome
    from support.processes import Process

WRITE_LOCK = 120
"""The byte of a SQLite file's `-shm` that a writer locks."""


async def put_to_sleep(process: Process, context: Context, outcome: Outcome) -> None:
    """Stop a process at a random moment."""
    while True:
        await asyncio.sleep(context.random.uniform(0, 0.05))
        process.stop()
        outcome.count("stops")
        if context.backend != "sqlite" or not in_transaction(process.pid, Path(context.location)):
            return
        # While it sleeps in a transaction, SQLite blocks every other writer, whatever the lease.
        outcome.count("of them inside a transaction, let go on")
        process.go_on()


def in_transaction(pid: int, file: Path) -> bool:
    """Whether a process holds the lock under which a SQLite file's log is written."""
    inode = file.with_name(f"{file.name}-shm").stat().st_ino
    for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
        # Such as `1: POSIX  ADVISORY  WRITE 4711 08:01:1234 120 120`; a waiting process has an arrow before POSIX.
        words = line.split()
        whose = words[1] == "POSIX" and words[3:5] == ["WRITE", str(pid)] and words[5].endswith(f":{inode}")
        if whose and int(words[6]) <= WRITE_LOCK <= float(words[7].replace("EOF", "inf")):
            return True
    return False
