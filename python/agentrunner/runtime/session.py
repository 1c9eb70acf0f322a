"""Sessions: the conversations of a runtime, stored as records."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from agentrunner.errors import RecordConflict, RecordDamaged, SessionAlreadyExists, SessionNotFound
from agentrunner.records import kinds
from agentrunner.records.format import checksum
from agentrunner.records.kinds import numbered_key, session_key
from agentrunner.records.times import now_ms, utc
from agentrunner.runtime.checkpoints import Checkpoint, read_checkpoint
from agentrunner.runtime.outcome import Outcome, outcome_from_json, outcome_to_json

if TYPE_CHECKING:
    import datetime
    from collections.abc import Iterable, Sequence

    from agentrunner.runtime.bus import EventBus
    from agentrunner.stores import Change, Claim, Record, Store

PAGE_MESSAGES = 1000
"""Messages read from the store at a time."""


def extend_digest(digest: str, value: bytes) -> str:
    """Return the digest of a session's messages after one more, from its stored bytes."""
    return checksum(digest.encode() + value)


def _missing_session(session_id: str) -> SessionNotFound:
    return SessionNotFound(f"there is no session '{session_id}' in the store; create it with create_session")


@dataclass(slots=True)
class Session:
    """A conversation. Only the runtime changes it."""

    id: str
    """Id of the session's thread."""
    messages: list[dict[str, Any]] = field(default_factory=list)
    """All messages in AG-UI's wire form."""
    outcome: Outcome | None = None
    """How the last turn ended; `None` before the first turn, during a turn, and after an interrupted one."""
    checkpoints: int = 0
    """Number of the last checkpoint; 0 if there is none."""
    approvals: dict[str, int] = field(default_factory=dict)
    """Time when each remembered approval ends, in milliseconds since 1970, by agent and action."""
    decided_interrupts: list[str] = field(default_factory=list)
    """Ids of the interrupts that were decided since the last user message, and of all that were left behind."""
    skills: list[str] | None = None
    """Names of the active skills; `None`: all of the runtime's."""
    client_input: dict[str, Any] = field(default_factory=dict)
    """The client's `tools`, `context` and `state` from the input of the last run."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """Data of the application."""
    digest: str = ""
    """Digest of the messages, by which a damaged session is detected."""
    created_at: int = 0
    """Time of its creation in milliseconds since 1970."""
    updated_at: int = 0
    """Time of its last change in milliseconds since 1970."""
    version: int = 0
    """Version of the session's record; 0 before it is written."""

    @classmethod
    def from_record(cls, record: Record) -> tuple[Session, int]:
        """Return the session in a record, without its messages, and how many messages it has.

        Raises `RecordDamaged` and `RecordTooNew`.
        """
        stored = kinds.SESSION.decode(record)
        try:
            if stored["id"] != record.key:
                raise RecordDamaged(record.kind, record.key)
            count = int(stored.pop("messages"))
            stored["outcome"] = outcome_from_json(stored["outcome"])
            stored["client_input"] = stored.pop("given")
            return cls(**stored, version=record.version), count
        except (TypeError, KeyError) as error:
            raise RecordDamaged(record.kind, record.key) from error

    @property
    def created_at_utc(self) -> datetime.datetime:
        """Time of its creation as a datetime in UTC."""
        return utc(self.created_at)

    @property
    def updated_at_utc(self) -> datetime.datetime:
        """Time of its last change as a datetime in UTC."""
        return utc(self.updated_at)

    @property
    def given(self) -> dict[str, Any]:
        """The client's input under the name it had in version 0.1.0; use `client_input`."""
        return self.client_input

    def call_ids(self) -> set[str]:
        """Return the ids of all tool calls in the messages."""
        return {call["id"] for message in self.messages for call in message.get("toolCalls") or ()}

    def to_change(self, version: int) -> Change:
        """Return the change that writes the session, if its record has this version.

        The messages have records of their own; this one has their number.
        """
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "version"}
        values |= {"messages": len(self.messages), "outcome": outcome_to_json(self.outcome)}
        values["given"] = values.pop("client_input")
        return kinds.SESSION.change(self.id, self.id, values, version)


class Sessions:
    """The sessions of a store.

    With a claim, writes succeed only while the claim holds the thread.
    """

    def __init__(
        self, store: Store, claim: Claim | None = None, bus: EventBus | None = None, agent_id: str | None = None
    ) -> None:
        self.store = store
        self.claim = claim
        self.agent_id = agent_id or ""
        """Id of the agent that uses the sessions; empty if it has none."""
        self._bus = bus

    async def find(self, session_id: str) -> Session | None:
        """Return a session, `None` if there is none.

        Raises `RecordDamaged`, `RecordTooNew` and `StoreError`.
        """
        record = await kinds.SESSION.find(self.store, session_id)
        if record is None:
            return None
        session, count = Session.from_record(record)
        session.messages, digest = await self._read_messages(session_id, count)
        if digest != session.digest:
            raise RecordDamaged(record.kind, record.key)
        return session

    async def load(self, session_id: str) -> Session:
        """Return a session. Raises `SessionNotFound`, and what `find` raises."""
        session = await self.find(session_id)
        if session is None:
            raise _missing_session(session_id)
        return session

    async def check_exists(self, session_id: str) -> None:
        """Raise `SessionNotFound` if there is no such session."""
        if await kinds.SESSION.find(self.store, session_id) is None:
            raise _missing_session(session_id)

    async def _read_messages(self, session_id: str, count: int) -> tuple[list[dict[str, Any]], str]:
        """Return a session's first messages and their digest."""
        messages: list[dict[str, Any]] = []
        digest = ""
        # The key without its last digit sorts right before the first message, so reading starts with that.
        after = (kinds.MESSAGE.name, numbered_key(session_id, 0)[:-1])
        while len(messages) < count:
            limit = min(PAGE_MESSAGES, count - len(messages))
            page = await self.store.records(kinds.MESSAGE.name, session_id, after, limit)
            for record in page:
                if record.key != numbered_key(session_id, len(messages)):
                    break
                messages.append(kinds.MESSAGE.decode(record))
                digest = extend_digest(digest, record.value)
                after = (record.kind, record.key)
            if len(messages) < count and len(page) < PAGE_MESSAGES:
                raise RecordDamaged(kinds.MESSAGE.name, numbered_key(session_id, len(messages)))
        return messages, digest

    async def load_checkpoint(self, session: Session, number: int | None = None) -> Checkpoint:
        """Return a session's checkpoint by its number, by default the last.

        Raises `SessionNotFound`, `RecordDamaged` and `RecordTooNew`.
        """
        wanted = session.checkpoints if number is None else number
        key = numbered_key(session.id, wanted)
        record = await kinds.CHECKPOINT.find(self.store, key) if 0 < wanted <= session.checkpoints else None
        if record is None:
            if number is None and session.checkpoints:
                raise RecordDamaged(kinds.CHECKPOINT.name, key)
            raise SessionNotFound(
                f"session '{session.id}' has no checkpoint {wanted}; its last is {session.checkpoints}"
            )
        checkpoint = read_checkpoint(record, session.id, wanted)
        count = len(session.messages[: checkpoint.messages])
        digest = session.digest
        if checkpoint.messages != len(session.messages):
            _, digest = await self._read_messages(session.id, count)
        if count != checkpoint.messages or digest != checkpoint.digest:
            raise RecordDamaged(record.kind, record.key)
        return checkpoint

    async def save(
        self,
        session: Session,
        *,
        messages: Iterable[dict[str, Any]] = (),
        checkpoint: dict[str, Any] | None = None,
        changes: Sequence[Change] = (),
        kept: int | None = None,
        **fields_to_set: Any,
    ) -> Checkpoint | None:
        """Add messages and a checkpoint to a session and set its fields, in one step.

        `checkpoint` has the checkpoint's fields that do not follow from the session. `changes` are written in the same
        step. `kept` is how many messages stay before the added ones, by default all. `session` itself changes only
        after the store has written everything. Raises `SessionAlreadyExists`, `RecordConflict` if another process has
        changed the session, `LeaseLost` and `StoreError`.
        """
        added = list(messages)
        all_changes = list(changes)
        now = now_ms()
        after = Session(**{each.name: getattr(session, each.name) for each in fields(session)} | fields_to_set)
        before = session.messages[:kept]
        after.messages = [*before, *added]
        after.updated_at = now
        after.created_at = session.created_at or now
        for number, message in enumerate(added, len(before)):
            is_replacement = number < len(session.messages)
            key = numbered_key(session.id, number)
            change = kinds.MESSAGE.change(key, session.id, message, None if is_replacement else 0)
            after.digest = extend_digest(after.digest, change.value or b"")
            all_changes.append(change)
        all_changes += [
            kinds.MESSAGE.removal(numbered_key(session.id, number), session.id)
            for number in range(len(after.messages), len(session.messages))
        ]
        new_checkpoint = None
        if checkpoint is not None:
            after.checkpoints += 1
            new_checkpoint = Checkpoint(
                session_id=session.id, number=after.checkpoints, messages=len(after.messages),
                digest=after.digest, created_at=now, agent=self.agent_id, **checkpoint,
            )  # fmt: skip
            all_changes.append(new_checkpoint.to_change())
        all_changes.append(after.to_change(session.version))
        try:
            versions = await self.store.write(all_changes, self.claim)
        except RecordConflict as error:
            if session.version == 0 and error.kind == kinds.SESSION.name:
                raise SessionAlreadyExists(
                    f"session '{session.id}' already exists; load it with restore_session"
                ) from error
            raise
        after.version = versions[-1]
        for each in fields(session):
            setattr(session, each.name, getattr(after, each.name))
        if new_checkpoint is not None and self._bus is not None:
            self._bus.publish_checkpoint(new_checkpoint)
        return new_checkpoint

    async def rewind(self, session: Session, checkpoint: Checkpoint) -> None:
        """Remove the messages and checkpoints after a checkpoint from a session, in one step.

        Ledger entries are removed only with the messages that contain their calls.
        """
        removals = [
            kinds.CHECKPOINT.removal(numbered_key(session.id, number), session.id)
            for number in range(checkpoint.number + 1, session.checkpoints + 1)
        ]
        options = await self._plan(session, session.messages[: checkpoint.messages])
        options["changes"] += removals
        await self.save(session, outcome=None, checkpoints=checkpoint.number, **options)

    async def plan_messages(self, session: Session, messages: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the options with which `save` gives a session these messages.

        Checkpoints that need others are removed.
        """
        options = await self._plan(session, messages)
        if (kept := options.get("kept")) is not None:
            counts = await kinds.CHECKPOINT.read_all(self.store, session.id, _read_count)
            options["changes"] += [kinds.CHECKPOINT.removal(key, session.id) for key, count in counts if count > kept]
        return options

    async def _plan(self, session: Session, messages: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the options with which `save` gives a session these messages.

        Those with which both lists begin stay. Ledger entries are removed only with the messages that contain their
        calls.
        """
        kept = _count_equal(session.messages, messages)
        if kept == len(session.messages):
            return {"changes": [], "messages": messages[kept:]}
        _, digest = await self._read_messages(session.id, kept)
        call_ids = session.call_ids() - Session(session.id, messages).call_ids()
        removals = [kinds.TOOL_CALL.removal(session_key(session.id, call_id), session.id) for call_id in call_ids]
        return {"changes": removals, "kept": kept, "digest": digest, "messages": messages[kept:]}


def _count_equal(one: Sequence[Any], other: Sequence[Any]) -> int:
    """Return the number of items with which both lists begin."""
    count = 0
    for first, second in zip(one, other, strict=False):
        if first is not second and first != second:
            break
        count += 1
    return count


def _read_count(record: Record) -> tuple[str, int]:
    """Return a checkpoint's key and its number of messages."""
    return record.key, kinds.CHECKPOINT.decode(record)["messages"]
