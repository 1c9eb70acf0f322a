"""The ledger of tool calls: each call is recorded before it runs.

After a crash, the ledger shows which calls may have run, so that none runs twice by mistake.
"""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from agentrunner.errors import RecordDamaged
from agentrunner.records import kinds
from agentrunner.records.kinds import session_key
from agentrunner.runtime.tools import ToolResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agentrunner.runtime.session import Sessions
    from agentrunner.runtime.tools import ToolCall
    from agentrunner.stores import Change, Record


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A tool call that was started."""

    session_id: str
    call_id: str
    name: str
    idempotency_key: str
    attempt: int
    decision: dict[str, Any] | None = None
    """An approver's decision, which may contain other arguments to run the call with."""
    result: dict[str, Any] | None = None
    """Result of the call; `None` if no process has written one."""
    version: int = 0
    """Version of the entry's record; 0 before it is written."""

    @classmethod
    def from_record(cls, record: Record) -> LedgerEntry:
        """Return the entry in a record. Raises `RecordDamaged` and `RecordTooNew`."""
        try:
            entry = cls(**kinds.TOOL_CALL.decode(record), version=record.version)
        except TypeError as error:
            raise RecordDamaged(record.kind, record.key) from error
        if entry.key != record.key:
            raise RecordDamaged(record.kind, record.key)
        return entry

    @property
    def key(self) -> str:
        """Key of the entry's record."""
        return session_key(self.session_id, self.call_id)

    @property
    def tool_result(self) -> ToolResult | None:
        """Result of the call; `None` if no process has written one."""
        return ToolResult(**self.result) if self.result is not None else None

    def to_change(self) -> Change:
        """Return the change that writes the entry, unless another process has changed it."""
        fields = asdict(self)
        del fields["version"]
        return kinds.TOOL_CALL.change(self.key, self.session_id, fields, self.version)


class Ledger:
    """The started tool calls of one session."""

    def __init__(self, sessions: Sessions, session_id: str) -> None:
        self._store = sessions.store
        self._claim = sessions.claim
        self._session_id = session_id

    async def find_entries(self, calls: Iterable[ToolCall]) -> dict[str, LedgerEntry]:
        """Return the entries of those calls that were started, by call id.

        Raises `RecordDamaged` and `RecordTooNew`.
        """
        entries = {}
        for call in calls:
            record = await kinds.TOOL_CALL.find(self._store, session_key(self._session_id, call.id))
            if record is not None:
                entries[call.id] = LedgerEntry.from_record(record)
        return entries

    async def start(self, calls: Sequence[ToolCall], earlier: dict[str, LedgerEntry]) -> list[LedgerEntry]:
        """Record in one step that these calls start, and return their entries.

        `earlier` has the entries of calls that start again. Raises `RecordConflict` if another process has started one.
        """
        entries = []
        for call in calls:
            entry = earlier.get(call.id)
            if entry is None:
                entry = LedgerEntry(self._session_id, call.id, call.name, uuid.uuid4().hex, 1, call.decision)
            else:
                entry = replace(entry, attempt=entry.attempt + 1)
            entries.append(entry)
        versions = await self._store.write([entry.to_change() for entry in entries], self._claim)
        return [replace(entry, version=version) for entry, version in zip(entries, versions, strict=True)]

    async def finish(self, entry: LedgerEntry, result: ToolResult) -> None:
        """Write the result of a call."""
        fields = {"content": result.content, "error": result.error, "metadata": dict(result.metadata)}
        await self._store.write([replace(entry, result=fields).to_change()], self._claim)
