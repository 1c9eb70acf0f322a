"""Threads as another store kept them, to be put into the one under test: no run of theirs was ever live here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from agentrunner.errors import StoreError
from agentrunner.stores import StoredRun
from agentrunner.testing.writer import given, text
from agentrunner.types import ThreadSummary

if TYPE_CHECKING:
    from agentrunner.stores import Store


def summary(
    thread_id: str,
    *,
    name: str | None = None,
    agent_id: str | None = None,
    scope: str | None = None,
    updated_at: int = 1000,
) -> ThreadSummary:
    """Give a thread as a copy brings it."""
    return ThreadSummary(thread_id, name, agent_id, False, False, 0, 500, updated_at, scope)


def kept_runs(*run_ids: str, first_seq: int = 1, created_at: int = 1000) -> list[StoredRun]:
    """Give runs of five events each, one behind the other; each has a message, `m-<run id>`."""
    runs: list[StoredRun] = []
    for n, run_id in enumerate(run_ids):
        events = [
            {"type": "RUN_STARTED", "threadId": "t", "runId": run_id},
            *text(f"m-{run_id}", "word"),
            {"type": "RUN_FINISHED", "threadId": "t", "runId": run_id},
        ]
        parent = run_ids[n - 1] if n else None
        first = first_seq + 5 * n
        asked = orjson.dumps(given("t", run_id)).decode()
        runs.append(StoredRun(run_id, parent, first, first + 4, orjson.dumps(events), asked, created_at + n))
    return runs


async def put_damaged(store: Store) -> bool:
    """Put a run between two others whose events cannot be read; false where the store does not take it."""
    good, bad, last = kept_runs("r1", "r2", "r3")
    try:
        await store.put(summary("t"), [good, bad._replace(events=b"no JSON"), last])
    except StoreError:
        return False
    return True
