"""Runs whose process is gone: gone on with, or ended."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from agentrunner._codec import decode
from agentrunner.errors import AgentRunnerError, RecordConflict, RecordDamaged, RecordTooNew
from agentrunner.harness.admission import give_up
from agentrunner.harness.replay import stored_segment
from agentrunner.harness.types import RecoveryReport
from agentrunner.records import kinds
from agentrunner.records.harness_runs import Intent, find_intent, find_run

if TYPE_CHECKING:
    from agentrunner.harness.harness import Harness
    from agentrunner.records.harness_runs import RunRecord, RunState
    from agentrunner.stores import Change, Store

logger = logging.getLogger("agentrunner.harness")

INTERRUPTED = "The run was interrupted: its process ended"


async def recover(harness: Harness, store: Store, *, resume: bool) -> RecoveryReport:
    """Look through what is not terminal; go on with it (unless not to `resume`), or end it.

    What the owner of is alive, or may be, is left alone. Two processes may do this at a time: each run is one's.
    """
    report = RecoveryReport()
    async for mark in kinds.ACTIVE_RUN.iterate(store):
        try:
            value = kinds.ACTIVE_RUN.decode(mark)
            owner = value["owner"]
            if value["state"] == "waiting_for_approval" or not await _left(harness, mark.key, owner):
                continue
            with harness.busy_with(mark.key):
                await _recover(harness, store, mark.key, mark.thread_id, report, resume=resume)
        except RecordConflict:
            logger.info("run %s is recovered by another process", mark.key)
        except (RecordDamaged, RecordTooNew):
            # What cannot be read costs itself, never the others.
            logger.exception("run %s is left alone", mark.key)
        except AgentRunnerError:
            logger.exception("run %s could not be recovered; it is tried again", mark.key)
            harness.stranded = True
        else:
            await harness.owners.forget(owner)
    return report


async def _left(harness: Harness, run_id: str, owner: str) -> bool:
    """Say whether nobody sees to a run: its owner is gone, or is this harness, which does nothing about it."""
    return run_id not in harness.busy if owner == harness.owners.me else await harness.owners.gone(owner)


async def _recover(
    harness: Harness,
    store: Store,
    run_id: str,
    thread_id: str,
    report: RecoveryReport,
    *,
    resume: bool,
) -> None:
    # Its AG-UI run is ended first: the journal of what it said is stored.
    await harness.runner.recover(thread_id)
    if await store.live(thread_id):
        return
    record = await find_run(store, run_id)
    if record is None or record.ended or record.state == "waiting_for_approval":
        return
    if record.owner != harness.owners.me and not await harness.owners.gone(record.owner):
        # Another process has taken it over since.
        return
    # Behind its run: the two change together, so that one who is too late meets the run's newer version.
    intent = await find_intent(store, run_id)
    known = record.seq
    state, error = await _ended(store, record, intent)
    if state is None and record.agent not in harness.agents:
        report.unknown_agents[run_id] = record.agent
        logger.warning("run %s is left alone: there is no agent '%s' here", run_id, record.agent)
        return
    if state is None and intent is None:
        if record.state == "running" and harness.can_resume(record.agent):
            intent = Intent(run_id, thread_id, "checkpoint", harness.owners.me, record.attempts)
        else:
            state, error = "failed", INTERRUPTED
    extra: list[Change] = []
    if state is None and intent is not None:
        if intent.attempts >= harness.recovery.max_attempts:
            give_up(record, intent)
            extra = [record.drop_intent()]
            report.failed.append(run_id)
        elif not resume:
            report.waiting.append(run_id)
            return
        else:
            if record.state != "resuming":
                record.change_state("resuming")
            record.owner = intent.owner = harness.owners.me
            extra = [intent.to_change()]
    elif state is not None:
        record.change_state(state, error)
        extra = [record.drop_intent()]
        (report.completed if state == "completed" else report.failed).append(run_id)
    versions = await store.write([*record.to_changes(), *extra])
    harness.tell([event for event in record.events if event.seq > known])
    if record.ended or intent is None:
        logger.warning("run %s was interrupted and has %s: %s", run_id, record.state, record.error)
        return
    intent.version = versions[2]
    report.resumed.append(run_id)
    harness.go_on(record, intent, recovering=True)


async def _ended(store: Store, record: RunRecord, intent: Intent | None) -> tuple[RunState | None, str | None]:
    """Say how the run has ended, if its process had only not come to write that down; count its deltas."""
    last = record.attempt_runs[-1] if record.attempt_runs else None
    run = await stored_segment(store, record, last) if last is not None else None
    if last is None or run is None:
        return None, None
    # As many as there can have been: what was told under those numbers is not to be told otherwise.
    if record.seq == last.after:
        record.seq += run.last_seq - run.first_seq + 1
    if intent is not None and intent.attempts == 0:
        # It is the one before that has ended.
        return None, None
    event = decode(run.events)[-1]
    if event["type"] == "RUN_FINISHED":
        outcome = event.get("outcome") or {}
        if outcome.get("type") == "interrupt":
            return "failed", INTERRUPTED
        return ("cancelled" if outcome.get("type") == "cancelled" else "completed"), None
    if event["type"] == "RUN_ERROR" and event.get("code") != "INTERRUPTED":
        return "failed", str(event.get("message"))
    return None, None
