"""Records of the threads of one scope."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from agentrunner.errors import AmbiguousId, RecordDamaged, RecordTooNew, ThreadNotFound
from agentrunner.types import AnyScope

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from agentrunner.records.kinds import RecordKind
    from agentrunner.stores import Record, Store

T = TypeVar("T")


async def read_in_scope(
    store: Store,
    record: Record,
    scope: str | AnyScope | None,
    read_scope: Callable[[Record], str | None] | None = None,
) -> Record | None:
    """Return a record, as it is now, if its thread is in a scope.

    A record may have no thread yet, or no more; then `read_scope` returns its scope, and without it there is none.
    """
    while not isinstance(scope, AnyScope):
        try:
            is_inside = (await store.thread(record.thread_id)).scope == scope
        except ThreadNotFound:
            try:
                is_inside = read_scope is not None and read_scope(record) == scope
            except (RecordDamaged, RecordTooNew):
                is_inside = False
        if not is_inside:
            return None
        # Read again: meanwhile the thread may have been deleted, with its records, and created by another scope.
        again = await store.record(record.kind, record.key)
        if again is None or again.version == record.version:
            return again
        record = again
    return record


async def iterate_in_scope(
    kind: RecordKind,
    store: Store,
    thread_id: str | None,
    scope: str | AnyScope | None,
    read_scope: Callable[[Record], str | None] | None = None,
) -> AsyncIterator[Record]:
    """Iterate over the records of a kind whose threads are in a scope; see `read_in_scope`."""
    async for record in kind.iterate(store, thread_id):
        if (visible := await read_in_scope(store, record, scope, read_scope)) is not None:
            yield visible


async def find_only(
    records: AsyncIterator[Record],
    decode: Callable[[Record], T],
    store: Store,
    scope: str | AnyScope | None,
    what: str,
    read_scope: Callable[[Record], str | None] | None = None,
) -> T | None:
    """Return the value of the only record in a scope, or `None`; see `read_in_scope`.

    Raises `AmbiguousId`, which says `what` they have, if records of several threads are in it.
    """
    thread_id, value = None, None
    async for record in records:
        if value is not None and thread_id == record.thread_id:
            continue
        if (visible := await read_in_scope(store, record, scope, read_scope)) is None:
            continue
        decoded = decode(visible)
        if value is not None:
            raise AmbiguousId(f"threads '{thread_id}' and '{visible.thread_id}' both have {what}: pass thread_id")
        thread_id, value = visible.thread_id, decoded
    return value
