"""The verbs of records, in Redis."""

from __future__ import annotations

import itertools
import uuid
from typing import TYPE_CHECKING, Any

from agentrunner.errors import RecordConflict
from agentrunner.stores.redis.journal import lost
from agentrunner.stores.redis.scripts import optional, text
from agentrunner.stores.types import Record
from agentrunner.stores.validation import check_changes, is_valid_name

if TYPE_CHECKING:
    from agentrunner._core import Claim
    from agentrunner.stores.redis.client import RedisClient
    from agentrunner.stores.types import Change

LOWEST, NEXT = "\0", "\1"
"""What stands behind a kind in an address, and what comes behind all of those."""


class RedisRecords:
    """Records: a row each, and indexes by their addresses' bytes, which is the order of code points."""

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        # By these the server tells a write that is tried again from another one; what was answered it may forget.
        self._nonce = uuid.uuid4().hex
        self._calls = itertools.count()
        self._answered: list[int] = []

    async def record(self, kind: str, key: str) -> Record | None:
        if not is_valid_name(kind=kind, key=key):
            return None
        return _record(await self._client.run("record", _address(kind, key)), kind, key)

    async def records(
        self, kind: str | None, thread_id: str | None, after: tuple[str, str] | None, limit: int
    ) -> list[Record]:
        after_kind, after_key = after or ("", "")
        if not is_valid_name(kind=kind, thread_id=thread_id) or not is_valid_name(kind=after_kind, key=after_key):
            return []
        behind, until = _address(after_kind, after_key), b"+"
        if kind is not None:
            behind, until = max(behind, _address(kind, "")), b"(" + (kind + NEXT).encode()
        found: list[Record] = []
        more = 1
        while more and len(found) < limit:
            more, rows = await self._client.run("records", optional(thread_id), behind, until, limit - len(found))
            for behind, *row in rows:
                # What cannot be read costs that row.
                if record := _record(row, *text(behind).split(LOWEST, 1)):
                    found.append(record)
        return found

    async def write(self, changes: list[Change], claim: Claim | None = None) -> list[int]:
        check_changes(changes)
        call, answered, self._answered = next(self._calls), self._answered, []
        arguments: list[Any] = [self._nonce, call]
        arguments += [claim.thread_id.encode(), claim.token] if claim is not None else [b"", b""]
        arguments += [len(answered), *answered]
        for change in changes:
            arguments += [
                _address(change.kind, change.key), change.thread_id.encode(),
                b"" if change.version is None else change.version, int(change.value is not None), change.value or b"",
            ]  # fmt: skip
        outcome, *detail = await self._client.run("write", *arguments)
        self._answered.append(call)
        if outcome == b"lost" and claim is not None:
            raise lost(claim)
        if outcome == b"conflict":
            change = changes[detail[0]]
            raise RecordConflict(change.kind, change.key)
        return [int(version) for version in detail[0]]


def _address(kind: str, key: str) -> bytes:
    return (kind + LOWEST + key).encode()


def _record(row: list[Any], kind: str, key: str) -> Record | None:
    thread_id, version, value = row
    if thread_id is None or version is None or value is None:
        return None
    return Record(kind, key, text(thread_id), int(version), value)
