"""The verbs for records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentrunner.errors import RecordConflict
from agentrunner.stores.postgres.client import LARGE
from agentrunner.stores.postgres.runs import call_number, lost
from agentrunner.stores.types import Record
from agentrunner.stores.validation import check_changes, is_valid_name

if TYPE_CHECKING:
    from agentrunner._core import Claim
    from agentrunner.stores.postgres.client import PostgresClient
    from agentrunner.stores.types import Change

# A large value is fetched apart.
COLUMNS = (
    'kind, key, thread_id, version, CASE WHEN octet_length(value) <= %(most)s THEN value END FROM "agentrunner".records'
)

RECORD = f"SELECT {COLUMNS} WHERE kind = %(kind)s::text AND key = %(key)s::text"

WRITE = """SELECT * FROM "agentrunner".write(%(call)s::bigint, %(again)s, %(thread_id)s::text, %(token)s::bigint,
  make_interval(secs => %(ttl)s), %(kinds)b::text[], %(keys)b::text[], %(threads)b::text[], %(values)b::bytea[],
  %(removed)b::boolean[], %(versions)b::bigint[])"""

ANY_VERSION = -1


def paging(of_kind: bool, of_thread: bool) -> str:
    """Give the statement that reads a page of all records, of a kind, of a thread, or of a thread's of a kind."""
    behind = (
        "kind = %(kind)s::text AND key > %(after_key)s::text"
        if of_kind
        else '(kind, key) > (%(after_kind)s::text COLLATE "C", %(after_key)s::text COLLATE "C")'
    )
    thread = "thread_id = %(thread_id)s::text AND" if of_thread else ""
    return f"SELECT {COLUMNS} WHERE {thread} {behind} ORDER BY kind, key LIMIT %(limit)s"


class PostgresRecords:
    """The store's verbs for records."""

    lease_ttl: float
    _client: PostgresClient

    async def record(self, kind: str, key: str) -> Record | None:
        if not is_valid_name(kind=kind, key=key):
            return None
        found = await self._found(await self._client.rows(RECORD, kind=kind, key=key, most=LARGE))
        return found[0] if found else None

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
        rows = await self._client.rows(
            paging(kind is not None, thread_id is not None),
            kind=kind,
            thread_id=thread_id,
            after_kind=after_kind,
            after_key=after_key,
            limit=limit,
            most=LARGE,
        )
        return await self._found(rows)

    async def _found(self, rows: list[tuple[Any, ...]]) -> list[Record]:
        found = []
        for row in rows:
            record = Record(*row)
            if record.value is None:
                large = await self._client.rows(RECORD, large=True, kind=record.kind, key=record.key, most=1 << 30)
                found += [Record(*row) for row in large]
            else:
                found.append(record)
        return found

    async def write(self, changes: list[Change], claim: Claim | None = None) -> list[int]:
        check_changes(changes)
        # Locked in one order by everyone.
        order = sorted(range(len(changes)), key=lambda n: (changes[n].kind, changes[n].key))
        ordered = [changes[n] for n in order]
        [(outcome, versions)] = await self._client.rows(
            WRITE,
            large=sum(len(change.value or b"") for change in changes) > LARGE,
            call=call_number(),
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
                raise lost(claim)
            raise RecordConflict(ordered[outcome - 1].kind, ordered[outcome - 1].key)
        of = dict(zip(order, versions, strict=True))
        return [of[n] for n in range(len(changes))]
