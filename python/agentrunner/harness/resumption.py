"""Continue a harness run: start its agent again, by an intent that was written before."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import uuid
from typing import TYPE_CHECKING, Any

from agentrunner.errors import (
    InvalidInput,
    RecordConflict,
    RecordDamaged,
    RunnerClosed,
    RunRefused,
    StoreError,
    ThreadAlreadyRunning,
    ThreadNotFound,
)
from agentrunner.harness._state import RUN_POLL_SECONDS
from agentrunner.harness.approvals import entry_of
from agentrunner.harness.supervised_run import SupervisedRun
from agentrunner.records.approvals import find_approvals
from agentrunner.records.harness_runs import find_intent, find_scope, read_run
from agentrunner.running.inputs import read_input

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentrunner.harness._state import HarnessState
    from agentrunner.records.approvals import Approval
    from agentrunner.records.harness_runs import Intent, RunRecord

logger = logging.getLogger("agentrunner.harness")


async def check_next_input(record: RunRecord, decided: Sequence[Approval]) -> None:
    """Raise `InvalidInput` if the runner would refuse a run with these answers."""
    try:
        # The ids were within the runner's limit when the harness run began; only the answers are new.
        await read_input(_next_input(record, decided), sys.maxsize)
    except InvalidInput as error:
        names = ", ".join(f"'{approval.approval_id}'" for approval in decided)
        raise InvalidInput(f"nothing was decided: the agent cannot be given this answer to {names}: {error}") from error


def _next_input(record: RunRecord, approvals: Sequence[Approval]) -> dict[str, Any]:
    """Return the input of the harness run's next attempt, with the answers to its interrupts."""
    next_input = {**record.input_extras, "threadId": record.thread_id, "runId": str(uuid.uuid4()), "messages": []}
    if approvals:
        next_input["resume"] = [entry_of(approval) for approval in approvals]
    return next_input


def spawn_resume(
    state: HarnessState, record: RunRecord, intent: Intent, *, is_recovery: bool = False
) -> asyncio.Task[SupervisedRun | None]:
    """Run `resume_run` in a task, and mark the harness run as busy until it has ended."""

    async def resume() -> SupervisedRun | None:
        with busy:
            return await resume_run(state, record, intent, is_recovery=is_recovery)

    busy = contextlib.ExitStack()
    busy.enter_context(state.mark_busy(record.key))
    return state.spawn(resume())


async def resume_run(
    state: HarnessState, record: RunRecord, intent: Intent, *, is_recovery: bool
) -> SupervisedRun | None:
    """Run the agent again; return the attempt, or `None` if another process was faster."""
    try:
        attempt = await _run_attempt(state, record, intent, is_recovery)
    except Exception as error:
        # The intent is written, so the next recovery finds it.
        state.request_recovery()
        await _count_failed_start(state, intent, error)
        raise
    if attempt is None or not attempt.has_begun:
        return None
    await attempt.done.wait()
    if isinstance(attempt.refusal, RunRefused):
        return None
    if attempt.refusal is not None:
        state.request_recovery()
        if attempt.record is None:
            await _count_failed_start(state, intent, attempt.refusal)
        raise attempt.refusal
    return attempt


async def _count_failed_start(state: HarnessState, read: Intent, error: Exception) -> None:
    """Count an attempt that could not begin; after too many, fail the harness run.

    Without this, a start that always fails would be tried forever, and its thread would accept no other run.
    """
    is_store_failure = isinstance(error, StoreError) and not isinstance(error, RecordDamaged)
    if is_store_failure or isinstance(error, (RunnerClosed, RecordConflict)):
        return
    try:
        store = await state.open()
        record, intent = await read_run(store, read.key), await find_intent(store, read.key)
        if record is None or record.ended or intent is None or intent.version != read.version:
            return
        published = record.seq
        # Not in `attempts`, which recovery uses to see whether the thread has a run of this intent.
        intent.failed_starts += 1
        change = intent.to_change()
        if intent.tries >= state.recovery.max_attempts:
            reason = f"The run could not be continued, although it was tried {intent.tries} times: {error}"
            record.change_state("failed", reason)
            change = record.drop_intent()
        await store.write([*record.to_changes(), change])
        state.publish(record.events_after(published))
    except RecordConflict:
        logger.info("run %s is continued by another process", read.run_id)
    except (StoreError, RunnerClosed):
        logger.exception("run %s: its failed start could not be counted", read.run_id)


async def _run_attempt(
    state: HarnessState, record: RunRecord, intent: Intent, is_recovery: bool
) -> SupervisedRun | None:
    """Run the agent when the thread is free; return `None` if another process has done so."""
    store = await state.open()
    approvals = await find_approvals(store, record.thread_id, record.waits_for)
    while True:
        attempt = SupervisedRun(state, record.agent, intent, is_recovery=is_recovery)
        attempt.loads_history = attempt.collects_output = True
        scope = await find_scope(store, record)
        try:
            stream = await state.runner.run(attempt, _next_input(record, approvals), agent_id=record.agent, scope=scope)
        except ThreadNotFound:
            if await find_scope(store, record) == scope:
                raise
            # The thread was moved a moment ago.
            continue
        except ThreadAlreadyRunning:
            # Either the AG-UI run with the interrupts is just ending, or another process was faster.
            while await store.live(record.thread_id):  # noqa: ASYNC110 - other processes set no event
                await asyncio.sleep(RUN_POLL_SECONDS)
            current = await find_intent(store, record.key)
            if current is None or current.version != intent.version:
                return None
            continue
        async for _ in stream.pages():
            pass
        return attempt
