"""Stores whose guards are broken on purpose."""

from __future__ import annotations

import asyncio
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


BROKEN_GUARDS: list[Any] = [IgnoresIncarnations, LooksBeforeItReads, BeginsAgainAtOne]
