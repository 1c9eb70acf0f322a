"""Record the decision of each approval once, and continue the harness run by its intent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from agentrunner.errors import ApprovalNotFound, InvalidInput, RecordConflict
from agentrunner.harness.approvals import apply_decision, as_undecided, check_answers, check_same, note_decisions
from agentrunner.harness.results import attempt_result, run_result, wait_for_run
from agentrunner.harness.resumption import check_next_input, spawn_resume
from agentrunner.harness.routing import check_agent
from agentrunner.records import kinds
from agentrunner.records.approvals import approval_changes, find_approvals, load_approval, read_approval
from agentrunner.records.harness_runs import find_intent, find_run
from agentrunner.records.scopes import iterate_in_scope
from agentrunner.running.waits import check_thread
from agentrunner.types import ANY_SCOPE

if TYPE_CHECKING:
    from agentrunner.harness._state import HarnessState
    from agentrunner.harness.supervised_run import SupervisedRun
    from agentrunner.harness.types import RunResult
    from agentrunner.records.approvals import Approval, Decision
    from agentrunner.records.harness_runs import Intent, RunRecord
    from agentrunner.stores import Store
    from agentrunner.types import AnyScope


class DecisionRequest(NamedTuple):
    """A person's decision, with the arguments of `Harness.decide` and `Harness.resume`."""

    decision: Decision
    edited_input: Any = None
    by: str | None = None
    decision_id: str | None = None
    reason: str | None = None
    payload: Any = None

    def apply(self, approval: Approval) -> Approval:
        """Return the approval with this decision, even if it was decided before."""
        return apply_decision(
            approval if approval.open else as_undecided(approval), self.decision,
            edited_input=self.edited_input, reason=self.reason, payload=self.payload, by=self.by,
            decision_id=self.decision_id,
        )  # fmt: skip


async def decide(
    state: HarnessState,
    request: DecisionRequest,
    approval_id: str | None,
    thread_id: str | None,
    scope: str | AnyScope | None,
) -> RunResult:
    """Record a decision; after the last one continue the harness run; return its result."""
    record, resuming = await record_decision(state, request, approval_id, thread_id, scope)
    # Shielded: the harness run continues even if the caller is cancelled.
    if resuming is not None and (attempt := await asyncio.shield(resuming)) is not None:
        return await attempt_result(state, attempt)
    if record.state == "waiting_for_approval":
        return await run_result(state.store, record)
    # Another process continues the harness run, so wait for it here.
    return await wait_for_run(state, record.run_id, record.thread_id)


async def record_decision(
    state: HarnessState,
    request: DecisionRequest,
    approval_id: str | None,
    thread_id: str | None,
    scope: str | AnyScope | None = ANY_SCOPE,
) -> tuple[RunRecord, asyncio.Task[SupervisedRun | None] | None]:
    """Write a decision; return the harness run and the task that continues it, if any.

    The task starts after the last decision. There is none if the harness run waits for other approvals, or if the same
    decision was recorded before.
    """
    store = await state.open()
    while True:
        targets = await _find_targets(store, request, approval_id, thread_id, scope)
        record = await find_run(store, targets[0].thread_id, targets[0].run_id)
        if record is None:
            raise ApprovalNotFound(
                f"harness run '{targets[0].run_id}' of approval '{targets[0].approval_id}' no longer exists"
            )
        check_agent(state.agents, record.agent)
        decided_approvals = []
        for target in targets:
            approval = request.apply(target)
            if target.open:
                decided_approvals.append(approval)
            else:
                check_same(target, approval)
        if len(decided_approvals) > 1 and request.decision == "edit":
            raise InvalidInput(
                f"thread '{thread_id}' waits for {len(decided_approvals)} approvals, but edit is for one of them: "
                "pass its approval_id"
            )
        if not decided_approvals:
            return record, None
        # Checked before the write: the harness run could not continue while its thread's run waits for this call, nor
        # with an answer that the runner refuses.
        await check_thread(store, record.thread_id, record.run_id)
        await check_next_input(record, decided_approvals)
        await check_answers(state.agents[record.agent], store, decided_approvals)
        try:
            # Recovery must not treat the harness run as abandoned between the write and the start of the task.
            with state.mark_busy(record.key):
                intent = await _write(state, store, record, decided_approvals)
                return record, spawn_resume(state, record, intent) if intent is not None else None
        except RecordConflict:
            continue


async def _find_targets(
    store: Store,
    request: DecisionRequest,
    approval_id: str | None,
    thread_id: str | None,
    scope: str | AnyScope | None,
) -> list[Approval]:
    """Return the approvals that a decision is about, at least one.

    Raises `ApprovalNotFound`, `AmbiguousId`, `InvalidInput`.
    """
    if approval_id is not None:
        return [await load_approval(store, approval_id, thread_id, scope)]
    if thread_id is None:
        raise InvalidInput("a decision is for one approval or for all of a thread: pass approval_id or thread_id")
    records = iterate_in_scope(kinds.APPROVAL, store, thread_id, scope)
    approvals = [read_approval(record) async for record in records]
    repeated = [
        each for each in approvals if request.decision_id is not None and each.decision_id == request.decision_id
    ]
    targets = repeated or [each for each in approvals if each.open]
    if not targets:
        # No approval is open: a caller may repeat the same decision while the harness run continues.
        run_ids = {each.run_id for each in approvals}
        runs = [await find_run(store, thread_id, run_id) for run_id in run_ids]
        continuing_runs = [run for run in runs if run is not None and await find_intent(store, run.key)]
        decided_ids = {name for run in continuing_runs for name in run.waits_for}
        targets = [each for each in approvals if each.approval_id in decided_ids]
    if not targets:
        raise ApprovalNotFound(f"thread '{thread_id}' is not waiting for an approval")
    return targets


async def _write(
    state: HarnessState, store: Store, record: RunRecord, decided_approvals: list[Approval]
) -> Intent | None:
    """Write decisions, and with the last one the intent to continue. Raises `RecordConflict`."""
    if record.state != "waiting_for_approval":
        # The record is newer than the approvals that were read before it: read both again.
        raise RecordConflict(kinds.HARNESS_RUN.name, record.key)
    decided_ids = {approval.approval_id for approval in decided_approvals}
    other_ids = [name for name in record.waits_for if name not in decided_ids]
    others = await find_approvals(store, record.thread_id, other_ids)
    published = record.seq
    is_last = not any(other.open for other in others)
    intent = note_decisions(record, decided_approvals, state.liveness.owner_id, is_last=is_last)
    changes = record.to_changes()
    if intent is not None:
        changes.append(intent.to_change())
    changes += [change for approval in decided_approvals for change in approval_changes(approval)]
    versions = await store.write(changes)
    record.version = versions[0]
    if intent is not None:
        intent.version = versions[2]
    state.publish(record.events_after(published))
    return intent
