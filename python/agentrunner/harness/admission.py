"""Decide whether an AG-UI run may begin, and for which harness run."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentrunner.errors import AlreadyDecided, ApprovalNotFound, InterruptsOpen, InvalidInput, RunRefused
from agentrunner.harness.approvals import (
    check_answers,
    interrupts_open,
    match_answers,
    note_decisions,
    withdraw_approvals,
)
from agentrunner.harness.policy import ask_policy
from agentrunner.harness.types import RunRequest
from agentrunner.records import kinds
from agentrunner.records.approvals import approval_changes, find_approvals, read_approval
from agentrunner.records.harness_runs import Attempt, RunRecord, find_intent, read_run
from agentrunner.records.times import now_ms
from agentrunner.running.changed_messages import SAID, comparable_parts
from agentrunner.running.client_messages import read_messages

if TYPE_CHECKING:
    from ag_ui.core import RunAgentInput

    from agentrunner.harness._state import HarnessState
    from agentrunner.records.approvals import Approval
    from agentrunner.records.harness_runs import Intent
    from agentrunner.running.current import Run
    from agentrunner.stores import Change, Store

ENDING_SECONDS = 5.0
"""Seconds that a live process gets to write a harness run's end after its thread is free."""
ENDING_POLL_SECONDS = 0.005
"""Seconds between reads of the record of such a harness run."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """An AG-UI run that holds its thread and asks to be admitted."""

    run: Run
    store: Store
    input: RunAgentInput
    agent_name: str
    agent: Any
    intent: Intent | None
    """Intent by which this harness starts it; `None` if a caller or a client does."""


@dataclass
class Admission:
    """The harness run that a candidate may begin, and the changes to write with it."""

    record: RunRecord
    intent: Intent | None = None
    approvals: list[Approval] = field(default_factory=list)
    """All approvals that the input answers."""
    changes: list[Change] = field(default_factory=list)
    """Changes to write besides the harness run and its intent."""
    abandoned: list[tuple[RunRecord, int]] = field(default_factory=list)
    """Other unfinished harness runs of the thread, which end when this one is admitted.

    Each has the number of its last event that listeners have already received.
    """
    is_new: bool = False
    """Whether the harness run starts with this admission."""
    published: int = 0
    """Number of the harness run's last event that listeners have already received."""
    max_attempts: int = 1
    refusal: RunRefused | None = None
    """Reason why the attempt does not start after all; its harness run fails."""

    @property
    def has_changes(self) -> bool:
        """Whether there is anything to write before the attempt begins."""
        return self.is_new or bool(self.changes or self.abandoned)

    def start_attempt(self, owner: str, run_id: str, first_seq: int, *, is_recovery: bool) -> None:
        """Count an attempt that begins now, or fail the harness run after too many."""
        record, intent = self.record, self.intent
        if intent is not None and intent.tries >= self.max_attempts:
            self.refusal = RunRefused(give_up(record, intent))
            self.changes.append(record.drop_intent())
            self.intent = None
            return
        record.owner = owner
        record.attempts = 1
        if intent is not None:
            intent.owner = owner
            intent.attempts += 1
            record.attempts = intent.attempts
            kind = "startup-recovery" if is_recovery else "cross-restart" if intent.across else "in-process"
            record.add_event("run.resumed", kind=kind, attempt=intent.attempts)
            self.changes += record.link_attempt(run_id)
        else:
            record.change_state("running")
        record.attempt_runs.append(Attempt(run_id, first_seq, record.seq))


def give_up(record: RunRecord, intent: Intent) -> str:
    """Fail a harness run that was tried too often, and return the reason."""
    reason = f"The run was started {intent.attempts} times and ended with its process each time: it is given up"
    if intent.failed_starts:
        reason = f"The run was tried {intent.tries} times and could not be continued: it is given up"
    record.change_state("failed", reason)
    return reason


async def admit(state: HarnessState, candidate: Candidate) -> Admission:
    """Admit a candidate as a new harness run, or as the next attempt of one.

    Raises `RunRefused` or one of its subclasses.
    """
    store, thread_id = candidate.store, candidate.run.thread_id
    abandoned: list[tuple[RunRecord, int]] = []
    waiting: RunRecord | None = None
    async for mark in kinds.ACTIVE_RUN.iterate(store, thread_id):
        record = await _read_once_written(state, store, mark.key)
        if record is None or record.ended:
            continue
        if record.state in ("waiting_for_approval", "resuming"):
            waiting = record
        else:
            # Its AG-UI run no longer holds the thread, so it is not running.
            error = "The run was interrupted: its process ended, and another run began on its thread"
            abandoned.append((record, record.seq))
            record.change_state("failed", error)
    if waiting is None:
        admission = await _admit_new(state, candidate)
    elif await _is_left_behind(candidate, waiting):
        admission = await _admit_new(state, candidate)
        abandoned.append((waiting, waiting.seq))
        admission.changes += await _withdraw(candidate.store, waiting)
    elif candidate.intent is not None:
        admission = await _admit_attempt(candidate, candidate.intent, waiting)
    else:
        admission = await _admit_answers(state, candidate, waiting)
    # The thread may have been moved while the harness run waited.
    admission.record.scope = candidate.run.scope
    admission.abandoned = abandoned
    admission.max_attempts = state.recovery.max_attempts
    return admission


async def _read_once_written(state: HarnessState, store: Store, key: str) -> RunRecord | None:
    """Return a harness run once no live process is about to write its end."""
    deadline = time.monotonic() + ENDING_SECONDS
    while True:
        record = await read_run(store, key)
        if record is None or record.state not in ("queued", "running"):
            return record
        if not await state.is_handled(key, record.owner) or time.monotonic() > deadline:
            return record
        await asyncio.sleep(ENDING_POLL_SECONDS)


async def _admit_new(state: HarnessState, candidate: Candidate) -> Admission:
    """Admit a run on a thread that has no waiting harness run."""
    run, resume = candidate.run, candidate.input.resume
    if candidate.intent is not None:
        raise _make_already_continued(candidate.intent)
    if resume:
        raise await _explain_unknown_interrupt(candidate.store, run.thread_id, resume[0].interrupt_id)
    await ask_policy(state.policy, _request(candidate, None))
    now = now_ms()
    extras: dict[str, Any] = {"forwardedProps": candidate.input.forwarded_props}
    for name, models in (("tools", candidate.input.tools), ("context", candidate.input.context)):
        if models:
            extras[name] = [model.model_dump(mode="json", by_alias=True, exclude_none=True) for model in models]
    record = RunRecord(
        run.run_id, run.thread_id, candidate.agent_name, run.scope, state.liveness.owner_id, extras, now, now
    )  # fmt: skip
    record.add_event("run.created", agent=candidate.agent_name)
    return Admission(record, is_new=True)


async def _is_left_behind(candidate: Candidate, waiting: RunRecord) -> bool:
    """Return whether the candidate starts from before the waiting run's interrupts."""
    changed = candidate.run.changed
    if changed is None or candidate.input.resume or waiting.state != "waiting_for_approval":
        return False
    approvals = await find_approvals(candidate.store, waiting.thread_id, waiting.waits_for)
    kept_calls = {call["id"] for message in changed.trusted for call in message.get("toolCalls") or ()}
    call_ids = {approval.interrupt.get("toolCallId") for approval in approvals}
    if None not in call_ids:
        return kept_calls.isdisjoint(call_ids)
    # The interrupts followed what was said last.
    thread = await read_messages(candidate.store, candidate.run.claim) if candidate.run.claim is not None else []
    last = next((message for message in reversed(thread) if message["role"] in SAID), None)
    return last is not None and comparable_parts(last) not in [
        comparable_parts(message) for message in changed.trusted if message["id"] == last["id"]
    ]


async def _withdraw(store: Store, waiting: RunRecord) -> list[Change]:
    """Cancel a waiting harness run that is left behind.

    Return the changes besides those of its record.
    """
    changes = await withdraw_approvals(store, waiting)
    reason = "The conversation went on from before the approval that the run waited for, so the approval is withdrawn"
    waiting.change_state("cancelled", reason)
    return [*changes, waiting.drop_intent()]


async def _admit_attempt(candidate: Candidate, expected: Intent, waiting: RunRecord) -> Admission:
    """Admit the next attempt of the waiting harness run, unless its intent has changed."""
    intent = await find_intent(candidate.store, waiting.key)
    if intent is None or (intent.key, intent.version) != (expected.key, expected.version):
        raise _make_already_continued(expected)
    approvals = await find_approvals(candidate.store, waiting.thread_id, waiting.waits_for)
    return Admission(waiting, intent, approvals, published=waiting.seq)


async def _admit_answers(state: HarnessState, candidate: Candidate, waiting: RunRecord) -> Admission:
    """Admit a client's run that answers the open interrupts of the waiting harness run."""
    store, run, answers = candidate.store, candidate.run, candidate.input.resume
    approvals = await find_approvals(store, waiting.thread_id, waiting.waits_for)
    published = waiting.seq
    intent = await find_intent(store, waiting.key)
    if not answers:
        if waiting.state == "resuming":
            raise InterruptsOpen(
                f"harness run '{waiting.run_id}' of thread '{run.thread_id}' is about to continue; wait until it ends"
            )
        raise interrupts_open(run.thread_id, approvals)
    if candidate.agent_name != waiting.agent:
        raise ApprovalNotFound(
            f"the open interrupts of thread '{run.thread_id}' belong to the agent '{waiting.agent}', "
            f"not to '{candidate.agent_name}'"
        )
    try:
        decided_approvals = match_answers(run.thread_id, approvals, answers, run.scope)
    except InvalidInput as error:
        raise RunRefused(str(error)) from error
    await ask_policy(state.policy, _request(candidate, waiting.run_id))
    if intent is not None:
        return Admission(waiting, intent, approvals, published=published)
    try:
        await check_answers(candidate.agent, store, decided_approvals)
    except InvalidInput as error:
        raise RunRefused(str(error)) from error
    intent = note_decisions(waiting, decided_approvals, state.liveness.owner_id)
    by_id = {approval.approval_id: approval for approval in decided_approvals}
    return Admission(
        waiting,
        intent,
        [by_id.get(approval.approval_id, approval) for approval in approvals],
        [change for approval in decided_approvals for change in approval_changes(approval)],
        published=published,
    )


def _request(candidate: Candidate, resumes: str | None) -> RunRequest:
    run = candidate.run
    return RunRequest(
        candidate.agent_name, run.thread_id, run.run_id, candidate.input, run.scope, run.headers, resumes
    )  # fmt: skip


def _make_already_continued(intent: Intent) -> AlreadyDecided:
    return AlreadyDecided(
        f"harness run '{intent.run_id}' of thread '{intent.thread_id}' has already been continued by another attempt"
    )


async def _explain_unknown_interrupt(store: Store, thread_id: str, interrupt_id: str) -> RunRefused:
    """Return the error for an answer to an interrupt that is not open."""
    async for record in kinds.APPROVAL.iterate(store, thread_id):
        approval = read_approval(record)
        if approval.interrupt_id == interrupt_id:
            end = "has been decided already, and the decision was carried out"
            if approval.decision == "withdrawn":
                end = "was withdrawn: its run has ended, or the conversation went on from before it"
            return AlreadyDecided(f"the approval '{approval.approval_id}' {end}")
    return ApprovalNotFound(f"thread '{thread_id}' has no open interrupt '{interrupt_id}'")
