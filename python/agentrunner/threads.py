"""The verbs over threads."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agentrunner.errors import InvalidInput
from agentrunner.events import Folded, fold
from agentrunner.types import ANY_SCOPE, AnyScope

if TYPE_CHECKING:
    # `list` is a verb in this class.
    import builtins

    from agentrunner._core import Event
    from agentrunner.runner import AgentRunner
    from agentrunner.types import ThreadSummary

PAGE = 512 * 1024


class Threads:
    """What is kept of threads, and what is done to them: `runner.threads`."""

    def __init__(self, runner: AgentRunner) -> None:
        self._runner = runner

    async def list(
        self,
        *,
        limit: int = 100,
        before: ThreadSummary | None = None,
        include_archived: bool = False,
        agent_id: str | None = None,
        scope: str | AnyScope | None = ANY_SCOPE,
    ) -> list[ThreadSummary]:
        """Give threads with a stored run or a live one, the most recently updated first; `before`: the last one seen.

        `scope`: only those of that scope; with `None` those that have none.
        Raises `InvalidInput` for a limit outside 1 to 10,000.
        """
        if not 1 <= limit <= 10_000:
            raise InvalidInput(f"limit must be from 1 to 10000, not {limit}")
        behind = (before.updated_at, before.thread_id) if before else None
        return await (await self._runner.opened()).threads(limit, behind, include_archived, agent_id, scope)

    async def get(self, thread_id: str) -> ThreadSummary:
        """Give one thread, also one whose first run is live. Raises `ThreadNotFound`."""
        return await (await self._runner.opened()).thread(thread_id)

    async def events(self, thread_id: str) -> builtins.list[Event]:
        """Give the thread's compacted events: its stored runs, and of a live one what is durable. Unknown: none."""
        stream = await self._runner.snapshot(thread_id)
        return [event async for event in stream]

    async def folded(self, thread_id: str) -> Folded:
        """Give the messages and the state a client holds after replaying the thread."""
        events = await self.events(thread_id)
        # Off the loop: a long thread takes longer than other tasks should wait.
        return await asyncio.to_thread(fold, events)

    async def messages(self, thread_id: str) -> builtins.list[dict[str, Any]]:
        """Give the thread's messages, as a client shows them. Unknown thread: none."""
        return (await self.folded(thread_id)).messages

    async def state(self, thread_id: str) -> Any:
        """Give the thread's shared state; `{}` where nothing set one."""
        return (await self.folded(thread_id)).state

    async def rename(self, thread_id: str, name: str | None) -> None:
        """Name the thread, or with `None` take its name away. Raises `ThreadNotFound`."""
        await (await self._runner.opened()).rename(thread_id, name)

    async def archive(self, thread_id: str, archived: bool = True) -> None:
        """Mark the thread as archived, or no longer. Raises `ThreadNotFound`."""
        await (await self._runner.opened()).archive(thread_id, archived)

    async def delete(self, thread_id: str) -> None:
        """Remove the thread and all it has, for good. Raises `ThreadNotFound`, `ThreadAlreadyRunning`."""
        await (await self._runner.opened()).delete(thread_id)

    async def clear(self, *, scope: str | AnyScope | None = ANY_SCOPE) -> None:
        """Remove every thread that has no live run, for good; with `scope` only those of that scope."""
        await (await self._runner.opened()).clear(scope)
