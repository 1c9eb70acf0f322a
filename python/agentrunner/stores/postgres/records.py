"""The methods for records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentrunner.errors import RecordConflict
from agentrunner.stores._errors import make_lease_lost
from agentrunner.stores._held_leases import draw_call_number
from agentrunner.stores.postgres.client import LARGE_BYTES
from agentrunner.stores.types import Record
from agentrunner.stores.validation import check_changes, is_valid_name

if TYPE_CHECKING:
    from agentrunner._core import Claim
    from agentrunner.stores.postgres.client import PostgresClient
    from agentrunner.stores.types import Change

# The value of a large record is NULL here, and fetched by a statement of its own.
RECORD_COLUMNS = (
    'kind, key, thread_id, version, CASE WHEN octet_length(value) <= %(most)s THEN value END FROM "agentrunner".records'
)

READ_RECORD = f"SELECT {RECORD_COLUMNS} WHERE kind = %(kind)s::text AND key = %(key)s::text"

WRITE_RECORDS = """SELECT * FROM "agentrunner".write(%(call)s::bigint, %(is_retry)s, %(thread_id)s::text,
  %(token)s::bigint, make_interval(secs => %(ttl)s), %(kinds)b::text[], %(keys)b::text[], %(threads)b::text[],
  %(values)b::bytea[], %(removed)b::boolean[], %(versions)b::bigint[])"""

ANY_VERSION = -1
POSTGRES_VALUE_BYTES = 1 << 30
"""The greatest size of a value in PostgreSQL."""


def render_record_query(of_kind: bool, of_thread: bool) -> str:
    """Return the statement that reads a page of records, filtered by kind, by thread, or both."""
    after = (
        "kind = %(kind)s::text AND key > %(after_key)s::text"
        if of_kind
        else '(kind, key) > (%(after_kind)s::text COLLATE "C", %(after_key)s::text COLLATE "C")'
    )
    thread = "thread_id = %(thread_id)s::text AND" if of_thread else ""
    return f"SELECT {RECORD_COLUMNS} WHERE {thread} {after} ORDER BY kind, key LIMIT %(limit)s"


class PostgresRecords:
    """The store's methods for records."""

    lease_ttl: float
    _client: PostgresClient

    async def record(self, kind: str, key: str) -> Record | None:
        if not is_valid_name(kind=kind, key=key):
            return None
        records = await self._load(await self._client.fetch(READ_RECORD, kind=kind, key=key, most=LARGE_BYTES))
        return records[0] if records else None

    async def records(
        self, kind: str | None, thread_id: str | None, after: tuple[str, str] | None, limit: int
    ) -> list[Record]:
        after_kind, after_key = after or ("", "")
        if not is_valid_name(kind=kind, thread_id=thread_id) or not is_valid_name(kind=after_kind, key=after_key):
            return []
        if kind is not None and kind != after_kind:
            if kind < after_kind:
                return []
            after_key = ""
        rows = await self._client.fetch(
            render_record_query(kind is not None, thread_id is not None),
            kind=kind,
            thread_id=thread_id,
            after_kind=after_kind,
            after_key=after_key,
            limit=limit,
            most=LARGE_BYTES,
        )
        return await self._load(rows)

    async def _load(self, rows: list[tuple[Any, ...]]) -> list[Record]:
        """Return rows as records, fetching the values of large ones."""
        records = []
        for row in rows:
            record = Record(*row)
            if record.value is None:
                large_rows = await self._client.fetch(
                    READ_RECORD, large=True, kind=record.kind, key=record.key, most=POSTGRES_VALUE_BYTES
                )
                records += [Record(*large_row) for large_row in large_rows]
            else:
                records.append(record)
        return records

    async def write(self, changes: list[Change], claim: Claim | None = None) -> list[int]:
        check_changes(changes)
        # All processes lock rows in the same order, so that no two of them wait for each other.
        order = sorted(range(len(changes)), key=lambda n: (changes[n].kind, changes[n].key))
        ordered = [changes[n] for n in order]
        [(outcome, versions)] = await self._client.fetch(
            WRITE_RECORDS,
            large=sum(len(change.value or b"") for change in changes) > LARGE_BYTES,
            call=draw_call_number(),
            thread_id=claim and claim.thread_id,
            token=claim and claim.token,
            ttl=self.lease_ttl,
            kinds=[change.kind for change in ordered],
            keys=[change.key for change in ordered],
            threads=[change.thread_id for change in ordered],
            values=[change.value or b"" for change in ordered],
            removed=[change.value is None for change in ordered],
            versions=[ANY_VERSION if change.version is None else change.version for change in ordered],
        )
        if outcome is not None:
            if outcome == 0 and claim is not None:
                raise make_lease_lost(claim)
            raise RecordConflict(ordered[outcome - 1].kind, ordered[outcome - 1].key)
        version_by_index = dict(zip(order, versions, strict=True))
        return [version_by_index[n] for n in range(len(changes))]
