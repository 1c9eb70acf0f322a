"""Which tool calls may run, and who says so."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeAlias

import orjson

from agentrunner.errors import ApprovalExpired, ApprovalNotFound, InterruptsOpen, InvalidInput
from agentrunner.records.format import checksum
from agentrunner.runtime.outcome import Interrupted
from agentrunner.runtime.session import Session, now_ms
from agentrunner.runtime.tools import InvalidArguments, Policy, Tool, ToolCall

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ag_ui.core import ResumeEntry


@dataclass(frozen=True, slots=True)
class Deny:
    """What a policy says of a call that may not run, with a reason the model is told."""

    reason: str = ""


Verdict: TypeAlias = Policy | Deny | None
"""`None`: as the tool itself says."""
ToolPolicy: TypeAlias = Mapping[str, Policy] | Callable[[ToolCall, Session], Verdict | Awaitable[Verdict]]
"""By the tool's name, or a function, sync or async, of the call and its session."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What an approver says of a call."""

    approved: bool
    edited: dict[str, Any] | None = None
    """The arguments to run it with instead; all of them."""
    reason: str | None = None
    """Why not, for the model."""
    remember: bool = False
    """Whether the same action of this session need not be asked for again, for as long as the runtime's config says.

    Not of a call that was edited: what the model had asked for was not approved.
    """

    @property
    def lasting(self) -> bool:
        """Whether it is remembered."""
        return self.approved and self.remember and self.edited is None

    def kept(self) -> dict[str, Any]:
        """Give it as it is kept, and as AG-UI's clients write it."""
        kept = {"approved": self.approved, "editedArgs": self.edited, "reason": self.reason, "remember": self.remember}
        return {name: value for name, value in kept.items() if value}


@dataclass(frozen=True, slots=True)
class ApprovalRequest:
    """A call that waits for somebody's word."""

    id: str
    """The interrupt's."""
    session_id: str
    call: ToolCall
    arguments: dict[str, Any]
    action_key: str


ApprovalHandler: TypeAlias = Callable[[ApprovalRequest], Decision | bool | Awaitable[Decision | bool | None] | None]
"""Decides at once; with `None` the run is interrupted for a client to decide."""

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


def interrupt_id(call_id: str) -> str:
    """Give the id of the interrupt for a call."""
    return f"int-{call_id}"


def action_key(tool: Tool, arguments: str) -> str:
    """Give the name under which an approval of this call is remembered. Raises what the tool's own function does."""
    given = orjson.loads(arguments or "{}")
    if tool.action_key is not None:
        return f"{tool.name}:{tool.action_key(given)}"
    return f"{tool.name}:{checksum(orjson.dumps(given, option=orjson.OPT_SORT_KEYS))}"


def interrupt(request: ApprovalRequest, expires: float | None, checkpoint: str) -> dict[str, Any]:
    """Give AG-UI's interrupt for a call; `expires` in seconds, `checkpoint` its record's key."""
    made: dict[str, Any] = {
        "id": request.id,
        "reason": "tool_call",
        "message": f"Allow '{request.call.name}' to run?",
        "toolCallId": request.call.id,
        "responseSchema": RESPONSE_SCHEMA,
        "metadata": {"tool": request.call.name, "input": request.arguments, "checkpoint": checkpoint},
    }
    if expires is not None:
        until = datetime.fromtimestamp(now_ms() / 1000 + expires, UTC)
        made["expiresAt"] = until.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return made


async def judged(policy: ToolPolicy | None, tool: Tool, call: ToolCall, session: Session) -> Policy | Deny:
    """Say what may be done with a call. Raises what the policy raises, `ValueError` for a word that is none."""
    verdict: Verdict = None
    if isinstance(policy, Mapping):
        verdict = policy.get(call.name)
    elif policy is not None:
        said = policy(call, session)
        verdict = await said if inspect.isawaitable(said) else said
    verdict = tool.policy if verdict is None else verdict
    if verdict not in ("allow", "ask", "deny") and not isinstance(verdict, Deny):
        raise ValueError(f"a tool policy says allow, ask or deny, not {verdict!r}")
    return verdict


async def asked(handler: ApprovalHandler | None, request: ApprovalRequest) -> Decision | None:
    """Ask the handler. Raises what it raises."""
    if handler is None:
        return None
    said = handler(request)
    answer = await said if inspect.isawaitable(said) else said
    return Decision(answer) if isinstance(answer, bool) else answer


def read_decisions(
    entries: Sequence[ResumeEntry],
    waiting: Interrupted,
    calls: Sequence[ToolCall],
    tools: Mapping[str, Tool],
    *,
    in_time: bool = False,
) -> dict[str, Decision]:
    """Read a run's `resume`: by call id, what was decided of each open interrupt. `in_time`: that is known already.

    Raises `InterruptsOpen` where one is left out, `ApprovalNotFound`, `ApprovalExpired`; `InvalidInput` where one is
    answered twice or in words that mean nothing.
    """
    given = {entry.interrupt_id: entry for entry in entries}
    opened = {one["id"]: one for one in waiting.interrupts}
    if len(given) < len(entries):
        raise InvalidInput("resume answers an interrupt twice")
    if unknown := given.keys() - opened.keys():
        raise ApprovalNotFound(f"no such interrupt is open on this thread: {', '.join(sorted(unknown))}")
    if left := opened.keys() - given.keys():
        raise InterruptsOpen(f"resume must answer each open interrupt of the thread, also: {', '.join(sorted(left))}")
    by_id = {call.id: call for call in calls}
    return {
        one["toolCallId"]: read_decision(given[name], one, tools.get(by_id[one["toolCallId"]].name), in_time=in_time)
        for name, one in opened.items()
    }


def read_decision(entry: ResumeEntry, one: Mapping[str, Any], tool: Tool | None, *, in_time: bool = False) -> Decision:
    """Read the answer to one interrupt. Raises `ApprovalExpired`, `InvalidInput`."""
    if entry.status == "cancelled":
        return Decision(False, reason=_reason(entry.payload))
    decision = _decision(one["id"], entry.payload, tool)
    until = one.get("expiresAt") if not in_time else None
    if decision.approved and until is not None and datetime.fromisoformat(until).timestamp() * 1000 <= now_ms():
        raise ApprovalExpired(f"interrupt '{one['id']}' has expired; it can only be cancelled")
    return decision


def _decision(name: str, payload: Any, tool: Tool | None) -> Decision:
    if not isinstance(payload, Mapping) or not isinstance(payload.get("approved"), bool):
        raise InvalidInput(f'interrupt \'{name}\' is answered with {{"approved": true}} or {{"approved": false}}')
    edited = payload.get("editedArgs")
    if edited is not None and payload["approved"]:
        if not isinstance(edited, Mapping):
            raise InvalidInput(f"interrupt '{name}': editedArgs is an object")
        if tool is None:
            raise InvalidInput(f"interrupt '{name}': its tool is no longer there; it can only be rejected")
        try:
            tool.validate(orjson.dumps(edited).decode())
        except (InvalidArguments, TypeError) as error:
            raise InvalidInput(f"interrupt '{name}': {error}") from error
        edited = dict(edited)
    else:
        edited = None
    return Decision(payload["approved"], edited, _reason(payload), payload.get("remember") is True)


def _reason(payload: Any) -> str | None:
    reason = payload.get("reason") if isinstance(payload, Mapping) else None
    return reason if isinstance(reason, str) else None
