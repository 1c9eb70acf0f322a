"""Runs cancelled, and conversations begun anew."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentrunner.errors import AgentRunnerError, RecordConflict, ThreadNotFound
from agentrunner.records import kinds
from agentrunner.records.approvals import approval_changes, find_approval
from agentrunner.records.harness_runs import RunRecord
from agentrunner.records.times import now_ms
from agentrunner.stores import Change

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ag_ui.core import RunAgentInput

    from agentrunner.harness.harness import Harness
    from agentrunner.stores import Store

LOOK_EVERY = 0.02
"""Seconds between looks at what somebody else does."""


async def cancel(harness: Harness, run_id: str) -> bool:
    """Cancel a run; false if it has ended. Raises `RunNotFound`."""
    while True:
        record = await harness.run_record(run_id)
        if record.ended:
            return False
        store = await harness.opened()
        live = [claim.run_id for claim, _ in await store.live(record.thread_id)]
        if not live or record.state == "waiting_for_approval":
            # Nobody is at it: what is written decides.
            if await _cancelled(harness, store, record):
                return True
        elif await _is_of(harness, record, live[0]) and await harness.runner.stop(record.thread_id, live[0]):
            return True
        await asyncio.sleep(LOOK_EVERY)


async def _is_of(harness: Harness, record: RunRecord, live: str) -> bool:
    """Say whether a live AG-UI run is the run's, or is about to be."""
    known = any(each.run_id == live for each in record.attempt_runs) or live == record.run_id
    return known or any(each.record is not None and each.record.run_id == record.run_id for each in harness.live)


async def _cancelled(harness: Harness, store: Store, record: RunRecord) -> bool:
    known = record.seq
    changes = await withdrawn(store, record)
    record.change_state("cancelled")
    try:
        await store.write([*record.to_changes(), *changes, record.drop_intent()])
    except RecordConflict:
        return False
    harness.tell([event for event in record.events if event.seq > known])
    if record.waits_for:
        await _close_interrupts(harness, record)
    return True


async def withdrawn(store: Store, record: RunRecord) -> list[Change]:
    """Give what takes back the approvals a run waits for, and note it on the run."""
    changes: list[Change] = []
    for approval_id in record.waits_for:
        approval = await find_approval(store, approval_id)
        if approval is not None and approval.open:
            changes += approval_changes(replace(approval, decision="withdrawn", decided_at=now_ms()))
            record.add_event("approval.resolved", approval_id=approval_id, decision="withdrawn", by=None)
    return changes


async def _close_interrupts(harness: Harness, record: RunRecord) -> None:
    """Tell the thread's clients that nothing is to be answered any more: they see it by a run that was cancelled."""

    async def close(given: RunAgentInput) -> AsyncIterator[dict[str, Any]]:
        ids = {"threadId": given.thread_id, "runId": given.run_id}
        yield {"type": "RUN_STARTED", **ids}
        yield {"type": "RUN_FINISHED", **ids, "outcome": {"type": "cancelled"}}

    given = {"threadId": record.thread_id, "runId": f"{record.attempt_runs[-1].run_id}~cancelled", "messages": []}
    with contextlib.suppress(AgentRunnerError):
        stream = await harness.runner.run(close, given, agent_id=record.agent, scope=record.scope)
        async for _ in stream.pieces():
            pass


async def restart(harness: Harness, thread_id: str) -> None:
    """Remove all a thread has, once its runs are cancelled. Raises `ThreadNotFound`."""
    store = await harness.opened()
    there = False
    async for record in kinds.HARNESS_RUN.iterate(store, thread_id):
        there = True
        run = RunRecord.from_record(record)
        if not run.ended:
            await harness.cancel(run.run_id)
    while (await store.live(thread_id)) or any(each.thread_id == thread_id for each in harness.live):  # noqa: ASYNC110 - of other processes no event tells
        await asyncio.sleep(LOOK_EVERY)
    try:
        await store.delete(thread_id)
    except ThreadNotFound:
        if not there:
            raise
    for kind in kinds.THREAD_KINDS:
        async for record in kind.iterate(store, thread_id):
            await store.write([kind.removal(record.key, thread_id)])
