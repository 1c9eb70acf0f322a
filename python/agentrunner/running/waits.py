"""Refuse runs that would wait for their own end."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from agentrunner.errors import CircularWait
from agentrunner.running.current import live_lineage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agentrunner.stores import Store


async def check_thread(store: Store, thread_id: str, run_id: str) -> None:
    """Raise `CircularWait` if the calling code belongs to the live run of a thread.

    `run_id` is the run that would wait for it.
    """
    own_run_ids = {mark.run_id for mark in live_lineage() if mark.thread_id == thread_id}
    # Ask the store, because a thread of another store may have the same id.
    if own_run_ids and (live := {claim.run_id for claim, _ in await store.live(thread_id)} & own_run_ids):
        raise CircularWait(
            f"run '{run_id}' would wait for run '{min(live)}' of thread '{thread_id}', which started it: start it on "
            "another thread, or after that run, in a task with a `contextvars.Context()` of its own"
        )


class ThreadWaits:
    """The threads that runs of this process wait for, with the threads of their parents."""

    def __init__(self) -> None:
        self._edges: list[tuple[frozenset[str], str]] = []

    @contextlib.contextmanager
    def wait(self, thread_id: str, run_id: str) -> Iterator[None]:
        """Note, until the context ends, that a run waits for a thread.

        Raises `CircularWait` if that thread's run waits for a run that the calling code belongs to.
        """
        own_threads = frozenset(mark.thread_id for mark in live_lineage())
        if not own_threads:
            yield
            return
        if circle := self._find_ends(thread_id) & own_threads - {thread_id}:
            raise CircularWait(
                f"run '{run_id}' would wait for thread '{thread_id}', whose run waits for thread '{min(circle)}', "
                "whose run started this one; let one of them end first"
            )
        edge = (own_threads, thread_id)
        self._edges.append(edge)
        try:
            yield
        finally:
            self._edges.remove(edge)

    def _find_ends(self, thread_id: str) -> set[str]:
        """Return the threads that a thread's run waits for, directly or indirectly."""
        reached = {thread_id}
        for _ in self._edges:
            further = {target for owners, target in self._edges if owners & reached} - reached
            if not further:
                break
            reached |= further
        return reached
