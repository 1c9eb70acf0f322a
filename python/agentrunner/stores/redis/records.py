"""The methods for records, in Redis."""

from __future__ import annotations

import itertools
import uuid
from typing import TYPE_CHECKING, Any

from agentrunner.errors import RecordConflict
from agentrunner.stores._errors import make_lease_lost
from agentrunner.stores.redis.scripts import encode_optional
from agentrunner.stores.types import Record
from agentrunner.stores.validation import check_changes, is_valid_name

if TYPE_CHECKING:
    from agentrunner._core import Claim
    from agentrunner.stores.redis.client import RedisClient
    from agentrunner.stores.types import Change

SEPARATOR, AFTER_SEPARATOR = "\0", "\1"
"""Character between kind and key in an address, and the next character.

A kind with the next character sorts after all keys of that kind.
"""


class RedisRecords:
    """Records as one hash each, with indexes sorted by their addresses' bytes.

    The order of UTF-8 bytes is the order of code points.
    """

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        # The server recognizes the retry of a write by these two, and then returns what the first attempt has done. It
        # may forget the calls whose replies have arrived.
        self._nonce = uuid.uuid4().hex
        self._calls = itertools.count()
        self._answered_calls: list[int] = []

    async def record(self, kind: str, key: str) -> Record | None:
        if not is_valid_name(kind=kind, key=key):
            return None
        return _make_record(await self._client.run_script("record", _make_address(kind, key)), kind, key)

    async def records(
        self, kind: str | None, thread_id: str | None, after: tuple[str, str] | None, limit: int
    ) -> list[Record]:
        after_kind, after_key = after or ("", "")
        if not is_valid_name(kind=kind, thread_id=thread_id) or not is_valid_name(kind=after_kind, key=after_key):
            return []
        start, end = _make_address(after_kind, after_key), b"+"
        if kind is not None:
            start, end = max(start, _make_address(kind, "")), b"(" + (kind + AFTER_SEPARATOR).encode()
        records: list[Record] = []
        has_more = 1
        while has_more and len(records) < limit:
            has_more, rows = await self._client.run_script(
                "records", encode_optional(thread_id), start, end, limit - len(records)
            )
            for address, *row in rows:
                # A record that cannot be read is skipped.
                if record := _make_record(row, *address.decode().split(SEPARATOR, 1)):
                    records.append(record)
                start = address
        return records

    async def write(self, changes: list[Change], claim: Claim | None = None) -> list[int]:
        check_changes(changes)
        call, answered_calls, self._answered_calls = next(self._calls), self._answered_calls, []
        arguments: list[Any] = [self._nonce, call]
        arguments += [claim.thread_id.encode(), claim.token] if claim is not None else [b"", b""]
        arguments += [len(answered_calls), *answered_calls]
        for change in changes:
            arguments += [
                _make_address(change.kind, change.key), change.thread_id.encode(),
                b"" if change.version is None else change.version, int(change.value is not None), change.value or b"",
            ]  # fmt: skip
        outcome, *detail = await self._client.run_script("write", *arguments)
        self._answered_calls.append(call)
        if outcome == b"lost" and claim is not None:
            raise make_lease_lost(claim)
        if outcome == b"conflict":
            change = changes[detail[0]]
            raise RecordConflict(change.kind, change.key)
        return [int(version) for version in detail[0]]


def _make_address(kind: str, key: str) -> bytes:
    return (kind + SEPARATOR + key).encode()


def _make_record(row: list[Any], kind: str, key: str) -> Record | None:
    thread_id, version, value = row
    if thread_id is None or version is None or value is None:
        return None
    return Record(kind, key, thread_id.decode(), int(version), value)
