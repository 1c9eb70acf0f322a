"""The life of a runner: it opens in an event loop, drains, and closes."""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from typing import TYPE_CHECKING, Self

from agentrunner.errors import RunnerClosed

if TYPE_CHECKING:
    from agentrunner.running.claiming import Claiming
    from agentrunner.running.maintenance import Maintenance
    from agentrunner.running.table import RunTable
    from agentrunner.stores import Store


class RunnerLifecycle:
    """Opens and closes the store of an `AgentRunner`, and ends its runs."""

    def __init__(self, store: Store, table: RunTable, maintenance: Maintenance, claiming: Claiming) -> None:
        self._store = store
        self._table = table
        self._maintenance = maintenance
        self._claiming = claiming
        self._loop: asyncio.AbstractEventLoop | None = None
        self._opening: asyncio.Future[None] | None = None
        self._is_closed = self._is_draining = False

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # `_loop` is missing if the constructor raised.
        if getattr(self, "_loop", None) is not None and not self._is_closed:
            warnings.warn(f"unclosed {self!r}: use `async with` or `await aclose()`", ResourceWarning, stacklevel=2)

    @property
    def is_closed(self) -> bool:
        """Whether `aclose()` was called."""
        return self._is_closed

    @property
    def is_draining(self) -> bool:
        """Whether new runs are refused because the runner is about to close."""
        return self._is_draining

    draining = is_draining
    """Older name of `is_draining`."""

    async def open(self) -> Store:
        """Open the store if it is not open yet, and recover the runs of dead processes.

        After `aclose()` it opens the runner again, also in another event loop. All other methods open a new runner, but
        not one that was closed.

        Returns:
            The open store.

        Raises:
            RunnerClosed: The runner is open in another event loop.
            StoreError: The store could not be opened.
        """
        if self._is_closed:
            self._reset()
        return await self.ensure_open()

    opened = open  # noqa: A003 - the method above
    """Older name of `open`."""

    async def ensure_open(self) -> Store:
        """Return the store, which is opened if it never was.

        Raises `RunnerClosed` if the runner was closed or is open in another event loop, and `StoreError`.
        """
        loop = asyncio.get_running_loop()
        if self._is_closed:
            raise RunnerClosed("the runner is closed; to use it again, open it with `async with` or `open()`")
        if self._loop is not None and self._loop is not loop:
            if not self._loop.is_closed():
                raise RunnerClosed(
                    "the runner is open in another event loop; call its `aclose()` there, or create one per loop"
                )
            # The loop ended without `aclose()`, as with a second `asyncio.run`, and ended the runner's tasks.
            if not getattr(self._store, "outlives_loop", True):
                raise RunnerClosed(
                    "the event loop in which the runner was opened has ended, and its store's connections with it; "
                    "close the runner before its loop ends, with `async with` or `aclose()`"
                )
            self._reset()
        if self._loop is None:
            self._loop = loop
            self._opening = loop.create_future()
            try:
                await self._store.open()
                await self._maintenance.start()
            except BaseException:
                self._loop = None
                await self._store.aclose()
                self._opening.cancel()
                raise
            self._opening.set_result(None)
        elif self._opening is not None and not self._opening.done():
            await asyncio.shield(self._opening)
        return self._store

    def _reset(self) -> None:
        """Forget the event loop, and everything that belonged to it."""
        self._loop = self._opening = None
        self._is_closed = self._is_draining = self._claiming.is_refusing = False
        self._table.reset()
        self._maintenance.reset()

    async def drain(self, seconds: float) -> None:
        """Refuse new runs from now on, wait for the live ones, and end those that take too long.

        Threads can be read until `aclose()`.

        Args:
            seconds: Seconds that the live runs get to end by themselves.

        Example::

            await runner.drain(20.0)
            await runner.aclose()

        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                self._is_draining = self._claiming.is_refusing = True
                for driver in self._table.drivers():
                    await driver.wait_until_ended()
        await self._table.interrupt_all()

    async def aclose(self) -> None:
        """End this process's live runs, write what is queued, and close the store.

        Each run ends with a `RUN_ERROR` (code `INTERRUPTED`). A second call does nothing.
        """
        if self._is_closed:
            return
        self._is_closed = self._claiming.is_refusing = True
        await self._table.interrupt_all()
        await self._table.cancel_tasks()
        await self._maintenance.aclose()
        await self._store.aclose()
