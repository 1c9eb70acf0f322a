"""Continue a harness run: start its agent again, by an intent that was written before."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from typing import TYPE_CHECKING

from agentrunner.errors import RunRefused, ThreadAlreadyRunning
from agentrunner.harness._state import RUN_POLL_SECONDS
from agentrunner.harness.approvals import entry_of
from agentrunner.harness.supervised_run import SupervisedRun
from agentrunner.records.approvals import find_approvals
from agentrunner.records.harness_runs import find_intent

if TYPE_CHECKING:
    from agentrunner.harness._state import HarnessState
    from agentrunner.records.harness_runs import Intent, RunRecord


def spawn_resume(
    state: HarnessState, record: RunRecord, intent: Intent, *, is_recovery: bool = False
) -> asyncio.Task[SupervisedRun | None]:
    """Run `resume_run` in a task, and mark the harness run as busy until it has ended."""

    async def resume() -> SupervisedRun | None:
        with busy:
            return await resume_run(state, record, intent, is_recovery=is_recovery)

    busy = contextlib.ExitStack()
    busy.enter_context(state.mark_busy(record.run_id))
    return state.spawn(resume())


async def resume_run(
    state: HarnessState, record: RunRecord, intent: Intent, *, is_recovery: bool
) -> SupervisedRun | None:
    """Run the agent again; return the attempt, or `None` if another process was faster."""
    try:
        attempt = await _run_attempt(state, record, intent, is_recovery)
    except Exception:
        # The intent is written, so the next recovery finds it.
        state.needs_recovery = True
        raise
    if attempt is None or not attempt.has_begun:
        return None
    await attempt.done.wait()
    if isinstance(attempt.refusal, RunRefused):
        return None
    if attempt.refusal is not None:
        state.needs_recovery = True
        raise attempt.refusal
    return attempt


async def _run_attempt(
    state: HarnessState, record: RunRecord, intent: Intent, is_recovery: bool
) -> SupervisedRun | None:
    """Run the agent when the thread is free; return `None` if another process has done so."""
    store = await state.open()
    entries = [entry_of(approval) for approval in await find_approvals(store, record.waits_for)]
    while True:
        attempt = SupervisedRun(state, record.agent, intent, is_recovery=is_recovery)
        attempt.loads_history = attempt.collects_output = True
        next_input = {**record.input_extras, "threadId": record.thread_id, "runId": str(uuid.uuid4()), "messages": []}
        if entries:
            next_input["resume"] = entries
        try:
            stream = await state.runner.run(attempt, next_input, agent_id=record.agent, scope=record.scope)
        except ThreadAlreadyRunning:
            # Either the AG-UI run with the interrupts is just ending, or another process was faster.
            while await store.live(record.thread_id):  # noqa: ASYNC110 - other processes set no event
                await asyncio.sleep(RUN_POLL_SECONDS)
            current = await find_intent(store, record.run_id)
            if current is None or current.version != intent.version:
                return None
            continue
        async for _ in stream.pages():
            pass
        return attempt
