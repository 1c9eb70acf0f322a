"""Threads from another store, for tests that put them into the store under test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from agentrunner.errors import StoreError
from agentrunner.stores import StoredRun
from agentrunner.testing.writer import make_run_input, text
from agentrunner.types import ThreadSummary

if TYPE_CHECKING:
    from agentrunner.stores import Store


def make_summary(
    thread_id: str,
    *,
    name: str | None = None,
    agent_id: str | None = None,
    scope: str | None = None,
    updated_at: int = 1000,
) -> ThreadSummary:
    """Return the summary of a copied thread."""
    return ThreadSummary(thread_id, name, agent_id, False, False, 0, 500, updated_at, scope)


def make_runs(*run_ids: str, first_seq: int = 1, created_at: int = 1000) -> list[StoredRun]:
    """Return runs of five events, one after the other, each with one message, `m-<run id>`."""
    runs: list[StoredRun] = []
    for n, run_id in enumerate(run_ids):
        events = [
            {"type": "RUN_STARTED", "threadId": "t", "runId": run_id},
            *text(f"m-{run_id}", "word"),
            {"type": "RUN_FINISHED", "threadId": "t", "runId": run_id},
        ]
        parent = run_ids[n - 1] if n else None
        first = first_seq + 5 * n
        run_input = orjson.dumps(make_run_input("t", run_id)).decode()
        runs.append(StoredRun(run_id, parent, first, first + 4, orjson.dumps(events), run_input, created_at + n))
    return runs


async def put_damaged(store: Store) -> bool:
    """Put a run that cannot be read between two others; return whether the store takes it."""
    good, bad, last = make_runs("r1", "r2", "r3")
    try:
        await store.put(make_summary("t"), [good, bad._replace(events=b"no JSON"), last])
    except StoreError:
        return False
    return True
