"""Sessions: what a runtime remembers of a conversation, as records of the store."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from agentrunner.errors import RecordConflict, RecordDamaged, SessionAlreadyExists, SessionNotFound
from agentrunner.records import kinds
from agentrunner.records.format import checksum, encode_value
from agentrunner.records.kinds import numbered_key
from agentrunner.runtime import ledger
from agentrunner.runtime.checkpoints import Checkpoint, read_checkpoint
from agentrunner.runtime.outcome import Outcome, outcome_from_json, outcome_to_json
from agentrunner.stores import Change

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agentrunner.runtime.bus import EventBus
    from agentrunner.stores import Claim, Store

PAGE = 1000


def now_ms() -> int:
    """Give the time in milliseconds since 1970."""
    return int(time.time() * 1000)


def extend_digest(digest: str, value: bytes) -> str:
    """Return the digest of a session's messages after one more, whose stored bytes are given."""
    return checksum(digest.encode() + value)


@dataclass(slots=True)
class Session:
    """A conversation. Read it; only the runtime changes it."""

    id: str
    """Its thread's."""
    messages: list[dict[str, Any]] = field(default_factory=list)
    """All of them, in AG-UI's wire form."""
    outcome: Outcome | None = None
    """How the last turn ended; `None` while one is under way, or broke off, or there was none."""
    checkpoints: int = 0
    """The number of the last checkpoint; 0: there is none."""
    approvals: dict[str, int] = field(default_factory=dict)
    """Until when, in milliseconds since 1970, an action is approved without asking."""
    skills: list[str] | None = None
    """The names of those in use; `None`: all the runtime has."""
    given: dict[str, Any] = field(default_factory=dict)
    """What came with the last run's input: `tools` of the client, `context`, `state`."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """The application's own."""
    digest: str = ""
    """What the messages come to."""
    created_at: int = 0
    updated_at: int = 0
    """Milliseconds since 1970."""
    version: int = 0
    """Of its record."""

    def call_ids(self) -> set[str]:
        """Give the ids of all tool calls in it."""
        return {call["id"] for message in self.messages for call in message.get("toolCalls") or ()}

    def _kept(self) -> dict[str, Any]:
        kept = {one.name: getattr(self, one.name) for one in fields(self) if one.name not in ("messages", "version")}
        return kept | {"messages": len(self.messages), "outcome": outcome_to_json(self.outcome)}


class Sessions:
    """The sessions of a store; with a claim only as long as that holds the thread."""

    def __init__(self, store: Store, claim: Claim | None = None, bus: EventBus | None = None) -> None:
        self.store = store
        self.claim = claim
        self._bus = bus

    async def find(self, session_id: str) -> Session | None:
        """Give a session, `None` if there is none. Raises `RecordDamaged`, `RecordTooNew`, `StoreError`."""
        record = await kinds.SESSION.find(self.store, session_id)
        if record is None:
            return None
        kept = kinds.SESSION.decode(record)
        try:
            if kept["id"] != session_id:
                raise RecordDamaged(record.kind, record.key)
            count = int(kept.pop("messages"))
            kept["outcome"] = outcome_from_json(kept["outcome"])
            session = Session(**kept, version=record.version)
        except (TypeError, KeyError) as error:
            raise RecordDamaged(record.kind, record.key) from error
        session.messages, digest = await self._messages(session_id, count)
        if digest != session.digest:
            raise RecordDamaged(record.kind, record.key)
        return session

    async def load(self, session_id: str) -> Session:
        """Give a session. Raises `SessionNotFound`, and as `find`."""
        session = await self.find(session_id)
        if session is None:
            raise SessionNotFound(f"there is no session '{session_id}'")
        return session

    async def _messages(self, session_id: str, count: int) -> tuple[list[dict[str, Any]], str]:
        messages: list[dict[str, Any]] = []
        digest = ""
        after = (kinds.MESSAGE.name, numbered_key(session_id, 0)[:-1])
        while len(messages) < count:
            page = await self.store.records(kinds.MESSAGE.name, session_id, after, min(PAGE, count - len(messages)))
            for record in page:
                if record.key != numbered_key(session_id, len(messages)):
                    break
                messages.append(kinds.MESSAGE.decode(record))
                digest = extend_digest(digest, record.value)
                after = (record.kind, record.key)
            if len(messages) < count and len(page) < PAGE:
                raise RecordDamaged(kinds.MESSAGE.name, numbered_key(session_id, len(messages)))
        return messages, digest

    async def checkpoint(self, session: Session, number: int | None = None) -> Checkpoint:
        """Give a checkpoint, by default the last. Raises `SessionNotFound`, `RecordDamaged`, `RecordTooNew`."""
        wanted = session.checkpoints if number is None else number
        key = numbered_key(session.id, wanted)
        record = await kinds.CHECKPOINT.find(self.store, key) if 0 < wanted <= session.checkpoints else None
        if record is None:
            if number is None and session.checkpoints:
                raise RecordDamaged(kinds.CHECKPOINT.name, key)
            raise SessionNotFound(f"session '{session.id}' has no checkpoint {wanted}")
        checkpoint = read_checkpoint(record, session.id, wanted)
        kept = session.messages[: checkpoint.messages]
        digest = session.digest
        if checkpoint.messages != len(session.messages):
            _, digest = await self._messages(session.id, len(kept))
        if len(kept) != checkpoint.messages or digest != checkpoint.digest:
            raise RecordDamaged(record.kind, record.key)
        return checkpoint

    async def save(
        self,
        session: Session,
        *,
        messages: Iterable[dict[str, Any]] = (),
        checkpoint: dict[str, Any] | None = None,
        also: Sequence[Change] = (),
        kept: list[dict[str, Any]] | None = None,
        **changed: Any,
    ) -> Checkpoint | None:
        """Add messages and a checkpoint, and change what else is said, in one step; only then is `session` changed.

        `checkpoint`: its fields but for those that follow from the session. `also`: other changes of the same step.
        `kept`: the messages it has before those that are added, where these are not all. Raises `SessionAlreadyExists`,
        `RecordConflict` where another has changed the session, `LeaseLost`, `StoreError`.
        """
        added = list(messages)
        changes = list(also)
        now = now_ms()
        after = Session(**{one.name: getattr(session, one.name) for one in fields(session)} | changed)
        before = session.messages if kept is None else kept
        after.messages = [*before, *added]
        after.updated_at = now
        after.created_at = session.created_at or now
        for number, message in enumerate(added, len(before)):
            value = encode_value(message)
            after.digest = extend_digest(after.digest, value)
            changes.append(Change(kinds.MESSAGE.name, numbered_key(session.id, number), session.id, value, 0))
        made = None
        if checkpoint is not None:
            after.checkpoints += 1
            made = Checkpoint(
                session_id=session.id, number=after.checkpoints, messages=len(after.messages),
                digest=after.digest, created_at=now, **checkpoint,
            )  # fmt: skip
            changes.append(Change(kinds.CHECKPOINT.name, made.key, session.id, made.sealed(), 0))
        changes.append(kinds.SESSION.change(session.id, session.id, after._kept(), session.version))
        try:
            versions = await self.store.write(changes, self.claim)
        except RecordConflict as error:
            if session.version == 0 and error.kind == kinds.SESSION.name:
                raise SessionAlreadyExists(f"there is a session '{session.id}' already") from error
            raise
        after.version = versions[-1]
        for one in fields(session):
            setattr(session, one.name, getattr(after, one.name))
        if made is not None and self._bus is not None:
            self._bus.checkpoint(made)
        return made

    async def rewind(self, session: Session, to: Checkpoint) -> None:
        """Take a session back to a checkpoint, in one step: the messages and checkpoints after it go.

        What its tools did is forgotten only of calls that are taken back with the messages that made them.
        """
        gone = [
            kinds.CHECKPOINT.removal(numbered_key(session.id, number), session.id)
            for number in range(to.number + 1, session.checkpoints + 1)
        ]
        cut = await self.cut(session, to.messages)
        await self.save(session, also=[*gone, *cut.pop("also")], outcome=None, checkpoints=to.number, **cut)

    async def cut(self, session: Session, count: int) -> dict[str, Any]:
        """Give what `save` is to be told to leave the session only its first so many messages."""
        _, digest = await self._messages(session.id, count)
        gone = [
            kinds.MESSAGE.removal(numbered_key(session.id, number), session.id)
            for number in range(count, len(session.messages))
        ]
        calls = Session(session.id, session.messages[count:]).call_ids()
        gone += [kinds.TOOL_CALL.removal(ledger.ledger_key(session.id, call), session.id) for call in calls]
        return {"also": gone, "kept": session.messages[:count], "digest": digest}
