"""A run gone on with: its agent started once more, by an intent."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING

from agentrunner.errors import RunRefused, ThreadAlreadyRunning
from agentrunner.harness.approvals import entry_of
from agentrunner.harness.cancellation import LOOK_EVERY
from agentrunner.harness.supervised_run import SupervisedRun
from agentrunner.records.approvals import find_approval
from agentrunner.records.harness_runs import find_intent

if TYPE_CHECKING:
    from agentrunner.harness.harness import Harness
    from agentrunner.records.harness_runs import Intent, RunRecord


async def resume_run(harness: Harness, record: RunRecord, intent: Intent, *, recovering: bool) -> SupervisedRun | None:
    """Run the agent once more, to its end; give what ran, or `None` if it was somebody else's to run by then."""
    try:
        segment = await _started(harness, record, intent, recovering)
    except Exception:
        # Whoever looks next finds it.
        harness.stranded = True
        raise
    if segment is None or not segment.began:
        return None
    await segment.done.wait()
    if isinstance(segment.refused, RunRefused):
        return None
    if segment.refused is not None:
        harness.stranded = True
        raise segment.refused
    return segment


async def _started(harness: Harness, record: RunRecord, intent: Intent, recovering: bool) -> SupervisedRun | None:
    """Run the agent as soon as the thread is free, unless somebody else does."""
    store = await harness.opened()
    approvals = [await find_approval(store, name) for name in record.waits_for]
    entries = [entry_of(approval) for approval in approvals if approval is not None]
    while True:
        segment = SupervisedRun(harness, record.agent, harness.originals[record.agent], intent, recovering=recovering)
        segment.loads_history = segment.collects = True
        given = {**record.input_extras, "threadId": record.thread_id, "runId": str(uuid.uuid4()), "messages": []}
        if entries:
            given["resume"] = entries
        try:
            stream = await harness.runner.run(segment, given, agent_id=record.agent, scope=record.scope)
        except ThreadAlreadyRunning:
            # The run that asked ends just now; or somebody else was faster.
            while await store.live(record.thread_id):  # noqa: ASYNC110 - of other processes no event tells
                await asyncio.sleep(LOOK_EVERY)
            now = await find_intent(store, record.run_id)
            if now is None or now.version != intent.version:
                return None
            continue
        async for _ in stream.pieces():
            pass
        return segment
