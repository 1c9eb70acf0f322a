"""Long compacted forms, handed out in parts: what a reader that stalls in the middle of one costs is a number."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from agentrunner.errors import CursorExpired

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from agentrunner._core import Frames

    Key: TypeAlias = tuple[str, str, Hashable, int]
    """Thread; what kind of form; which of that kind; up to which raw event, or how many bytes of a page, it goes."""

CACHE_BYTES = 32 << 20
"""Bytes of long compacted runs kept for readers that are in the middle of one; a dropped one is rebuilt on demand."""


class CompactedCache:
    """The long forms that are being read, shared by their readers, the most recently used ones up to a limit."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._limit = limit
        self._runs: OrderedDict[Key, Frames] = OrderedDict()
        self._held = 0

    def get(self, key: Key) -> Frames | None:
        """Give a form, if it is still held."""
        form = self._runs.get(key)
        if form is not None:
            self._runs.move_to_end(key)
        return form

    def hold(self, key: Key, form: Frames) -> None:
        """Hold a form, instead of those that were used least recently."""
        before = self._runs.pop(key, None)
        self._held += len(form) - (len(before) if before is not None else 0)
        self._runs[key] = form
        while self._held > self._limit and len(self._runs) > 1:
            _, gone = self._runs.popitem(last=False)
            self._held -= len(gone)

    def newest(self, thread_id: str, run_id: str) -> tuple[Frames, int] | None:
        """Give of the forms held of a live run the one that goes furthest, and how far that is."""
        held = [key for key in self._runs if key[:3] == (thread_id, "live", run_id)]
        key = max(held, key=lambda key: key[3], default=None)
        return (self._runs[key], key[3]) if key is not None else None


@dataclass(slots=True)
class SlicedRun:
    """A place in a form that is handed out in parts."""

    key: Key
    size: int
    rebuild: Callable[[], Awaitable[Frames]]
    """Makes the same form once more."""
    offset: int = 0

    async def part(self, forms: CompactedCache, limit: int) -> Frames:
        """Give the next part, about `limit` bytes. Raises `CursorExpired` where the form cannot be made any more."""
        form = forms.get(self.key)
        if form is None:
            form = await self.rebuild()
            if len(form) != self.size:
                raise CursorExpired(f"thread '{self.key[0]}' was changed while it was read; connect without a cursor")
            forms.hold(self.key, form)
        part, self.offset = form.page(self.offset, limit)
        return part

    @property
    def read(self) -> bool:
        """Whether there is no more of it."""
        return self.offset >= self.size
