"""The ledger of tool calls: that one was begun is known before it is, so that none is run twice by oversight."""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from agentrunner.errors import RecordDamaged
from agentrunner.records import kinds
from agentrunner.records.kinds import session_key
from agentrunner.runtime.tools import ToolResult
from agentrunner.stores import Change

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agentrunner.runtime.session import Sessions
    from agentrunner.runtime.tools import ToolCall


def ledger_key(session_id: str, call_id: str) -> str:
    """Give the key of a call's entry."""
    return session_key(session_id, call_id)


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """A call that was begun."""

    session_id: str
    call_id: str
    name: str
    idempotency_key: str
    attempt: int
    decision: dict[str, Any] | None = None
    """What an approver said of it, if one was asked: with which arguments it may be run."""
    result: dict[str, Any] | None = None
    """`None`: it has not ended as far as is known."""
    version: int = 0
    """Of its record; 0: not written yet."""

    @property
    def key(self) -> str:
        """Under which key it is kept."""
        return ledger_key(self.session_id, self.call_id)

    @property
    def done(self) -> ToolResult | None:
        """What it gave."""
        return ToolResult(**self.result) if self.result is not None else None

    def change(self) -> Change:
        """Give the change that writes it."""
        kept = asdict(self)
        del kept["version"]
        return kinds.TOOL_CALL.change(self.key, self.session_id, kept, self.version)


class Ledger:
    """The calls of a session that were begun."""

    def __init__(self, sessions: Sessions, session_id: str) -> None:
        self._sessions = sessions
        self._session_id = session_id

    async def look(self, calls: Iterable[ToolCall]) -> dict[str, LedgerEntry]:
        """Give, by call id, what is known of those that were begun. Raises `RecordDamaged`, `RecordTooNew`."""
        found = {}
        for call in calls:
            record = await kinds.TOOL_CALL.find(self._sessions.store, ledger_key(self._session_id, call.id))
            if record is None:
                continue
            try:
                entry = LedgerEntry(**kinds.TOOL_CALL.decode(record), version=record.version)
            except TypeError as error:
                raise RecordDamaged(record.kind, record.key) from error
            if (entry.session_id, entry.call_id) != (self._session_id, call.id):
                raise RecordDamaged(record.kind, record.key)
            found[call.id] = entry
        return found

    async def begin(self, calls: Sequence[ToolCall], known: dict[str, LedgerEntry]) -> list[LedgerEntry]:
        """Write that these calls are begun, in one step. Raises `RecordConflict` where another has begun one."""
        entries = []
        for call in calls:
            entry = known.get(call.id)
            if entry is None:
                entry = LedgerEntry(self._session_id, call.id, call.name, uuid.uuid4().hex, 1, call.decision)
            else:
                entry = replace(entry, attempt=entry.attempt + 1)
            entries.append(entry)
        versions = await self._sessions.store.write([entry.change() for entry in entries], self._sessions.claim)
        return [replace(entry, version=version) for entry, version in zip(entries, versions, strict=True)]

    async def end(self, entry: LedgerEntry, result: ToolResult) -> None:
        """Write what a call gave."""
        kept = {"content": result.content, "error": result.error, "metadata": dict(result.metadata)}
        await self._sessions.store.write([replace(entry, result=kept).change()], self._sessions.claim)
