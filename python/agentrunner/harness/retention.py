"""Remove old records: checkpoints, and ended harness runs with their approvals."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from typing import TYPE_CHECKING

from agentrunner.errors import RecordConflict, RecordDamaged, RecordTooNew
from agentrunner.records import kinds
from agentrunner.records.approvals import read_approval
from agentrunner.records.harness_runs import RunRecord
from agentrunner.records.times import now_ms

if TYPE_CHECKING:
    from agentrunner.harness.types import RecordRetention
    from agentrunner.stores import Change, Record, Store


async def prune(store: Store, retention: RecordRetention) -> int:
    """Remove checkpoints and harness runs that are too old or too many; return how many.

    The last checkpoint of each session is kept, and so is everything of a harness run that has not ended.
    """
    return await _prune_checkpoints(store, retention) + await _prune_runs(store, retention)


async def _prune_checkpoints(store: Store, retention: RecordRetention) -> int:
    by_session: dict[str, list[tuple[Record, int | None]]] = defaultdict(list)
    active_threads = {mark.thread_id async for mark in kinds.ACTIVE_RUN.iterate(store)}
    async for record in kinds.CHECKPOINT.iterate(store):
        # Keys are `{session}/{number}`, so a session's checkpoints are read in the order of their numbers.
        if record.thread_id not in active_threads:
            session = record.key.rpartition("/")[0]
            by_session[session].append((record._replace(value=b""), _created_at(record)))
    removed = 0
    for records in by_session.values():
        for newer, (record, at) in enumerate(reversed(records)):
            if newer and _is_old(retention, newer, at):
                removed += await _remove(
                    store, [kinds.CHECKPOINT.removal(record.key, record.thread_id, record.version)]
                )
    return removed


def _created_at(record: Record) -> int | None:
    """Return the time of a checkpoint; `None` if it cannot be read."""
    try:
        at = kinds.CHECKPOINT.decode(record).get("created_at")
    except (RecordDamaged, RecordTooNew):
        return None
    return at if isinstance(at, int) else None


async def _prune_runs(store: Store, retention: RecordRetention) -> int:
    ended_runs: dict[str, list[RunRecord]] = defaultdict(list)
    for run in await kinds.HARNESS_RUN.read_all(store, None, RunRecord.from_record):
        if run.ended:
            # The events are not needed, and there may be many.
            run.events.clear()
            ended_runs[run.thread_id].append(run)
    removed = 0
    for thread_id, runs in ended_runs.items():
        runs.sort(key=lambda run: run.updated_at, reverse=True)
        for newer, run in enumerate(runs):
            if _is_old(retention, newer, run.updated_at):
                approvals = await kinds.APPROVAL.read_all(store, thread_id, read_approval)
                later_runs = [each.run_id for each in run.attempt_runs[1:]]
                attempts = [await kinds.ATTEMPT.find_named(store, thread_id, run_id) for run_id in later_runs]
                changes = [kinds.HARNESS_RUN.removal(run.key, thread_id, run.version)]
                changes += [kinds.ATTEMPT.removal(each.key, thread_id) for each in attempts if each is not None]
                changes += [
                    kinds.APPROVAL.removal(each.key, thread_id) for each in approvals if each.run_id == run.run_id
                ]
                removed += await _remove(store, changes)
    return removed


def _is_old(retention: RecordRetention, newer: int, at: int | None) -> bool:
    """Return whether a record, last written `at`, is too old or has too many newer ones."""
    if retention.max_count is not None and newer >= retention.max_count:
        return True
    return retention.max_age is not None and at is not None and at < now_ms() - retention.max_age * 1000


async def _remove(store: Store, changes: list[Change]) -> int:
    """Remove records in one step and return 1; return 0 and keep all if one has changed."""
    with contextlib.suppress(RecordConflict):
        await store.write(changes)
        return 1
    return 0
