"""A check that disconnected clients leave nothing behind in a server."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from campaigns import Outcome
    from support.servers import Server

PATIENCE = 15
"""Seconds a server has to free what it held."""


@asynccontextmanager
async def nothing_left(server: Server, outcome: Outcome) -> AsyncIterator[None]:
    """Check that the server holds no more after the block than before it.

    It compares tasks, descriptors and connections.
    """
    before, now = {}, await count_held(server)
    while before != now or now["connections"]:
        await asyncio.sleep(0.2)
        before, now = now, await count_held(server)
    yield
    began = time.monotonic()
    now = await count_held(server)
    while any(now[what] > before[what] for what in now) and time.monotonic() - began < PATIENCE:
        await asyncio.sleep(0.1)
        now = await count_held(server)
    for what in now:
        outcome.count(f"{what} left", now[what] - before[what])
        if now[what] > before[what]:
            outcome.fail(f"{now[what] - before[what]} {what} are left of clients that are gone")


async def count_held(server: Server) -> dict[str, int]:
    figures = await server.figures()
    return {what: figures[what] for what in ("tasks", "descriptors", "connections")}
