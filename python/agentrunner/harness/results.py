"""Results of harness runs: of an attempt that ran here, of a record, of any run."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from agentrunner.harness._state import RUN_POLL_SECONDS
from agentrunner.harness.replay import read_text
from agentrunner.harness.types import RunResult
from agentrunner.records.approvals import find_approvals
from agentrunner.records.harness_runs import RunRecord, load_run
from agentrunner.records.times import now_ms
from agentrunner.running.agent_task import STOP_GRACE_SECONDS
from agentrunner.running.waits import check_thread
from agentrunner.types import ANY_SCOPE

if TYPE_CHECKING:
    from agentrunner.harness._state import HarnessState
    from agentrunner.harness.supervised_run import SupervisedRun
    from agentrunner.stores import Store
    from agentrunner.types import AnyScope

GRACE_SLICES = 10
"""Number of waits that an attempt's grace consists of."""


async def attempt_result(state: HarnessState, attempt: SupervisedRun, scope: str | None = None) -> RunResult:
    """Return the result of an attempt whose stream has ended, or raise its refusal."""
    if attempt.has_begun and not await _wait_within_grace(attempt.done):
        await attempt.give_up()
    if attempt.refusal is not None:
        raise attempt.refusal
    record = attempt.record
    if record is None:
        # The run was stopped before its agent's task started.
        now = now_ms()
        record = RunRecord(
            attempt.run_id, attempt.thread_id, attempt.agent_id, scope, state.liveness.owner_id, {}, now, now
        )  # fmt: skip
        record.add_event("run.created", agent=record.agent)
        record.change_state("cancelled")
        await state.store.write(record.to_changes())
        state.publish(record.events)
    return await run_result(state.store, record, attempt.text())


async def _wait_within_grace(done: asyncio.Event) -> bool:
    """Wait until an attempt is done, or its grace is over; return whether it is done."""
    # Wait in slices, so that a blocked event loop uses up only one: an attempt must get time to run.
    for _ in range(GRACE_SLICES):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_GRACE_SECONDS / GRACE_SLICES):
                await done.wait()
        if done.is_set():
            return True
    return False


async def run_result(store: Store, record: RunRecord, content: str | None = None) -> RunResult:
    """Return the result of a harness run; `content` is its text, if the caller has it."""
    approvals = await find_approvals(store, record.thread_id, record.waits_for)
    if content is None:
        content = await read_text(store, record)
    return RunResult(
        record.run_id, record.thread_id, record.agent, record.state, content, record.error,
        tuple(approval for approval in approvals if approval.open),
    )  # fmt: skip


async def wait_for_run(
    state: HarnessState, run_id: str, thread_id: str | None = None, scope: str | AnyScope | None = ANY_SCOPE
) -> RunResult:
    """Wait until a harness run has ended or waits for an approval, in any process.

    Raises `RunNotFound`, `AmbiguousId`, and `CircularWait` if the calling code belongs to the run.
    """
    store = await state.open()
    thread_id = (await load_run(store, run_id, thread_id, scope)).thread_id
    await check_thread(store, thread_id, run_id)
    while True:
        record = await load_run(store, run_id, thread_id, scope)
        if record.state not in ("queued", "running", "resuming") and not await _is_last_attempt_live(store, record):
            return await run_result(store, record)
        for attempt in state.live_attempts:
            if attempt.record is not None and attempt.record.key == record.key:
                await attempt.done.wait()
                break
        else:
            await asyncio.sleep(RUN_POLL_SECONDS)


async def _is_last_attempt_live(store: Store, record: RunRecord) -> bool:
    """Return whether the last attempt's events are still being stored."""
    last = record.attempt_runs[-1].run_id if record.attempt_runs else record.run_id
    return any(claim.run_id == last for claim, _ in await store.live(record.thread_id))
