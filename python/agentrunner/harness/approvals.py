"""Approvals: made of interrupts, answered by decisions, either way as AG-UI writes them."""

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ag_ui.core import ResumeEntry

from agentrunner._codec import decode, encode
from agentrunner.errors import AlreadyDecided, ApprovalExpired, ApprovalNotFound, InterruptsOpen, InvalidInput
from agentrunner.records.approvals import Approval
from agentrunner.records.times import now_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ag_ui.core import RunAgentInput

    from agentrunner.records.approvals import Decision
    from agentrunner.records.harness_runs import RunRecord
    from agentrunner.stores import Store


def from_interrupts(
    run: RunRecord, asked_by: str, interrupts: Iterable[Mapping[str, Any]], calls: Mapping[str, tuple[str, Any]]
) -> list[Approval]:
    """Give the approvals a run asks for. `calls`: the tool calls known, by id, each its name and input."""
    made = []
    for interrupt in interrupts:
        metadata = interrupt.get("metadata")
        said = metadata if isinstance(metadata, dict) else {}
        tool, given = calls.get(interrupt.get("toolCallId") or "", (None, None))
        checkpoint = said.get("checkpoint")
        made.append(
            Approval(
                approval_id=f"{asked_by}/{interrupt['id']}",
                run_id=run.run_id,
                thread_id=run.thread_id,
                agent=run.agent,
                asked_by=asked_by,
                interrupt=interrupt,
                tool=said.get("tool", tool),
                input=said.get("input", given),
                checkpoint=None if checkpoint is None else str(checkpoint),
                created_at=now_ms(),
                expires_at=_milliseconds(interrupt.get("expiresAt")),
            )
        )
    return made


def _milliseconds(text: Any) -> int | None:
    """Read a time of ISO 8601; what is none never comes."""
    try:
        when = datetime.datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return int((when if when.tzinfo else when.replace(tzinfo=datetime.UTC)).timestamp() * 1000)


def tool_calls(events: Iterable[Mapping[str, Any]], input: RunAgentInput) -> dict[str, tuple[str, Any]]:
    """Give the tool calls of a run's events so far and of its messages: by id, each its name and input."""
    calls: dict[str, tuple[str, Any]] = {}
    texts: dict[str, str] = {}
    for message in input.messages:
        for call in getattr(message, "tool_calls", None) or ():
            calls[call.id] = (call.function.name, _parsed(call.function.arguments))
    for event in events:
        call_id = event.get("toolCallId", "")
        if event["type"] == "TOOL_CALL_START":
            calls[call_id] = (event["toolCallName"], None)
        elif event["type"] == "TOOL_CALL_ARGS" and call_id in calls:
            texts[call_id] = texts.get(call_id, "") + event["delta"]
    for call_id, text in texts.items():
        calls[call_id] = (calls[call_id][0], _parsed(text))
    return calls


def _parsed(text: str) -> Any:
    try:
        return decode(text.encode())
    except ValueError:
        return text


# Decisions


def apply_decision(
    approval: Approval,
    decision: Decision,
    *,
    edited_input: Any = None,
    reason: str | None = None,
    payload: Any = None,
    by: str | None = None,
    decision_id: str | None = None,
) -> Approval:
    """Give the approval with a decision. `payload`: what the agent is answered, instead of AG-UI's pattern.

    Raises `ApprovalExpired`, `InvalidInput`.
    """
    if decision not in ("approve", "reject", "edit"):
        raise InvalidInput(f"a decision is approve, reject or edit, not {decision!r}")
    if decision == "edit" and edited_input is None and payload is None:
        raise InvalidInput("an edit says what the tool's input is to be: edited_input")
    if decision != "edit" and edited_input is not None:
        raise InvalidInput(f"edited_input goes with edit, not with {decision}")
    if payload is None:
        payload = {"approved": decision != "reject"}
        if decision == "edit":
            payload["editedArgs"] = edited_input
        if decision == "reject" and reason is not None:
            payload["reason"] = reason
    return _with(approval, decision, "resolved", payload, by, decision_id)


def apply_answer(approval: Approval, entry: ResumeEntry, by: str | None) -> Approval:
    """Give the approval with a client's answer. Raises `ApprovalExpired`."""
    payload = entry.payload
    said = payload if isinstance(payload, dict) else {}
    decision: Decision = "edit" if "editedArgs" in said else "approve"
    if entry.status == "cancelled" or said.get("approved") is False:
        decision = "reject"
    metadata = decode(encode(entry)).get("metadata") or {}
    decision_id = metadata.get("decisionId") if isinstance(metadata, dict) else None
    return _with(approval, decision, entry.status, payload, by, decision_id)


def _with(
    approval: Approval, decision: Decision, status: Any, payload: Any, by: str | None, decision_id: str | None
) -> Approval:
    now = now_ms()
    if approval.state(now) == "expired" and decision != "reject":
        raise ApprovalExpired(
            f"the approval '{approval.approval_id}' expired at {approval.interrupt.get('expiresAt')}; "
            "it can only be rejected"
        )
    return replace(
        approval, decision=decision, decision_id=decision_id, by=by, decided_at=now, status=status, payload=payload
    )


def is_same_decision(one: Approval, other: Approval) -> bool:
    """Say whether two decisions about an approval are the same: by their id, or by what they say."""
    if one.decision_id is not None and one.decision_id == other.decision_id:
        return True
    if one.decision != other.decision:
        return False
    # Whatever is said about why: nothing is done either way.
    return one.decision == "reject" or one.payload == other.payload


def check_same(approval: Approval, now: Approval) -> None:
    """Raise `AlreadyDecided` if an approval was decided otherwise than it is now."""
    if not is_same_decision(approval, now):
        who = f" by {approval.by}" if approval.by else ""
        raise AlreadyDecided(
            f"the approval '{approval.approval_id}' has been decided already{who}: {approval.decision}"
        )


def entry_of(approval: Approval) -> dict[str, Any]:
    """Give what the agent is answered, an AG-UI `ResumeEntry`."""
    entry: dict[str, Any] = {"interruptId": approval.interrupt_id, "status": approval.status}
    if approval.payload is not None:
        entry["payload"] = approval.payload
    return entry


async def check_answers(agent: Any, store: Store, approvals: Sequence[Approval]) -> None:
    """Show decisions to an agent that can tell, before they are made, what it could not act upon: `InvalidInput`."""
    looks = getattr(agent, "check_answers", None)
    if looks is not None and approvals:
        entries = [ResumeEntry.model_validate(entry_of(approval)) for approval in approvals]
        await looks(approvals[0].thread_id, entries, store)


def match_answers(approvals: Sequence[Approval], entries: Sequence[ResumeEntry], by: str | None) -> list[Approval]:
    """Give those of a run's approvals that a client's answers decide, decided.

    Raises `ApprovalNotFound` for an answer to something else, `AlreadyDecided`, `ApprovalExpired`; `InterruptsOpen` if
    one is not answered.
    """
    known = {approval.interrupt_id: approval for approval in approvals}
    given = {entry.interrupt_id: entry for entry in entries}
    for interrupt_id in given:
        if interrupt_id not in known:
            raise ApprovalNotFound(f"the thread has no open interrupt '{interrupt_id}'")
    changed = []
    for interrupt_id, approval in known.items():
        if approval.open:
            if interrupt_id not in given:
                raise interrupts_open(approvals)
            changed.append(apply_answer(approval, given[interrupt_id], by))
        elif interrupt_id in given:
            check_same(
                approval, apply_answer(replace(approval, decision=None, expires_at=None), given[interrupt_id], by)
            )
    return changed


def interrupts_open(approvals: Iterable[Approval]) -> InterruptsOpen:
    """Give the error for a run that does not answer them all."""
    names = ", ".join(f"'{approval.approval_id}'" for approval in approvals if approval.open)
    return InterruptsOpen(f"the thread has open interrupts, each of which the next run is to answer: {names}")
