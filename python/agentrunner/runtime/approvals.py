"""Approvals: the policy for tool calls, and the decisions of approvers."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from agentrunner.errors import ApprovalExpired, ApprovalNotFound, InterruptsOpen, InvalidInput
from agentrunner.records.format import checksum
from agentrunner.records.times import now_ms
from agentrunner.runtime.outcome import Interrupted
from agentrunner.runtime.session import Session
from agentrunner.runtime.tools import InvalidArguments, Policy, Tool, ToolCall

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ag_ui.core import ResumeEntry


@dataclass(frozen=True, slots=True)
class Deny:
    """A policy's verdict that a call may not run, with a reason for the model.

    Example:
        def policy(call, session):
            return Deny("Refunds need a manager.") if call.name == "refund" else None
    """

    reason: str = ""


Verdict: TypeAlias = Policy | Deny | bool | None
"""A policy's verdict on one call.

`True` means `allow`, `False` means `deny`, and `None` leaves the verdict to the tool's own policy.
"""
ToolPolicy: TypeAlias = Mapping[str, Policy | bool] | Callable[[ToolCall, Session], Verdict | Awaitable[Verdict]]
"""A policy for all calls: a mapping by tool name, or a function, sync or async, of the call and its session."""


@dataclass(frozen=True, slots=True)
class Decision:
    """An approver's decision on one call.

    Example:
        Decision(False, reason="Too expensive.")
    """

    approved: bool
    edited: dict[str, Any] | None = None
    """All arguments to run the tool with, instead of the model's."""
    reason: str | None = None
    """Reason of a rejection, for the model."""
    remember: bool = False
    """Whether the approval also covers the same action later in this session, for `RuntimeConfig.approval_ttl`.

    It has no effect if the arguments were edited, because the approver did not approve what the model asked for.
    """

    @property
    def is_lasting(self) -> bool:
        """Whether the approval is remembered."""
        return self.approved and self.remember and self.edited is None

    def to_json(self) -> dict[str, Any]:
        """Return the decision as it is stored, which is also how AG-UI's clients write it."""
        fields = {
            "approved": self.approved, "editedArgs": self.edited, "reason": self.reason, "remember": self.remember,
        }  # fmt: skip
        return {name: value for name, value in fields.items() if value}

    kept = to_json
    """The name of `to_json` in version 0.1.0."""


def read_stored_decision(call: ToolCall) -> Decision | None:
    """Return the decision that is stored with a call, `None` if there is none."""
    if call.decision is None:
        return None
    stored = call.decision
    return Decision(stored.get("approved", False), stored.get("editedArgs"), stored.get("reason"))


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """A call that waits for a decision."""

    id: str
    """Id of the interrupt for this call."""
    session_id: str
    call: ToolCall
    arguments: dict[str, Any]
    action_key: str


ApprovalHandler: TypeAlias = Callable[[ApprovalRequest], Decision | bool | Awaitable[Decision | bool | None] | None]
"""A sync or async function that decides a call at once; if it returns `None`, the run waits for its client."""

RESPONSE_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "approved": {"type": "boolean"},
        "editedArgs": {"type": "object", "description": "Arguments to run the tool with instead"},
        "reason": {"type": "string", "description": "Why not"},
        "remember": {"type": "boolean", "description": "Do not ask again for the same action"},
    },
    "required": ["approved"],
}


_INTERRUPT_PREFIX = "int-"


def make_interrupt_id(call_id: str) -> str:
    """Return the id of the interrupt for a call."""
    return f"{_INTERRUPT_PREFIX}{call_id}"


def used_call_ids(session: Session) -> set[str]:
    """Return the ids that a new call must not have.

    A late decision on a call that was left behind must not meet another call.
    """
    return session.call_ids() | {each.removeprefix(_INTERRUPT_PREFIX) for each in session.decided_interrupts}


def find_withdrawn(session: Session, call_ids: set[str]) -> list[str]:
    """Return the ids of the interrupts that a session with only these calls leaves behind."""
    waiting = session.outcome.interrupts if isinstance(session.outcome, Interrupted) else []
    known_ids = [*session.decided_interrupts, *(interrupt["id"] for interrupt in waiting)]
    return [each for each in known_ids if each.removeprefix(_INTERRUPT_PREFIX) not in call_ids]


def action_key(tool: Tool, arguments: str) -> str:
    """Return the name under which an approval of this call is remembered.

    Raises what the tool's `action_key` raises.
    """
    values = orjson.loads(arguments or "{}")
    if tool.action_key is not None:
        return f"{tool.name}:{tool.action_key(values)}"
    return f"{tool.name}:{checksum(orjson.dumps(values, option=orjson.OPT_SORT_KEYS))}"


def remembered_key(agent_id: str, action: str) -> str:
    """Return the key under which a session remembers an agent's approval of an action."""
    # Without an agent id, the key is the one that 0.1.0 wrote. No tool's name begins with a bracket.
    return orjson.dumps([agent_id, action]).decode() if agent_id else action


def build_interrupt(
    request: ApprovalRequest, expires_seconds: float | None, checkpoint_key: str, agent_id: str
) -> dict[str, Any]:
    """Return the AG-UI interrupt for a call that waits for a decision."""
    interrupt: dict[str, Any] = {
        "id": request.id,
        "reason": "tool_call",
        "message": f"Allow '{request.call.name}' to run?",
        "toolCallId": request.call.id,
        "responseSchema": RESPONSE_SCHEMA,
        "metadata": {"tool": request.call.name, "input": request.arguments, "checkpoint": checkpoint_key},
    }
    if agent_id:
        interrupt["metadata"]["agent"] = agent_id
    if expires_seconds is not None:
        expires_at = datetime.fromtimestamp(now_ms() / 1000 + expires_seconds, UTC)
        interrupt["expiresAt"] = expires_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return interrupt


async def ask_tool_policy(policy: ToolPolicy | None, tool: Tool, call: ToolCall, session: Session) -> Policy | Deny:
    """Return the policy's verdict on a call, or the tool's own policy.

    Raises what the policy raises, and `ValueError` for a value that is not a verdict.
    """
    verdict: Verdict = None
    if isinstance(policy, Mapping):
        verdict = policy.get(call.name)
    elif policy is not None:
        returned = policy(call, session)
        verdict = await returned if inspect.isawaitable(returned) else returned
    if verdict is None:
        return tool.policy
    if isinstance(verdict, bool):
        return "allow" if verdict else "deny"
    if verdict not in ("allow", "ask", "deny") and not isinstance(verdict, Deny):
        raise ValueError(
            f"the tool policy returned {verdict!r} for a call of '{call.name}'; it must return 'allow', 'ask', 'deny',"
            " a Deny, a bool or None"
        )
    return verdict


async def ask_handler(handler: ApprovalHandler | None, request: ApprovalRequest) -> Decision | None:
    """Return the approval handler's decision, `None` to wait for the client.

    Raises what the handler raises.
    """
    if handler is None:
        return None
    returned = handler(request)
    decision = await returned if inspect.isawaitable(returned) else returned
    return Decision(decision) if isinstance(decision, bool) else decision


def read_decisions(
    session: Session,
    entries: Sequence[ResumeEntry],
    waiting: Interrupted,
    calls: Sequence[ToolCall],
    tools: Mapping[str, Tool],
    *,
    check_expiry: bool = True,
) -> dict[str, Decision]:
    """Return a run's decisions on all open interrupts, by call id.

    Raises `InterruptsOpen` if an interrupt has no decision, `ApprovalNotFound`, `ApprovalExpired`, and `InvalidInput`
    if an interrupt has two decisions or one that cannot be read.
    """
    entries_by_id = {entry.interrupt_id: entry for entry in entries}
    open_interrupts = {interrupt["id"]: interrupt for interrupt in waiting.interrupts}
    if len(entries_by_id) < len(entries):
        raise InvalidInput("the run's resume decides the same interrupt twice; decide it only once")
    if unknown := entries_by_id.keys() - open_interrupts.keys():
        raise ApprovalNotFound(
            f"thread '{session.id}' has no open interrupt {', '.join(sorted(unknown))}; connect to see the open ones"
        )
    if undecided := open_interrupts.keys() - entries_by_id.keys():
        raise InterruptsOpen(
            f"the run's resume must decide every open interrupt of thread '{session.id}'; it does not decide"
            f" {', '.join(sorted(undecided))}"
        )
    tool_names = {call.id: call.name for call in calls}
    return {
        interrupt["toolCallId"]: read_decision(
            entries_by_id[open_id],
            interrupt,
            tools.get(tool_names[interrupt["toolCallId"]]),
            check_expiry=check_expiry,
        )
        for open_id, interrupt in open_interrupts.items()
    }


def read_decision(
    entry: ResumeEntry, interrupt: Mapping[str, Any], tool: Tool | None, *, check_expiry: bool = True
) -> Decision:
    """Return a run's decision on one interrupt. Raises `ApprovalExpired` and `InvalidInput`."""
    if entry.status == "cancelled":
        return Decision(False, reason=_read_reason(entry.payload))
    decision = _read_payload(interrupt["id"], entry.payload, tool)
    expires_at = interrupt.get("expiresAt") if check_expiry else None
    is_late = expires_at is not None and datetime.fromisoformat(expires_at).timestamp() * 1000 <= now_ms()
    if decision.approved and is_late:
        raise ApprovalExpired(
            f"interrupt '{interrupt['id']}' expired at {expires_at}, so it can no longer be approved; reject it"
        )
    return decision


def _read_payload(interrupt_id: str, payload: Any, tool: Tool | None) -> Decision:
    if not isinstance(payload, Mapping) or not isinstance(payload.get("approved"), bool):
        raise InvalidInput(
            f'interrupt \'{interrupt_id}\': the payload must be an object with "approved": true or "approved": false'
        )
    edited = payload.get("editedArgs")
    if edited is not None and payload["approved"]:
        if not isinstance(edited, Mapping):
            raise InvalidInput(f"interrupt '{interrupt_id}': editedArgs must be an object")
        if tool is None:
            raise InvalidInput(f"interrupt '{interrupt_id}': its tool no longer exists, so it can only be rejected")
        try:
            tool.validate(orjson.dumps(edited).decode())
        except (InvalidArguments, TypeError) as error:
            raise InvalidInput(f"interrupt '{interrupt_id}': {error}") from error
        edited = dict(edited)
    else:
        edited = None
    return Decision(payload["approved"], edited, _read_reason(payload), payload.get("remember") is True)


def _read_reason(payload: Any) -> str | None:
    reason = payload.get("reason") if isinstance(payload, Mapping) else None
    return reason if isinstance(reason, str) else None
