"""Recovery: continue or end the harness runs whose process is gone."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from agentrunner._codec import decode
from agentrunner.errors import AgentRunnerError, RecordConflict, RecordDamaged, RecordTooNew
from agentrunner.harness.admission import give_up
from agentrunner.harness.event_kinds import outcome_of
from agentrunner.harness.replay import find_stored_attempt
from agentrunner.harness.resumption import spawn_resume
from agentrunner.harness.types import RecoveryReport
from agentrunner.records import kinds
from agentrunner.records.harness_runs import find_intent, read_run

if TYPE_CHECKING:
    from agentrunner.harness._state import HarnessState
    from agentrunner.records.harness_runs import Intent, RunRecord, RunState
    from agentrunner.stores import Change, Record, Store

logger = logging.getLogger("agentrunner.harness")

INTERRUPTED = "The run was interrupted: its process ended"
UNREACHABLE = "The run was interrupted: the store could not be reached"


async def recover(state: HarnessState, store: Store, *, resume: bool) -> RecoveryReport:
    """Resume or end every unfinished harness run whose owner is gone.

    Without `resume`, harness runs that can be resumed are left waiting.

    Harness runs whose owner is alive, or may be, are left alone. Two processes may recover at the same time; only one
    of them recovers each harness run.
    """
    report = RecoveryReport()
    async for mark in kinds.ACTIVE_RUN.iterate(store):
        try:
            value = kinds.ACTIVE_RUN.decode(mark)
            owner = value["owner"]
            if value["state"] == "waiting_for_approval" or await state.is_handled(mark.key, owner):
                continue
            with state.mark_busy(mark.key):
                await _recover_run(state, store, mark, report, resume=resume)
        except RecordConflict:
            logger.info("run %s is recovered by another process", mark.key)
        except (RecordDamaged, RecordTooNew):
            # One unreadable record must not keep the others from being recovered.
            logger.exception("run %s cannot be read and is left alone", mark.key)
        except AgentRunnerError:
            logger.exception("run %s could not be recovered; the harness tries again", mark.key)
            state.request_recovery()
        else:
            await state.liveness.forget(owner)
    return report


async def _recover_run(
    state: HarnessState, store: Store, mark: Record, report: RecoveryReport, *, resume: bool
) -> None:
    # End its AG-UI run first: that stores the journal, from which its events and its end are read.
    await state.runner.recover(mark.thread_id)
    if await store.live(mark.thread_id):
        return
    record = await read_run(store, mark.key)
    if record is None or record.ended or record.state == "waiting_for_approval":
        return
    run_id, me = record.run_id, state.liveness.owner_id
    if record.owner != me and not await state.liveness.is_gone(record.owner):
        # Another process has taken it over since the mark was read.
        return
    # Read after the run: the two change together, so that a stale intent fails at the run's newer version.
    intent = await find_intent(store, record.key)
    published = record.seq
    end, error = await _find_end(store, record, intent)
    if end is None and record.agent not in state.agents:
        report.unknown_agents[run_id] = record.agent
        logger.warning("run %s is left alone: there is no agent '%s' here", run_id, record.agent)
        return
    if end is None and intent is None:
        if record.state == "running" and state.can_resume(record.agent):
            intent = record.make_intent("checkpoint", me, record.attempts)
        else:
            end, error = "failed", INTERRUPTED
    if end is None and record.key in state.unwritten_ends and not state.can_resume(record.agent):
        # Its agent has run here, and may have run an approved tool, which must not run again.
        end, error = "failed", UNREACHABLE
    changes: list[Change] = []
    if end is not None:
        record.change_state(end, error)
        changes = [record.drop_intent()]
        (report.completed if end == "completed" else report.failed).append(run_id)
    elif intent is not None:
        if intent.tries >= state.recovery.max_attempts:
            give_up(record, intent)
            changes = [record.drop_intent()]
            report.failed.append(run_id)
        elif not resume:
            report.waiting.append(run_id)
            return
        else:
            if record.state != "resuming":
                record.change_state("resuming")
            record.owner = intent.owner = me
            changes = [intent.to_change()]
    versions = await store.write([*record.to_changes(), *changes])
    state.unwritten_ends.discard(record.key)
    state.publish(record.events_after(published))
    if record.ended or intent is None:
        logger.warning("run %s was interrupted and has %s: %s", run_id, record.state, record.error)
        return
    intent.version = versions[2]
    report.resumed.append(run_id)
    spawn_resume(state, record, intent, is_recovery=True)


async def _find_end(store: Store, record: RunRecord, intent: Intent | None) -> tuple[RunState | None, str | None]:
    """Return how the last attempt ended, if the thread has its end, and count its deltas."""
    last = record.attempt_runs[-1] if record.attempt_runs else None
    run = await find_stored_attempt(store, record, last) if last is not None else None
    if last is None or run is None:
        return None, None
    if record.seq == last.after:
        # Count as many deltas as there can have been, so that no number that listeners have received is used again.
        record.seq += run.last_seq - run.first_seq + 1
    if intent is not None and intent.attempts == 0:
        # The last attempt is the one before the intent, which is known to have ended.
        return None, None
    event = decode(run.events)[-1]
    if event["type"] == "RUN_FINISHED":
        outcome = outcome_of(event)
        if outcome.get("type") == "interrupt":
            return "failed", INTERRUPTED
        return ("cancelled" if outcome.get("type") == "cancelled" else "completed"), None
    if event["type"] == "RUN_ERROR" and event.get("code") != "INTERRUPTED":
        return "failed", str(event.get("message"))
    return None, None
