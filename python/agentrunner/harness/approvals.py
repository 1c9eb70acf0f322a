"""Make approvals from interrupts, and decide them by a call or by a client's answers."""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ag_ui.core import ResumeEntry

from agentrunner import _core
from agentrunner._checks import check_text
from agentrunner._codec import decode, encode
from agentrunner.errors import (
    AlreadyDecided,
    ApprovalExpired,
    ApprovalNotFound,
    InterruptsOpen,
    InvalidInput,
)
from agentrunner.records.approvals import Approval, approval_changes, find_approvals, make_approval_id
from agentrunner.records.times import now_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ag_ui.core import RunAgentInput

    from agentrunner._core import Recorder
    from agentrunner.records.approvals import Decision
    from agentrunner.records.harness_runs import Intent, RunRecord
    from agentrunner.stores import Change, Store


# From interrupts


def from_interrupts(
    run: RunRecord, asked_by: str, interrupts: Iterable[Mapping[str, Any]], calls: Mapping[str, tuple[str, Any]]
) -> list[Approval]:
    """Return the approvals for the interrupts of an AG-UI run.

    `calls` has the run's tool calls by id, each as its name and its input.
    """
    approvals = []
    for interrupt in interrupts:
        metadata = interrupt.get("metadata")
        metadata = metadata if isinstance(metadata, dict) else {}
        call_id = interrupt.get("toolCallId") or ""
        # In the input, the calls of earlier runs have the agent's ids.
        tool, tool_input = calls.get(call_id) or calls.get(_core.agents_call_id(call_id)) or (None, None)
        checkpoint = metadata.get("checkpoint")
        approvals.append(
            Approval(
                approval_id=make_approval_id(asked_by, interrupt["id"]),
                run_id=run.run_id,
                thread_id=run.thread_id,
                agent=run.agent,
                asked_by=asked_by,
                interrupt=interrupt,
                tool=metadata.get("tool", tool),
                input=metadata.get("input", tool_input),
                checkpoint=None if checkpoint is None else str(checkpoint),
                created_at=now_ms(),
                expires_at=_milliseconds(interrupt.get("expiresAt")),
            )
        )
    return approvals


def with_own_calls(interrupts: Iterable[Mapping[str, Any]], recorder: Recorder) -> list[dict[str, Any]]:
    """Return an agent's interrupts with the ids of their calls that clients see."""
    calls: list[tuple[str, str | None]] = []
    changed: list[dict[str, Any]] = []
    for interrupt in interrupts:
        call, subagent = interrupt.get("toolCallId"), interrupt.get("subagentRunId")
        owner = subagent if isinstance(subagent, str) else None
        if isinstance(call, str):
            # An id that comes twice means two calls.
            skip = calls.count((call, owner))
            changed.append({**interrupt, "toolCallId": recorder.newest_call(call, owner, skip)})
            calls.append((call, owner))
        else:
            changed.append({**interrupt})
    return changed


def _milliseconds(text: Any) -> int | None:
    """Return an ISO 8601 time in milliseconds since 1970; `None` for anything else."""
    try:
        time = datetime.datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return int((time if time.tzinfo else time.replace(tzinfo=datetime.UTC)).timestamp() * 1000)


def tool_calls(events: Iterable[Mapping[str, Any]], input: RunAgentInput) -> dict[str, tuple[str, Any]]:
    """Return the tool calls in a run's messages and events by id, as name and input."""
    calls: dict[str, tuple[str, Any]] = {}
    arguments: dict[str, str] = {}
    for message in input.messages:
        for call in getattr(message, "tool_calls", None) or ():
            calls[call.id] = (call.function.name, _parse_arguments(call.function.arguments))
    for event in events:
        call_id = event.get("toolCallId", "")
        if event["type"] == "TOOL_CALL_START":
            calls[call_id] = (event["toolCallName"], None)
            arguments.pop(call_id, None)
        elif event["type"] == "TOOL_CALL_ARGS" and call_id in calls:
            arguments[call_id] = arguments.get(call_id, "") + event["delta"]
    for call_id, text in arguments.items():
        calls[call_id] = (calls[call_id][0], _parse_arguments(text))
    return calls


def _parse_arguments(text: str) -> Any:
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
    """Return the approval with a decision.

    `payload` is the answer that the agent gets instead of AG-UI's `approved`. Raises `ApprovalExpired`, `InvalidInput`.
    """
    about = f"the approval '{approval.approval_id}'"
    if decision not in ("approve", "reject", "edit"):
        raise InvalidInput(f"{about} can be decided with approve, reject or edit, not with {decision!r}")
    if decision == "edit" and edited_input is None and payload is None:
        raise InvalidInput(f"{about} cannot be edited without the tool's new input: pass edited_input")
    if decision != "edit" and edited_input is not None:
        raise InvalidInput(f"{about}: edited_input is only for the decision edit, not for {decision}")
    for name, text in (("by", by), ("decision_id", decision_id), ("reason", reason)):
        if text is not None and not isinstance(text, str):
            raise InvalidInput(f"{name} must be a string, not {type(text).__name__}, to decide {about}")
        if text is not None and name != "reason":
            check_text(f"{about}: {name}", text)
        _to_json(about, name, text)
    payload, edited_input = _to_json(about, "payload", payload), _to_json(about, "edited_input", edited_input)
    if payload is None:
        payload = {"approved": decision != "reject"}
        if decision == "edit":
            payload["editedArgs"] = edited_input
        if decision == "reject" and reason is not None:
            payload["reason"] = reason
    else:
        _check_payload(about, decision, payload, edited_input)
    is_rejection = isinstance(payload, dict) and payload.get("approved") is False
    if decision == "reject" and not is_rejection and approval.state(now_ms()) == "expired":
        # The agent cannot distinguish such an answer from one that was sent in time.
        raise ApprovalExpired(f'{about} has expired: reject it without a payload, or with "approved": false in it')
    return _decide(approval, decision, "resolved", payload, by, decision_id)


def _to_json(about: str, name: str, value: Any) -> Any:
    """Return a value as it is read back from JSON. Raises `InvalidInput`."""
    try:
        # Stricter than events: a person's decision must not be changed, as NaN would be, which becomes `null`.
        json.dumps(value, allow_nan=False)
        return decode(encode({name: value}))[name]
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{about} was not decided, because {name} is refused: {error}") from error


def _check_payload(about: str, decision: Decision, payload: Any, edited_input: Any) -> None:
    """Raise `InvalidInput` if the agent would read another decision from the payload."""
    fields = payload if isinstance(payload, dict) else {}
    edited = fields.get("editedArgs")
    if "approved" in fields and bool(fields["approved"]) != (decision != "reject"):
        conflict = f'"approved": {fields["approved"]!r}'
    elif payload is True and decision == "reject":
        conflict = "the payload True"
    elif edited is not None and decision != "edit":
        conflict = "editedArgs"
    elif edited is None and decision == "edit" and "approved" in fields:
        conflict = "a payload that has no editedArgs"
    elif edited_input is not None and edited != edited_input:
        conflict = "a payload whose editedArgs are not edited_input"
    else:
        return
    raise InvalidInput(
        f"{about} was not decided: {conflict} contradicts the decision {decision}; "
        "leave out payload, which is for interrupts that ask for something else than approval"
    )


def apply_answer(approval: Approval, entry: ResumeEntry, by: str | None) -> Approval:
    """Return the approval with the decision in a client's answer.

    Raises `ApprovalExpired`; `InvalidInput` if the answer contradicts itself.
    """
    answer = decode(encode(entry))
    payload, metadata = answer.get("payload"), answer.get("metadata") or {}
    fields = payload if isinstance(payload, dict) else {}
    decision: Decision = "edit" if "editedArgs" in fields else "approve"
    if entry.status == "cancelled" or fields.get("approved") is False:
        decision = "reject"
    if entry.status == "cancelled" and (payload is True or fields.get("approved")):
        # An agent that reads only the payload would do what the client has cancelled.
        raise InvalidInput(
            f"the approval '{approval.approval_id}' was not decided: its answer is cancelled, and its payload approves"
        )
    decision_id = metadata.get("decisionId") if isinstance(metadata, dict) else None
    return _decide(approval, decision, entry.status, payload, by, decision_id)


def _decide(
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


def as_undecided(approval: Approval) -> Approval:
    """Return a decided approval as if it were open, to compare another decision with it."""
    return replace(approval, decision=None, expires_at=None)


def is_same_decision(one: Approval, other: Approval) -> bool:
    """Return whether two decisions have the same decision id or the same answer."""
    if one.decision_id is not None and one.decision_id == other.decision_id:
        return True
    if one.decision != other.decision:
        return False
    # Two rejections are the same even if their reasons differ: in both cases nothing is done.
    return one.decision == "reject" or one.payload == other.payload


def check_same(approval: Approval, repeated: Approval) -> None:
    """Raise `AlreadyDecided` if an approval already has a different decision."""
    if not is_same_decision(approval, repeated):
        by = f" by {approval.by}" if approval.by else ""
        raise AlreadyDecided(f"the approval '{approval.approval_id}' has been decided already{by}: {approval.decision}")


def entry_of(approval: Approval) -> dict[str, Any]:
    """Return the answer that the agent gets, an AG-UI `ResumeEntry`."""
    entry: dict[str, Any] = {"interruptId": approval.interrupt_id, "status": approval.status}
    if approval.payload is not None:
        entry["payload"] = approval.payload
    return entry


async def check_answers(agent: Any, store: Store, approvals: Sequence[Approval]) -> None:
    """Raise `InvalidInput` if the agent cannot act on the decisions.

    The agent's own `check_answers` decides that; an agent without this method accepts all decisions.
    """
    check = getattr(agent, "check_answers", None)
    if check is not None and approvals:
        entries = [ResumeEntry.model_validate(entry_of(approval)) for approval in approvals]
        await check(approvals[0].thread_id, entries, store)


def match_answers(
    thread_id: str, approvals: Sequence[Approval], entries: Sequence[ResumeEntry], by: str | None
) -> list[Approval]:
    """Return the open approvals of a harness run, decided by a client's answers.

    Raises `ApprovalNotFound` for an answer to anything else, `AlreadyDecided`, `ApprovalExpired`; `InterruptsOpen` if
    an open approval is not answered; `InvalidInput` for an answer that contradicts itself.
    """
    by_interrupt = {approval.interrupt_id: approval for approval in approvals}
    answers = {entry.interrupt_id: entry for entry in entries}
    for interrupt_id in answers:
        if interrupt_id not in by_interrupt:
            raise ApprovalNotFound(f"thread '{thread_id}' has no open interrupt '{interrupt_id}'")
    decided_approvals = []
    for interrupt_id, approval in by_interrupt.items():
        if approval.open:
            if interrupt_id not in answers:
                raise interrupts_open(thread_id, approvals)
            decided_approvals.append(apply_answer(approval, answers[interrupt_id], by))
        elif interrupt_id in answers:
            check_same(approval, apply_answer(as_undecided(approval), answers[interrupt_id], by))
    return decided_approvals


def interrupts_open(thread_id: str, approvals: Iterable[Approval]) -> InterruptsOpen:
    """Return the error for a run that does not answer all open interrupts of its thread."""
    names = ", ".join(f"'{approval.approval_id}'" for approval in approvals if approval.open)
    return InterruptsOpen(
        f"thread '{thread_id}' has open interrupts, and the next run must answer each of them: {names}"
    )


def note_decisions(
    record: RunRecord, decided_approvals: Sequence[Approval], owner: str, *, is_last: bool = True
) -> Intent | None:
    """Add decisions to a harness run's events; return the intent if they are the last."""
    for approval in decided_approvals:
        record.add_event(
            "approval.resolved", approval_id=approval.approval_id, decision=approval.decision, by=approval.by
        )
    if not is_last:
        return None
    across, record.owner = record.owner != owner, owner
    record.change_state("resuming")
    return record.make_intent("approval", owner, across=across)


async def withdraw_approvals(store: Store, record: RunRecord) -> list[Change]:
    """Add the withdrawal of a harness run's open approvals to its events; return the changes."""
    changes: list[Change] = []
    for approval in await find_approvals(store, record.thread_id, record.waits_for):
        if approval.open:
            changes += approval_changes(replace(approval, decision="withdrawn", decided_at=now_ms()))
            record.add_event("approval.resolved", approval_id=approval.approval_id, decision="withdrawn", by=None)
    return changes
