"""The records of a store in memory."""

from __future__ import annotations

from bisect import bisect_right, insort
from typing import TYPE_CHECKING

from agentrunner.errors import RecordConflict
from agentrunner.stores.types import Record

if TYPE_CHECKING:
    from agentrunner.stores.types import Change

    Address = tuple[str, str]


class MemoryRecords:
    """Records by kind and key, and in order within each thread."""

    def __init__(self) -> None:
        self._all: dict[Address, Record] = {}
        self._order: list[Address] = []
        self._of: dict[str, list[Address]] = {}
        """By thread."""
        self._versions = 0

    def __len__(self) -> int:
        return len(self._all)

    def get(self, kind: str, key: str) -> Record | None:
        """Give a record, `None` if there is none."""
        return self._all.get((kind, key))

    def page(self, kind: str | None, thread_id: str | None, after: Address | None, limit: int) -> list[Record]:
        """Give records in the order of `(kind, key)` behind one of these, at most so many."""
        order = self._order if thread_id is None else self._of.get(thread_id, [])
        begin = max(after or ("", ""), (kind or "", ""))
        found: list[Record] = []
        for address in order[bisect_right(order, begin) :]:
            if len(found) == limit or (kind is not None and address[0] != kind):
                break
            found.append(self._all[address])
        return found

    def write(self, changes: list[Change]) -> list[int]:
        """Make all the changes or none. Raises `RecordConflict`."""
        for change in changes:
            kept = self._all.get((change.kind, change.key))
            strange = kept is not None and kept.thread_id != change.thread_id
            if strange or (change.version is not None and change.version != (kept.version if kept else 0)):
                raise RecordConflict(change.kind, change.key)
        return [self._set(change) for change in changes]

    def forget(self, thread_id: str) -> None:
        """Remove all of a thread's."""
        for address in list(self._of.get(thread_id, ())):
            self._remove(address)

    def _set(self, change: Change) -> int:
        address = (change.kind, change.key)
        if address in self._all:
            self._remove(address)
        if change.value is None:
            return 0
        self._versions += 1
        self._all[address] = Record(change.kind, change.key, change.thread_id, self._versions, change.value)
        insort(self._order, address)
        insort(self._of.setdefault(change.thread_id, []), address)
        return self._versions

    def _remove(self, address: Address) -> None:
        record = self._all.pop(address)
        for order in (self._order, self._of[record.thread_id]):
            del order[bisect_right(order, address) - 1]
        if not self._of[record.thread_id]:
            del self._of[record.thread_id]
