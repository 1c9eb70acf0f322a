"""Back up and rewrite SQLite files, in threads and without an open store."""

from __future__ import annotations

import asyncio
import datetime
import threading
from typing import TYPE_CHECKING

from agentrunner import _core
from agentrunner.stores.types import Backup

if TYPE_CHECKING:
    from collections.abc import Callable


async def back_up(
    path: str, target: str, *, overwrite: bool, on_progress: Callable[[int, int], object] | None
) -> Backup:
    """Copy a SQLite file, which may be in use, into another file."""
    is_cancelled = threading.Event()

    def report(written: int, total: int) -> bool:
        if on_progress is not None:
            on_progress(written, total)
        return not is_cancelled.is_set()

    copying = asyncio.ensure_future(
        asyncio.to_thread(_core.back_up_sqlite, path, target, overwrite=overwrite, report=report)
    )
    try:
        return Backup(*await asyncio.shield(copying))
    except asyncio.CancelledError:
        # The thread stops at its next report, and removes what it has written.
        is_cancelled.set()
        await asyncio.wait([copying])
        raise


def describe_missing_log(milliseconds: int) -> str:
    """Return the rest of a sentence about a file that was copied without its log.

    The time is that of the last checkpoint, in milliseconds since 1970.
    """
    time = datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)
    return f"was copied without its -wal file: what was written after {time:%Y-%m-%d %H:%M:%S} UTC is missing"


async def vacuum(path: str) -> tuple[int, int]:
    """Rewrite a SQLite file without free pages; return its bytes before and after."""
    return await asyncio.to_thread(_core.vacuum_sqlite, path)
