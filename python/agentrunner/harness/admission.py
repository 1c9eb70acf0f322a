"""Whether a run may begin, as what, and what is written when it does."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agentrunner.errors import AlreadyDecided, ApprovalNotFound, InterruptsOpen, InvalidInput, RunRefused
from agentrunner.harness.approvals import check_answers, interrupts_open, match_answers
from agentrunner.harness.types import RunRequest
from agentrunner.records import kinds
from agentrunner.records.approvals import approval_changes, find_approval, read_approval
from agentrunner.records.harness_runs import Attempt, Intent, RunRecord, find_intent, find_run
from agentrunner.records.times import now_ms

if TYPE_CHECKING:
    from ag_ui.core import RunAgentInput

    from agentrunner._core import Claim
    from agentrunner.harness.harness import Harness
    from agentrunner.harness.supervised_run import SupervisedRun as Running
    from agentrunner.harness.types import Policy
    from agentrunner.records.approvals import Approval
    from agentrunner.running.current import Run
    from agentrunner.stores import Change, Store

logger = logging.getLogger("agentrunner.harness")

ENDS_WITHIN = 5.0
"""Seconds a live process has to write how a run has ended whose thread is free."""
LOOK_EVERY = 0.005


@dataclass
class Admission:
    """A run that may begin, and what is to be written of that."""

    record: RunRecord
    intent: Intent | None = None
    approvals: list[Approval] = field(default_factory=list)
    """All those that are answered."""
    changes: list[Change] = field(default_factory=list)
    """What is to be written beside the run and its intent."""
    settled: list[RunRecord] = field(default_factory=list)
    """Runs of the thread that were left behind, ended with this."""
    new: bool = False
    known: int = 0
    """The last event of the run that was told before."""
    max_attempts: int = 1
    gives_up: RunRefused | None = None

    @property
    def news(self) -> bool:
        """Whether there is something to be written before its try begins."""
        return self.new or bool(self.changes or self.settled)

    def start(self, owner: str, run_id: str, first_seq: int, *, recovering: bool) -> None:
        """Count a try that begins now; after too many, that it does not."""
        record, intent = self.record, self.intent
        if intent is not None and intent.attempts >= self.max_attempts:
            self.gives_up = RunRefused(give_up(record, intent))
            self.changes.append(record.drop_intent())
            self.intent = None
            return
        record.owner = owner
        record.attempts = 1
        if intent is not None:
            intent.owner = owner
            intent.attempts += 1
            record.attempts = intent.attempts
            kind = "startup-recovery" if recovering else "cross-restart" if intent.across else "in-process"
            record.add_event("run.resumed", kind=kind, attempt=intent.attempts)
            self.changes += record.link_attempt(run_id)
        else:
            record.change_state("running")
        record.attempt_runs.append(Attempt(run_id, first_seq, record.seq))

    async def write(self, store: Store, claim: Claim | None) -> None:
        """Write it all at once. Raises `RecordConflict`."""
        changes = self.record.to_changes()
        if self.intent is not None:
            changes.append(self.intent.to_change())
        changes += self.changes
        for settled in self.settled:
            changes += settled.to_changes()
        versions = await store.write(changes, claim)
        self.record.version = versions[0]
        if self.intent is not None:
            self.intent.version = versions[2]


def give_up(record: RunRecord, intent: Intent) -> str:
    """Fail a run that was tried too often, and say why."""
    why = f"The run was started {intent.attempts} times and ended with its process each time: it is given up"
    record.change_state("failed", why)
    return why


async def admit(harness: Harness, running: Running, run: Run, input: RunAgentInput) -> Admission:
    """Say what a run is that holds its thread already: a new one, an answer, or the next try of one.

    Raises `RunRefused` and its kin.
    """
    store = running.store
    settled: list[RunRecord] = []
    waiting: RunRecord | None = None
    async for mark in kinds.ACTIVE_RUN.iterate(store, run.thread_id):
        record = await _at_rest(harness, store, mark.key)
        if record is None or record.ended:
            continue
        if record.state in ("waiting_for_approval", "resuming"):
            waiting = record
        else:
            # Its AG-UI run holds the thread no more.
            record.change_state(
                "failed", "The run was interrupted: its process ended, and another run began on its thread"
            )
            settled.append(record)
    admission = await _admission(harness, running, run, input, waiting)
    admission.settled = settled
    admission.max_attempts = harness.recovery.max_attempts
    return admission


async def _at_rest(harness: Harness, store: Store, run_id: str) -> RunRecord | None:
    """Give a run of a thread that it does not hold; its process, if that lives, is about to write how it has ended."""
    until = time.monotonic() + ENDS_WITHIN
    while True:
        record = await find_run(store, run_id)
        if record is None or record.state not in ("queued", "running"):
            return record
        mine = record.owner == harness.owners.me
        if not (run_id in harness.busy if mine else not await harness.owners.gone(record.owner)):
            return record
        if time.monotonic() > until:
            return record
        await asyncio.sleep(LOOK_EVERY)


async def _admission(
    harness: Harness, running: Running, run: Run, input: RunAgentInput, waiting: RunRecord | None
) -> Admission:
    store = running.store
    ticket = running.ticket
    if waiting is None:
        if ticket is not None:
            raise AlreadyDecided(f"run '{ticket.run_id}' has gone on already")
        if input.resume:
            raise await _unknown(store, run.thread_id, input.resume[0].interrupt_id)
        await _ask(harness.policy, running.agent_id, run, input, None)
        return Admission(_new(harness, running, run, input), new=True)
    found = [await find_approval(store, approval_id) for approval_id in waiting.waits_for]
    approvals = [approval for approval in found if approval is not None]
    known = waiting.seq
    intent = await find_intent(store, waiting.run_id)
    if ticket is not None:
        if intent is None or (intent.run_id, intent.version) != (ticket.run_id, ticket.version):
            raise AlreadyDecided(f"run '{ticket.run_id}' has gone on already")
        return Admission(waiting, intent, approvals, known=known)
    if not input.resume:
        if waiting.state == "resuming":
            raise InterruptsOpen(f"run '{waiting.run_id}' of the thread is about to go on")
        raise interrupts_open(approvals)
    if running.agent_id != waiting.agent:
        raise ApprovalNotFound(
            f"the thread's open interrupts are the agent '{waiting.agent}''s, not '{running.agent_id}''s"
        )
    changed = match_answers(approvals, input.resume, run.scope)
    await _ask(harness.policy, running.agent_id, run, input, waiting.run_id)
    if intent is not None:
        return Admission(waiting, intent, approvals, known=known)
    try:
        await check_answers(running.agent, store, changed)
    except InvalidInput as error:
        raise RunRefused(str(error)) from error
    intent = decide(waiting, changed, harness.owners.me)
    now = {approval.approval_id: approval for approval in changed}
    return Admission(
        waiting,
        intent,
        [now.get(approval.approval_id, approval) for approval in approvals],
        [change for approval in changed for change in approval_changes(approval)],
        known=known,
    )


def decide(record: RunRecord, changed: list[Approval], owner: str, *, last: bool = True) -> Intent | None:
    """Note decisions on the run; behind the last one it is to go on: give the intent."""
    for approval in changed:
        record.add_event(
            "approval.resolved", approval_id=approval.approval_id, decision=approval.decision, by=approval.by
        )
    if not last:
        return None
    across, record.owner = record.owner != owner, owner
    record.change_state("resuming")
    return Intent(record.run_id, record.thread_id, "approval", owner, across=across)


def _new(harness: Harness, running: Running, run: Run, input: RunAgentInput) -> RunRecord:
    now = now_ms()
    given: dict[str, Any] = {"forwardedProps": input.forwarded_props}
    for name, things in (("tools", input.tools), ("context", input.context)):
        if things:
            given[name] = [each.model_dump(mode="json", by_alias=True, exclude_none=True) for each in things]
    record = RunRecord(
        run.run_id, run.thread_id, running.agent_id, run.scope, harness.owners.me, given, now, now
    )  # fmt: skip
    record.add_event("run.created", agent=running.agent_id)
    return record


async def _unknown(store: Store, thread_id: str, interrupt_id: str) -> RunRefused:
    """Say why an answer is to nothing that is open."""
    async for record in kinds.APPROVAL.iterate(store, thread_id):
        approval = read_approval(record)
        if approval.interrupt_id == interrupt_id:
            return AlreadyDecided(f"the approval '{approval.approval_id}' has been decided, and acted upon, already")
    return ApprovalNotFound(f"the thread has no open interrupt '{interrupt_id}'")


async def _ask(policy: Policy | None, agent: str, run: Run, input: RunAgentInput, resumes: str | None) -> None:
    """Raise `RunRefused` if the policy has reasons to, or fails."""
    request = RunRequest(agent, run.thread_id, run.run_id, input, run.scope, run.headers, resumes)
    await ask_policy(policy, request)


async def ask_policy(policy: Policy | None, request: RunRequest) -> None:
    """Raise `RunRefused` if the policy has reasons to, or fails."""
    if policy is None:
        return
    try:
        answer = policy(request)
        if inspect.isawaitable(answer):
            answer = await answer
    except RunRefused:
        raise
    except Exception as error:
        logger.exception("the policy failed; run '%s' is refused", request.run_id)
        raise RunRefused(
            "the run is refused: the policy could not be asked", ("the policy could not be asked",)
        ) from error
    reasons = (answer,) if isinstance(answer, str) else tuple(answer or ())
    if reasons:
        raise RunRefused(f"the run is refused: {'; '.join(reasons)}", reasons)
