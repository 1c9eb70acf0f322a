"""Approvals as records, and the queries about them that the server and the runtime need."""

from __future__ import annotations

import contextvars
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from agentrunner.errors import ApprovalNotFound, RecordDamaged
from agentrunner.records import kinds
from agentrunner.records.scopes import find_only, iterate_in_scope
from agentrunner.records.times import now_ms, utc
from agentrunner.types import ANY_SCOPE

if TYPE_CHECKING:
    import datetime
    from collections.abc import AsyncIterator, Collection, Iterable, Sequence

    from agentrunner.stores import Change, Record, Store
    from agentrunner.types import AnyScope

Decision: TypeAlias = Literal["approve", "reject", "edit"]
ApprovalState: TypeAlias = Literal["open", "expired", "approved", "rejected", "edited", "withdrawn"]


@dataclass(frozen=True, slots=True)
class Approval:
    """An interrupt of a harness run, and the decision about it.

    Example::

        for approval in await harness.approvals():
            print(approval.tool, approval.input, approval.expires_at_utc)
            await harness.decide(approval.approval_id, "approve", by="ann")

    """

    approval_id: str
    """Id of the AG-UI run that asked, `/`, and the interrupt's id; another thread may have an approval of this id."""
    run_id: str
    """Id of the harness run."""
    thread_id: str
    agent: str
    """Name of the agent that asked."""
    asked_by: str
    """Id of the AG-UI run that asked."""
    interrupt: Mapping[str, Any]
    """AG-UI interrupt as the agent sent it."""
    tool: str | None
    """Name of the tool to call, if the interrupt is about a tool call."""
    input: Any
    """Input that the agent wants to call the tool with."""
    checkpoint: str | None
    """Key of the checkpoint from which the agent continues, if the agent named one."""
    created_at: int
    """Time of the request in milliseconds since 1970."""
    expires_at: int | None = None
    """Time from which it can only be rejected, in milliseconds since 1970; `None`: never."""
    decision: Decision | Literal["withdrawn"] | None = None
    """Decision about it, if any; `withdrawn`: its harness run was cancelled or failed, or left behind."""
    decision_id: str | None = None
    """Id that the caller chose for the decision, by which a retry is recognized."""
    by: str | None = None
    """Name or scope of the person who decided."""
    decided_at: int | None = None
    """Time of the decision in milliseconds since 1970."""
    status: Literal["resolved", "cancelled"] | None = None
    """Status of the answer that the agent gets, an AG-UI `ResumeEntry`."""
    payload: Any = None
    """Payload of the answer that the agent gets."""
    version: int = field(default=0, compare=False, repr=False)
    """Version of its record; 0 while there is none."""
    key: str = field(default="", compare=False, repr=False)
    """Key of its record; empty while there is none."""

    @property
    def interrupt_id(self) -> str:
        """Id of the interrupt, which the agent chose."""
        name: str = self.interrupt["id"]
        return name

    @property
    def message(self) -> str | None:
        """Text of the agent for the person who decides, if it sent one."""
        return self.interrupt.get("message")

    @property
    def open(self) -> bool:
        """Whether there is no decision yet; if it has expired, it can only be rejected."""
        return self.decision is None

    @property
    def created_at_utc(self) -> datetime.datetime:
        """Time of the request as a datetime in UTC."""
        return utc(self.created_at)

    @property
    def expires_at_utc(self) -> datetime.datetime | None:
        """Time from which it can only be rejected, as a datetime in UTC; `None`: never."""
        return utc(self.expires_at) if self.expires_at is not None else None

    @property
    def decided_at_utc(self) -> datetime.datetime | None:
        """Time of the decision as a datetime in UTC; `None`: not decided."""
        return utc(self.decided_at) if self.decided_at is not None else None

    def state(self, now: int) -> ApprovalState:
        """Return its state at a time in milliseconds since 1970."""
        if self.decision is None:
            return "expired" if self.expires_at is not None and now >= self.expires_at else "open"
        states: dict[str, ApprovalState] = {"approve": "approved", "reject": "rejected", "edit": "edited"}
        return states.get(self.decision, "withdrawn")


def make_approval_id(run_id: str, interrupt_id: str) -> str:
    """Return the id of the approval for an interrupt of an AG-UI run."""
    return f"{run_id}/{interrupt_id}"


def read_approval(record: Record) -> Approval:
    """Return the approval that a record holds. Raises `RecordDamaged`, `RecordTooNew`."""
    value = kinds.APPROVAL.decode(record)
    try:
        return Approval(**value, version=record.version, key=record.key)
    except TypeError as error:
        raise RecordDamaged(record.kind, record.key) from error


def approval_changes(approval: Approval) -> list[Change]:
    """Return the changes that write an approval, unless it was changed since it was read."""
    value = asdict(approval)
    del value["version"], value["key"]
    thread_id = approval.thread_id
    key = approval.key or kinds.thread_key(thread_id, approval.approval_id)
    return [
        kinds.APPROVAL.change(key, thread_id, value, approval.version),
        kinds.OPEN_APPROVAL.change(key, thread_id, {"run_id": approval.run_id})
        if approval.open
        else kinds.OPEN_APPROVAL.removal(key, thread_id),
    ]


async def find_approval(store: Store, thread_id: str, approval_id: str) -> Approval | None:
    """Return an approval of a thread; `None` if there is none."""
    record = await kinds.APPROVAL.find_named(store, thread_id, approval_id)
    return read_approval(record) if record is not None else None


async def find_approvals(store: Store, thread_id: str, approval_ids: Iterable[str]) -> list[Approval]:
    """Return a thread's approvals with these ids, without those that do not exist."""
    approvals = [await find_approval(store, thread_id, approval_id) for approval_id in approval_ids]
    return [approval for approval in approvals if approval is not None]


async def load_approval(
    store: Store, approval_id: str, thread_id: str | None = None, scope: str | AnyScope | None = ANY_SCOPE
) -> Approval:
    """Return an approval, which must be in a thread and a scope if these are given.

    Raises `ApprovalNotFound`; `AmbiguousId` if several threads have one.
    """
    records = _iterate_records(store, approval_id, thread_id)
    approval = await find_only(records, read_approval, store, scope, f"an approval '{approval_id}'")
    if approval is None:
        where = "in the store" if thread_id is None else f"of thread '{thread_id}'"
        raise ApprovalNotFound(f"there is no approval '{approval_id}' {where}; `Harness.approvals` lists the open")
    return approval


async def _iterate_records(store: Store, approval_id: str, thread_id: str | None) -> AsyncIterator[Record]:
    """Iterate over the approvals, of one thread or of all, that have an id."""
    if thread_id is None:
        async for record in kinds.APPROVAL.iterate_named(store, approval_id):
            yield record
    elif (of_thread := await kinds.APPROVAL.find_named(store, thread_id, approval_id)) is not None:
        yield of_thread


async def list_approvals(
    store: Store, thread_id: str | None, state: ApprovalState | None, scope: str | AnyScope | None = ANY_SCOPE
) -> list[Approval]:
    """Return the approvals in a state, or in any state with `None`, the oldest first."""
    if state in ("open", "expired"):
        # Find them by their marks: reading every approval ever decided would take too long.
        marks = [mark async for mark in iterate_in_scope(kinds.OPEN_APPROVAL, store, thread_id, scope)]
        records = [await kinds.APPROVAL.find(store, mark.key) for mark in marks]
        approvals = [read_approval(record) for record in records if record is not None]
    else:
        records_in_scope = iterate_in_scope(kinds.APPROVAL, store, thread_id, scope)
        approvals = await kinds.read_all(records_in_scope, read_approval)
    now = now_ms()
    return sorted(
        (approval for approval in approvals if state in (None, approval.state(now))),
        key=lambda approval: (approval.created_at, approval.approval_id),
    )


# For the server and the runtime, which also work without a harness. Then there are no approvals.


async def find_open_interrupts(
    store: Store, thread_id: str, run_id: str, interrupts: Sequence[dict[str, Any]]
) -> list[dict[str, Any]] | None:
    """Return the undecided interrupts among a run's.

    It is `None` if they are neither approvals of a harness nor a runtime's.
    """
    ids = [make_approval_id(run_id, f"{each.get('id')}") for each in interrupts]
    approvals = [await find_approval(store, thread_id, approval_id) for approval_id in ids]
    if all(approval is None for approval in approvals):
        session = await find_session_interrupts(store, thread_id)
        if session is None or not interrupts or not all(_is_in_session(thread_id, each) for each in interrupts):
            return None
        return [each for each in interrupts if each.get("id") in session.open_ids]
    return [each for each, approval in zip(interrupts, approvals, strict=True) if approval is None or approval.open]


async def is_every_interrupt_answered(store: Store, thread_id: str, interrupt_ids: Collection[str]) -> bool:
    """Return whether all these interrupts were decided, and the thread has no open approval."""
    if await store.records(kinds.OPEN_APPROVAL.name, thread_id, None, 1):
        return False
    unknown = set(interrupt_ids)
    async for record in kinds.APPROVAL.iterate(store, thread_id):
        unknown.discard(read_approval(record).interrupt_id)
    if unknown and (session := await find_session_interrupts(store, thread_id)) is not None:
        unknown -= session.decided_ids - session.open_ids
    return not unknown


class SessionInterrupts(NamedTuple):
    """The interrupts of a runtime's session, by their ids."""

    open_ids: set[str]
    decided_ids: set[str]
    """Ids of those decided since the last user message."""


async def find_session_interrupts(store: Store, thread_id: str) -> SessionInterrupts | None:
    """Return the interrupts of a thread's session; `None` if a runtime has no session there.

    Raises `RecordDamaged`, `RecordTooNew`.
    """
    record = await kinds.SESSION.find(store, thread_id)
    if record is None:
        return None
    value = kinds.SESSION.decode(record)
    interrupts = (value.get("outcome") or {}).get("interrupts") or []
    return SessionInterrupts({each["id"] for each in interrupts}, set(value.get("decided_interrupts") or ()))


def _is_in_session(thread_id: str, interrupt: Mapping[str, Any]) -> bool:
    """Return whether an interrupt names a checkpoint of the thread's session."""
    metadata = interrupt.get("metadata")
    checkpoint = metadata.get("checkpoint") if isinstance(metadata, dict) else None
    return isinstance(checkpoint, str) and checkpoint.startswith(kinds.session_key(thread_id, ""))


async def is_every_interrupt_closed(store: Store, thread_id: str, interrupt_ids: Collection[str]) -> bool:
    """Return whether there are approvals for the interrupts and none of them is open."""
    has_approval = False
    async for record in kinds.APPROVAL.iterate(store, thread_id):
        approval = read_approval(record)
        if approval.interrupt_id in interrupt_ids:
            has_approval = True
            if approval.open:
                return False
    return has_approval


_run_with_accepted_answers: contextvars.ContextVar[tuple[str, str] | None] = contextvars.ContextVar(
    "agentrunner_run_with_accepted_answers", default=None
)


def accept_answers(thread_id: str, run_id: str) -> None:
    """Note that a harness has accepted the answers in the input of the current run."""
    _run_with_accepted_answers.set((thread_id, run_id))


def has_accepted_answers(thread_id: str, run_id: str) -> bool:
    """Return whether a harness accepted this run's answers before they expired."""
    return _run_with_accepted_answers.get() == (thread_id, run_id)
