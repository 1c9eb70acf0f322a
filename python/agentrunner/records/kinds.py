"""Every kind of record in the store: its name on disk, its keys, and what its values hold.

To add a kind, add a constant here; if its records belong to threads, add it to `THREAD_KINDS` as well. The names are
stored data and never change.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from agentrunner.errors import RecordDamaged, RecordTooNew
from agentrunner.records.format import checksum, decode_value, encode_value
from agentrunner.stores import Change

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agentrunner.stores import Record, Store

logger = logging.getLogger("agentrunner.records")

T = TypeVar("T")

PAGE_RECORDS = 200
"""Number of records that are read from the store at once."""
NAMED_RECORDS = 4
"""Number of records of one name that are read at once; there is seldom more than one."""
NAME_BYTES = 1024
"""Greatest size of a name in a key, in bytes; a longer name is replaced by its checksum."""


@dataclass(frozen=True, slots=True)
class RecordKind:
    """A kind of record, with the operations on its records."""

    name: str
    """Name of the kind on disk, `Record.kind`."""
    plain_v1: bool = False
    """Whether version 0.1.0 wrote its values without a checksum."""

    def change(self, key: str, thread_id: str, value: dict[str, Any], version: int | None = None) -> Change:
        """Return the change that writes a value; with `version`, only over that version."""
        return Change(self.name, key, thread_id, encode_value(value), version)

    def removal(self, key: str, thread_id: str, version: int | None = None) -> Change:
        """Return the change that removes a record; with `version`, only that version."""
        return Change(self.name, key, thread_id, None, version)

    def decode(self, record: Record) -> dict[str, Any]:
        """Return the value of a record of this kind. Raises `RecordDamaged`, `RecordTooNew`."""
        return decode_value(record, plain_v1=self.plain_v1)

    async def find(self, store: Store, key: str) -> Record | None:
        """Return the record with a key, or `None` if there is none."""
        return await store.record(self.name, key)

    async def find_named(self, store: Store, thread_id: str, name: str) -> Record | None:
        """Return a thread's record whose key is its `thread_key`, or `None` if there is none."""
        record = await self.find(store, thread_key(thread_id, name))
        record = record or await self._find_old(store, name)
        return record if record is not None and record.thread_id == thread_id else None

    async def iterate_named(self, store: Store, name: str) -> AsyncIterator[Record]:
        """Iterate over the records of all threads that have a name."""
        if (record := await self._find_old(store, name)) is not None:
            yield record
        prefix = thread_key_prefix(name)
        after = (self.name, prefix)
        while page := await store.records(self.name, None, after, NAMED_RECORDS):
            for record in page:
                if not record.key.startswith(prefix):
                    return
                yield record
            after = (page[-1].kind, page[-1].key)

    async def _find_old(self, store: Store, name: str) -> Record | None:
        """Return the record for which version 0.1.0 took the name alone as its key."""
        record = await self.find(store, name)
        if record is None or record.key.endswith(f"/{_digest_thread(record.thread_id)}"):
            return None
        return record

    async def iterate(self, store: Store, thread_id: str | None = None) -> AsyncIterator[Record]:
        """Iterate over the records of this kind, or only a thread's, ordered by key."""
        after: tuple[str, str] | None = None
        while True:
            page = await store.records(self.name, thread_id, after, PAGE_RECORDS)
            for record in page:
                yield record
            if len(page) < PAGE_RECORDS:
                return
            after = (page[-1].kind, page[-1].key)

    async def read_all(self, store: Store, thread_id: str | None, read: Callable[[Record], T]) -> list[T]:
        """Return `read(record)` for every record; log and skip those that cannot be read."""
        return await read_all(self.iterate(store, thread_id), read)


async def read_all(records: AsyncIterator[Record], read: Callable[[Record], T]) -> list[T]:
    """Return `read(record)` for each record; log and skip those that cannot be read."""
    values: list[T] = []
    async for record in records:
        try:
            values.append(read(record))
        except (RecordDamaged, RecordTooNew):
            logger.exception("a record that cannot be read is skipped")
    return values


# Of a harness

HARNESS_RUN = RecordKind("run", plain_v1=True)
"""A harness run.

Key: `thread_key` with the id of its first AG-UI run. Value: the fields of `harness_runs.RunRecord`.
"""
ACTIVE_RUN = RecordKind("active", plain_v1=True)
"""A mark of a harness run that has not ended, so that recovery finds it.

Key: as `HARNESS_RUN`. Value: its `state`, `owner` and `agent`.
"""
ATTEMPT = RecordKind("segment", plain_v1=True)
"""A later attempt of a harness run.

Key: `thread_key` with the id of its AG-UI run. Value: `run_id`, the harness run's id.
"""
INTENT = RecordKind("intent", plain_v1=True)
"""An intent to start a harness run's agent again.

Key: as `HARNESS_RUN`. Value: the fields of `harness_runs.Intent`.
"""
APPROVAL = RecordKind("approval", plain_v1=True)
"""An approval, decided or not.

Key: `thread_key` with its id. Value: the fields of `approvals.Approval`.
"""
OPEN_APPROVAL = RecordKind("open", plain_v1=True)
"""A mark of an approval that is not decided.

Key: as `APPROVAL`. Value: `run_id`, the harness run's id.
"""
HEARTBEAT = RecordKind("beat", plain_v1=True)
"""The last heartbeat of a harness.

Key: its owner id; it has no thread. Value: `at`, in milliseconds since 1970.
"""
SLOTS = RecordKind("slots", plain_v1=True)
"""The run slots of all harnesses of one name.

Key: that name; it has no thread. Value: `held` and `line`, pairs of an AG-UI run's `thread_key` and an owner id.
"""

# Of an agent runtime

SESSION = RecordKind("session")
"""A conversation without its messages.

Key: its id. Value: the fields of the runtime's `Session`, with the number of messages.
"""
MESSAGE = RecordKind("message")
"""A message of a session.

Key: `numbered_key`, from 0. Value: the message in AG-UI's wire form.
"""
CHECKPOINT = RecordKind("checkpoint")
"""A step of a session's turn, from which the turn can continue.

Key: `numbered_key`, from 1. Value: the fields of the runtime's `Checkpoint`.
"""
TOOL_CALL = RecordKind("tool")
"""A tool call that was started.

Key: `session_key` with the call's id. Value: the fields of the runtime's `LedgerEntry`.
"""

THREAD_KINDS = (
    HARNESS_RUN, ACTIVE_RUN, ATTEMPT, APPROVAL, OPEN_APPROVAL, INTENT, SESSION, MESSAGE, CHECKPOINT, TOOL_CALL,
)  # fmt: skip
"""Kinds that `restart_conversation` removes from a thread.

`threads.delete` removes every record with the thread's id, whatever its kind.
"""


def thread_key(thread_id: str, name: str) -> str:
    """Return a key within a thread, for a name that clients choose, such as the id of a run.

    Two threads never share one: one tenant's runs must not meet another's. Version 0.1.0 took the name alone.
    """
    return f"{thread_key_prefix(name)}{_digest_thread(thread_id)}"


def thread_key_prefix(name: str) -> str:
    """Return the text with which the keys of all threads for a name begin, and no others."""
    escaped = _escape(name)
    if len(escaped.encode()) > NAME_BYTES:
        # No escaped name has these characters.
        escaped = f"%#{checksum(name.encode(), b'name')}"
    return f"{escaped}/"


def _digest_thread(thread_id: str) -> str:
    # Both ids together may be longer than a key.
    return checksum(thread_id.encode(), b"thread")


def session_key(session_id: str, last: str) -> str:
    """Return a key within a session; two sessions never share one, even if ids have slashes."""
    return f"{_escape(session_id)}/{last}"


def _escape(text: str) -> str:
    return text.replace("%", "%25").replace("/", "%2F")


def numbered_key(session_id: str, number: int) -> str:
    """Return the key of a session's message or checkpoint by its number."""
    return session_key(session_id, f"{number:08d}")
