"""Old records removed: checkpoints, and runs that have ended with all that goes with them."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from typing import TYPE_CHECKING

from agentrunner.errors import RecordConflict, RecordDamaged, RecordTooNew
from agentrunner.records import kinds
from agentrunner.records.approvals import read_approval
from agentrunner.records.harness_runs import RunRecord
from agentrunner.records.times import now_ms
from agentrunner.stores import Change

if TYPE_CHECKING:
    from agentrunner.harness.types import RecordRetention
    from agentrunner.stores import Record, Store


async def prune(store: Store, retention: RecordRetention) -> int:
    """Remove what is past its time, or beyond the number each thread keeps; give how many checkpoints and runs.

    The last checkpoint of each session stays, and nothing that a run has which has not ended.
    """
    return await _checkpoints(store, retention) + await _runs(store, retention)


async def _checkpoints(store: Store, retention: RecordRetention) -> int:
    kept: dict[str, list[tuple[Record, int | None]]] = defaultdict(list)
    removed = 0
    needed = {mark.thread_id async for mark in kinds.ACTIVE_RUN.iterate(store)}
    async for record in kinds.CHECKPOINT.iterate(store):
        # `{session}/{number}`: of a session in the order of their numbers.
        if record.thread_id not in needed:
            kept[record.key.rpartition("/")[0]].append((record._replace(value=b""), _written_at(record)))
    for records in kept.values():
        newest_first = records[::-1]
        for place, (record, at) in enumerate(newest_first):
            if place and _is_old(retention, place, at):
                removed += await _remove(
                    store, [kinds.CHECKPOINT.removal(record.key, record.thread_id, record.version)]
                )
    return removed


def _written_at(record: Record) -> int | None:
    """Give when a checkpoint was made, if it says so."""
    try:
        at = kinds.CHECKPOINT.decode(record).get("created_at")
    except (RecordDamaged, RecordTooNew):
        return None
    return at if isinstance(at, int) else None


async def _runs(store: Store, retention: RecordRetention) -> int:
    ended: dict[str, list[RunRecord]] = defaultdict(list)
    for run in await kinds.HARNESS_RUN.read_all(store, None, RunRecord.from_record):
        if run.ended:
            run.events.clear()
            ended[run.thread_id].append(run)
    removed = 0
    for thread_id, runs in ended.items():
        runs.sort(key=lambda run: run.updated_at, reverse=True)
        for place, run in enumerate(runs):
            if _is_old(retention, place, run.updated_at):
                changes = [kinds.HARNESS_RUN.removal(run.run_id, thread_id, run.version)]
                changes += [kinds.ATTEMPT.removal(each.run_id, thread_id) for each in run.attempt_runs[1:]]
                approvals = await kinds.APPROVAL.read_all(store, thread_id, read_approval)
                changes += [
                    kinds.APPROVAL.removal(each.approval_id, thread_id)
                    for each in approvals
                    if each.run_id == run.run_id
                ]
                removed += await _remove(store, changes)
    return removed


def _is_old(retention: RecordRetention, place: int, at: int | None) -> bool:
    if retention.max_count is not None and place >= retention.max_count:
        return True
    return retention.max_age is not None and at is not None and at < now_ms() - retention.max_age * 1000


async def _remove(store: Store, changes: list[Change]) -> int:
    with contextlib.suppress(RecordConflict):
        await store.write(changes)
        return 1
    return 0
