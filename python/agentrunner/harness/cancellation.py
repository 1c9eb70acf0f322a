"""Cancel harness runs, and remove conversations."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

from agentrunner.errors import AgentRunnerError, RecordConflict, ThreadNotFound
from agentrunner.harness._state import RUN_POLL_SECONDS
from agentrunner.harness.approvals import withdraw_approvals
from agentrunner.records import kinds
from agentrunner.records.harness_runs import RunRecord, find_scope, load_run, read_scope
from agentrunner.records.scopes import iterate_in_scope
from agentrunner.stores.types import ThreadGuard
from agentrunner.types import ANY_SCOPE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ag_ui.core import RunAgentInput

    from agentrunner.harness._state import HarnessState
    from agentrunner.stores import Store
    from agentrunner.types import AnyScope


async def cancel(
    state: HarnessState, run_id: str, thread_id: str | None = None, scope: str | AnyScope | None = ANY_SCOPE
) -> bool:
    """Cancel a harness run; return false if it has ended. Raises `RunNotFound`, `AmbiguousId`."""
    store = await state.open()
    while True:
        record = await load_run(store, run_id, thread_id, scope)
        if record.ended:
            return False
        live = [claim.run_id for claim, _ in await store.live(record.thread_id)]
        if not live or record.state == "waiting_for_approval":
            # No process runs its agent, so writing the record is all that is needed.
            if await _write_cancelled(state, store, record):
                return True
        elif _is_attempt_of(state, record, live[0]) and await state.runner.stop(record.thread_id, live[0], scope=scope):
            return True
        await asyncio.sleep(RUN_POLL_SECONDS)


def _is_attempt_of(state: HarnessState, record: RunRecord, live_run_id: str) -> bool:
    """Return whether a live AG-UI run is, or is about to be, an attempt of the run."""
    if live_run_id == record.run_id or any(each.run_id == live_run_id for each in record.attempt_runs):
        return True
    return any(attempt.record is not None and attempt.record.key == record.key for attempt in state.live_attempts)


async def _write_cancelled(state: HarnessState, store: Store, record: RunRecord) -> bool:
    published = record.seq
    changes = await withdraw_approvals(store, record)
    record.change_state("cancelled")
    try:
        await store.write([*record.to_changes(), *changes, record.drop_intent()])
    except RecordConflict:
        return False
    state.publish(record.events_after(published))
    if record.waits_for:
        await _close_interrupts(state, store, record)
    return True


async def _close_interrupts(state: HarnessState, store: Store, record: RunRecord) -> None:
    """Add a cancelled run to the thread, which closes the interrupts for AG-UI clients."""

    async def end_at_once(input: RunAgentInput) -> AsyncIterator[dict[str, Any]]:
        ids = {"threadId": input.thread_id, "runId": input.run_id}
        yield {"type": "RUN_STARTED", **ids}
        yield {"type": "RUN_FINISHED", **ids, "outcome": {"type": "cancelled"}}

    run_id = f"{record.attempt_runs[-1].run_id}~cancelled"
    end = {"threadId": record.thread_id, "runId": run_id, "messages": []}
    with contextlib.suppress(AgentRunnerError):
        scope = await find_scope(store, record)
        stream = await state.runner.run(end_at_once, end, agent_id=record.agent, scope=scope)
        async for _ in stream.pages():
            pass


async def restart(state: HarnessState, thread_id: str, scope: str | AnyScope | None) -> None:
    """Cancel a thread's harness runs and remove the thread with all its records.

    Raises `ThreadNotFound`.
    """
    store = await state.open()
    has_runs = False
    async for record in iterate_in_scope(kinds.HARNESS_RUN, store, thread_id, scope, read_scope):
        has_runs = True
        run = RunRecord.from_record(record)
        if not run.ended:
            await cancel(state, run.run_id, thread_id, scope)
    if not has_runs:
        # Before waiting for the thread: it may be one of another scope.
        await store.thread(thread_id, guard=ThreadGuard(scope))
    while (await store.live(thread_id)) or any(each.thread_id == thread_id for each in state.live_attempts):  # noqa: ASYNC110 - other processes set no event
        await asyncio.sleep(RUN_POLL_SECONDS)
    try:
        await store.delete(thread_id, guard=ThreadGuard(scope))
    except ThreadNotFound:
        if not has_runs or await _exists(store, thread_id):
            raise
        for kind in kinds.THREAD_KINDS:
            async for record in kind.iterate(store, thread_id):
                await store.write([kind.removal(record.key, thread_id)])


async def _exists(store: Store, thread_id: str) -> bool:
    """Return whether there is a thread of this id, in whichever scope."""
    with contextlib.suppress(ThreadNotFound):
        await store.thread(thread_id)
        return True
    return False
