"""The protocol of child processes: they read lines from stdin and print lines on stdout."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def say(*words: object) -> None:
    print(*words, flush=True)


async def read_commands() -> AsyncIterator[list[str]]:
    """Yield the words of each line of stdin."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield line.decode().split()
