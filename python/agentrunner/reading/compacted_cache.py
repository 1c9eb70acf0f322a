"""A cache of long compacted runs, which readers get in slices.

A reader that stalls in the middle of a long run holds only an offset, not the run's bytes.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from agentrunner.errors import CursorExpired

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from agentrunner._core import Frames

    Key: TypeAlias = tuple[str, str, Hashable, int]
    """Thread id; kind of source; position within that source; the last raw event, or the bytes of a page."""

T = TypeVar("T")

CACHE_BYTES = 32 << 20
"""Bytes of compacted runs kept for readers that are in the middle of one; a dropped run is rebuilt on demand."""


class CompactedCache:
    """Compacted runs that readers share; the least recently used ones are dropped first."""

    def __init__(self, max_bytes: int = CACHE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._runs: OrderedDict[Key, Frames] = OrderedDict()
        self._bytes = 0
        self._tasks: dict[Hashable, asyncio.Task[Any]] = {}

    def get(self, key: Key) -> Frames | None:
        """Return a compacted run, or `None` if it was dropped."""
        run = self._runs.get(key)
        if run is not None:
            self._runs.move_to_end(key)
        return run

    async def get_or_build(self, key: Key, build: Callable[[], Awaitable[Frames]]) -> Frames:
        """Return a compacted run, built once for all readers that want it at the same time."""
        run = self.get(key)
        if run is None:
            run = await self.share(key, build)
            if key not in self._runs:
                self.put(key, run)
        return run

    async def share(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """Return the result of work that is done once for all concurrent callers."""
        task: asyncio.Task[T] | None = self._tasks.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(_run(work))
            self._tasks[key] = task
            task.add_done_callback(lambda task: self._forget(key, task))
        # Shielded, because a reader that leaves must not end the work for the others.
        return await asyncio.shield(task)

    def _forget(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(key, None)
        if not task.cancelled():
            # Read it here: all callers may have left, and asyncio would log an error that was never read.
            task.exception()

    def put(self, key: Key, run: Frames) -> None:
        """Keep a compacted run, and drop the least recently used ones that no longer fit."""
        previous = self._runs.pop(key, None)
        self._bytes += len(run) - (len(previous) if previous is not None else 0)
        self._runs[key] = run
        while self._bytes > self._max_bytes and len(self._runs) > 1:
            _, dropped = self._runs.popitem(last=False)
            self._bytes -= len(dropped)

    def find_newest_of_live_run(self, thread_id: str, run: Hashable) -> tuple[Frames, int] | None:
        """Return a live run's newest compaction, and the sequence number it goes up to."""
        keys = [key for key in self._runs if key[:3] == (thread_id, "live", run)]
        newest = max(keys, key=lambda key: key[3], default=None)
        return (self._runs[newest], newest[3]) if newest is not None else None


async def _run(work: Callable[[], Awaitable[T]]) -> T:
    return await work()


@dataclass(slots=True)
class SlicedRun:
    """A position in a long compacted run that is handed out in slices."""

    key: Key
    size: int
    """Length of the whole compacted run in bytes."""
    rebuild: Callable[[], Awaitable[Frames]]
    """Function that rebuilds the frames after the cache has dropped them."""
    offset: int = 0
    """Bytes that were handed out already."""

    async def read(self, cache: CompactedCache, slice_bytes: int) -> Frames:
        """Return the next slice, which has about `slice_bytes` bytes.

        Raises `CursorExpired` if the run cannot be rebuilt because its thread was changed.
        """
        run = cache.get(self.key)
        if run is None:
            run = await cache.get_or_build(self.key, self.rebuild)
            if len(run) != self.size:
                raise CursorExpired(
                    f"thread '{self.key[0]}' was changed while it was being read; connect again without a cursor"
                )
        frames, self.offset = run.page(self.offset, slice_bytes)
        return frames

    @property
    def is_read(self) -> bool:
        """Whether the last slice was handed out."""
        return self.offset >= self.size
