"""The records of a `MemoryStore`."""

from __future__ import annotations

from bisect import bisect_right, insort
from typing import TYPE_CHECKING, TypeAlias

from agentrunner.errors import RecordConflict
from agentrunner.stores.types import Record

if TYPE_CHECKING:
    from agentrunner.stores.types import Change

Address: TypeAlias = tuple[str, str]
"""The kind and the key of a record."""


class MemoryRecords:
    """Records, found by kind and key, and listed in that order for each thread and for all."""

    def __init__(self) -> None:
        self._records: dict[Address, Record] = {}
        self._order: list[Address] = []
        self._order_by_thread: dict[str, list[Address]] = {}
        self._last_version = 0

    def __len__(self) -> int:
        return len(self._records)

    def get(self, kind: str, key: str) -> Record | None:
        """Return a record, or `None` if it does not exist."""
        return self._records.get((kind, key))

    def list_page(self, kind: str | None, thread_id: str | None, after: Address | None, limit: int) -> list[Record]:
        """Return at most `limit` records after an address, in the order of `(kind, key)`."""
        order = self._order if thread_id is None else self._order_by_thread.get(thread_id, [])
        start = max(after or ("", ""), (kind or "", ""))
        page: list[Record] = []
        for address in order[bisect_right(order, start) :]:
            if len(page) == limit or (kind is not None and address[0] != kind):
                break
            page.append(self._records[address])
        return page

    def write(self, changes: list[Change]) -> list[int]:
        """Make all changes or none, and return the new versions. Raises `RecordConflict`."""
        for change in changes:
            record = self._records.get((change.kind, change.key))
            is_misplaced = record is not None and record.thread_id != change.thread_id
            version = record.version if record else 0
            if is_misplaced or (change.version is not None and change.version != version):
                raise RecordConflict(change.kind, change.key)
        return [self._make(change) for change in changes]

    def remove_thread(self, thread_id: str) -> None:
        """Remove all records of a thread."""
        for address in list(self._order_by_thread.get(thread_id, ())):
            self._remove(address)

    def _make(self, change: Change) -> int:
        address = (change.kind, change.key)
        if address in self._records:
            self._remove(address)
        if change.value is None:
            return 0
        self._last_version += 1
        self._records[address] = Record(change.kind, change.key, change.thread_id, self._last_version, change.value)
        insort(self._order, address)
        insort(self._order_by_thread.setdefault(change.thread_id, []), address)
        return self._last_version

    def _remove(self, address: Address) -> None:
        record = self._records.pop(address)
        thread_order = self._order_by_thread[record.thread_id]
        for order in (self._order, thread_order):
            del order[bisect_right(order, address) - 1]
        if not thread_order:
            del self._order_by_thread[record.thread_id]
