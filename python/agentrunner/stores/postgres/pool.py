"""The pool of connections, whose tasks end with their event loop."""

from __future__ import annotations

import asyncio
from typing import Any

from psycopg_pool import AsyncConnectionPool

from agentrunner.stores.postgres.sessions import PostgresSession


class PostgresPool(AsyncConnectionPool[PostgresSession]):
    """A pool whose workers can be cancelled.

    psycopg's workers catch `CancelledError` like all errors, for example that of a connection attempt, and go on.
    `asyncio.run` cancels each task once and then waits for it: without this, a program that ends without `aclose()`
    while the server is away would never exit.
    """

    @classmethod
    async def worker(cls, q: Any) -> None:
        """Run the tasks of a queue until the pool is closed or the worker is cancelled."""
        queue: Any = _WorkerQueue(q)
        await super().worker(queue)


class _WorkerQueue:
    """A queue that gives no more tasks to a worker that was cancelled."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue

    async def get(self) -> Any:
        worker = asyncio.current_task()
        if worker is not None and worker.cancelling():
            raise asyncio.CancelledError
        return await self._queue.get()
