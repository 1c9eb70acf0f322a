"""Decisions: each approval's is made once, whoever tries, and written with the intent to go on before anything runs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from agentrunner.errors import ApprovalNotFound, InvalidInput, RecordConflict
from agentrunner.harness.admission import decide
from agentrunner.harness.approvals import apply_decision, check_answers, check_same
from agentrunner.harness.routing import known
from agentrunner.records import kinds
from agentrunner.records.approvals import approval_changes, find_approval, read_approval
from agentrunner.records.harness_runs import find_intent, find_run

if TYPE_CHECKING:
    import asyncio

    from agentrunner.harness.harness import Harness
    from agentrunner.harness.supervised_run import SupervisedRun
    from agentrunner.records.approvals import Approval, Decision
    from agentrunner.records.harness_runs import Intent, RunRecord
    from agentrunner.stores import Store


class Verdict(NamedTuple):
    """What somebody decides, as `Harness.resume` takes it."""

    decision: Decision
    edited_input: Any = None
    by: str | None = None
    decision_id: str | None = None
    reason: str | None = None
    payload: Any = None

    def on(self, approval: Approval) -> Approval:
        """Give the approval decided so; one that was decided before, as if it had not been."""
        if not approval.open:
            approval = replace(approval, decision=None, expires_at=None)
        return apply_decision(
            approval, self.decision,
            edited_input=self.edited_input, reason=self.reason, payload=self.payload, by=self.by,
            decision_id=self.decision_id,
        )  # fmt: skip


async def record_decision(
    harness: Harness, verdict: Verdict, approval_id: str | None, thread_id: str | None
) -> tuple[RunRecord, asyncio.Task[SupervisedRun | None] | None]:
    """Write a decision down; give its run, and if that was the last it waited for, what goes on with it.

    Without that the run waits for others, or this was decided, and seen to, before.
    """
    store = await harness.opened()
    while True:
        targets = await _targets(store, verdict, approval_id, thread_id)
        record = await find_run(store, targets[0].run_id)
        if record is None:
            raise ApprovalNotFound(f"the run of approval '{targets[0].approval_id}' is gone")
        known(harness.originals, record.agent)
        changed = []
        for target in targets:
            now = verdict.on(target)
            if target.open:
                changed.append(now)
            else:
                check_same(target, now)
        if len(changed) > 1 and verdict.decision == "edit":
            raise InvalidInput(f"thread '{thread_id}' waits for {len(changed)} approvals: say which one is edited")
        if not changed:
            return record, None
        await check_answers(harness.originals[record.agent], store, changed)
        try:
            # Written down or not: until it is gone on with nobody here takes it for left.
            with harness.busy_with(record.run_id):
                intent = await _write(harness, store, record, changed)
                return record, harness.go_on(record, intent) if intent is not None else None
        except RecordConflict:
            continue


async def _targets(store: Store, verdict: Verdict, approval_id: str | None, thread_id: str | None) -> list[Approval]:
    """Give the approvals a decision is about, at least one."""
    if (approval_id is None) == (thread_id is None):
        raise InvalidInput("a decision is about an approval_id or a thread_id")
    if approval_id is not None:
        approval = await find_approval(store, approval_id)
        if approval is None:
            raise ApprovalNotFound(f"there is no approval '{approval_id}'")
        return [approval]
    found = [read_approval(record) async for record in kinds.APPROVAL.iterate(store, thread_id)]
    again = [each for each in found if verdict.decision_id is not None and each.decision_id == verdict.decision_id]
    # Else what is open; else what is decided and not yet acted upon to the end.
    targets = again or [each for each in found if each.open]
    if not targets:
        going_on = {run_id for run_id in {each.run_id for each in found} if await find_intent(store, run_id)}
        records = [await find_run(store, run_id) for run_id in going_on]
        names = {name for record in records if record is not None for name in record.waits_for}
        targets = [each for each in found if each.approval_id in names]
    if not targets:
        raise ApprovalNotFound(f"thread '{thread_id}' waits for no approval")
    return targets


async def _write(harness: Harness, store: Store, record: RunRecord, changed: list[Approval]) -> Intent | None:
    """Write decisions down, with the last one that the run is to go on. Raises `RecordConflict`."""
    if record.state != "waiting_for_approval":
        # It was read after the approvals were: look again.
        raise RecordConflict("run", record.run_id)
    names = {approval.approval_id for approval in changed}
    others = [await find_approval(store, name) for name in record.waits_for if name not in names]
    before = record.seq
    last = not any(other is not None and other.open for other in others)
    intent = decide(record, changed, harness.owners.me, last=last)
    changes = record.to_changes()
    if intent is not None:
        changes.append(intent.to_change())
    changes += [change for approval in changed for change in approval_changes(approval)]
    versions = await store.write(changes)
    record.version = versions[0]
    if intent is not None:
        intent.version = versions[2]
    harness.tell([event for event in record.events if event.seq > before])
    return intent
