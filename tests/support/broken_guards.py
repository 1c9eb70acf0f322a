"""Stores whose guards are broken on purpose."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from agentrunner import MemoryStore
from agentrunner.stores import ThreadGuard

if TYPE_CHECKING:
    from agentrunner.stores import HistoryPage, JournalPage


class IgnoresIncarnations(MemoryStore):
    """Checks only the scope of a guard."""

    caught_by = "test_methods_with_a_guard_treat_another_thread_as_unknown"

    async def history(self, *arguments: Any, guard: ThreadGuard | None = None) -> HistoryPage:
        return await super().history(*arguments, guard=guard and ThreadGuard(guard.scope))


class LooksBeforeItReads(MemoryStore):
    """Checks a guard in one step, and reads in the next."""

    caught_by = "test_a_guarded_call_never_meets_another_scopes_thread"

    async def journal(self, thread_id: str, *arguments: Any, guard: ThreadGuard | None = None) -> JournalPage:
        page = await super().journal(thread_id, *arguments, guard=guard)
        if not len(page.frames):
            return page
        await asyncio.sleep(0)
        return await super().journal(thread_id, *arguments)


class BeginsAgainAtOne(MemoryStore):
    """Counts the events of a thread that is created again from 1."""

    caught_by = "test_a_cursor_of_a_deleted_thread_is_not_accepted"

    async def delete(self, thread_id: str, *, guard: ThreadGuard | None = None) -> None:
        await super().delete(thread_id, guard=guard)
        self._threads._floors.clear()


class MovesRunningThreads(MemoryStore):
    """Looks for a live run in one step, and moves the thread in the next."""

    caught_by = "test_of_a_claim_and_a_move_at_once_one_is_refused"

    async def move(self, thread_id: str, scope: str | None, *, guard: ThreadGuard | None = None) -> None:
        self._threads.require(thread_id, guard)
        await asyncio.sleep(0)
        self._threads[thread_id].scope = scope


class MovesByCopying(MemoryStore):
    """Makes a new thread in the other scope."""

    caught_by = "test_a_moved_thread_belongs_to_its_new_scope_with_everything_it_has"

    async def move(self, thread_id: str, scope: str | None, *, guard: ThreadGuard | None = None) -> None:
        runs = await self.runs(thread_id, 0, 1 << 20)
        thread = await self.thread(thread_id, guard=guard)
        await self.delete(thread_id)
        await self.put(replace(thread, scope=scope), runs)


BROKEN_GUARDS: list[Any] = [
    IgnoresIncarnations, LooksBeforeItReads, BeginsAgainAtOne, MovesRunningThreads, MovesByCopying,
]  # fmt: skip
