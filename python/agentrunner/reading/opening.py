"""Open the streams of readers: find the thread that a reader means, and plan what to read."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agentrunner.errors import ThreadNotFound
from agentrunner.reading.plan import START, ReadingPlan
from agentrunner.reading.stream import EventStream
from agentrunner.stores.types import ThreadGuard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agentrunner.reading.compacted_cache import CompactedCache
    from agentrunner.running.live_run import LiveRun
    from agentrunner.running.table import RunTable
    from agentrunner.stores import Store
    from agentrunner.types import AnyScope, Cursor


class StreamOpener:
    """Opens streams of threads, each for the thread's incarnation when the reader joins."""

    def __init__(self, table: RunTable, cache: CompactedCache) -> None:
        self._table = table
        self._cache = cache

    async def connect(
        self,
        store: Store,
        thread_id: str,
        scope: str | AnyScope | None,
        cursor: Cursor | None,
        known: Sequence[Mapping[str, Any]] | None,
    ) -> EventStream:
        """Return a stream of a thread after a cursor, or after the messages that the reader has."""
        while True:
            async with self._table.hold(thread_id) as joined:
                guard = await find_guard(store, thread_id, scope, joined)
                live = _in_incarnation(joined, guard)
                plan = ReadingPlan(store, self._cache, thread_id, live, guard or ThreadGuard(scope))
                if cursor is not None:
                    sources = await plan.after_cursor(cursor)
                elif known:
                    sources = await plan.after_messages(known)
                else:
                    # Read the store here even for the start, so that a failing store raises here, not in the stream.
                    sources = await plan.after_cursor(START)
                if sources is not None:
                    # The thread was unknown a moment ago. Even if it exists by now, it is not the one that the reader
                    # meant.
                    return EventStream(sources if guard is not None else [], live)
            await asyncio.sleep(0)

    async def snapshot(self, store: Store, thread_id: str, scope: str | AnyScope | None) -> EventStream:
        """Return a stream of a thread as it is now."""
        async with self._table.hold(thread_id) as joined:
            guard = await find_guard(store, thread_id, scope, joined)
            if guard is None:
                return EventStream([])
            live = _in_incarnation(joined, guard)
            return EventStream(await ReadingPlan(store, self._cache, thread_id, live, guard).as_of_now())


async def find_guard(
    store: Store, thread_id: str, scope: str | AnyScope | None, live: LiveRun | None = None
) -> ThreadGuard | None:
    """Return a guard for a thread as it is now; `None` if the scope has no such thread."""
    if live is not None and live.is_known_in(scope):
        return ThreadGuard.of(live.claim, scope)
    try:
        thread = await store.thread(thread_id, guard=ThreadGuard(scope))
    except ThreadNotFound:
        return None
    return ThreadGuard.of(thread, scope)


def _in_incarnation(live: LiveRun | None, guard: ThreadGuard | None) -> LiveRun | None:
    """Return a live run unless it belongs to another incarnation of the thread."""
    return live if live is not None and guard is not None and live.guard.incarnation == guard.incarnation else None
