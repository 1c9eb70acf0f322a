"""The operations on a runner's threads."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agentrunner._checks import check_flag, check_optional_text, check_stored_text, check_text
from agentrunner.errors import InvalidInput
from agentrunner.events import Folded, fold
from agentrunner.running.inputs import check_scope, check_scope_filter
from agentrunner.stores.guards import move_thread
from agentrunner.stores.types import ThreadGuard
from agentrunner.types import ANY_SCOPE, AnyScope, ThreadSummary

if TYPE_CHECKING:
    # `list` is a method of this class.
    import builtins
    from collections.abc import Awaitable, Callable

    from agentrunner._core import Event
    from agentrunner.reading.stream import OpeningStream
    from agentrunner.stores import Store

MAX_LIST = 10_000
"""Greatest number of threads that one `list` returns."""


class Threads:
    """Lists, reads, renames, archives, moves and deletes a runner's threads: `runner.threads`.

    Every method may raise `StoreError`, `InvalidInput` for an argument of the wrong type, and `RunnerClosed` once the
    runner is closed.

    Example::

        for thread in await runner.threads.list(limit=20):
            print(thread.updated_at_utc, thread.name or thread.thread_id)

    """

    def __init__(
        self,
        open: Callable[[], Awaitable[Store]],
        snapshot: Callable[[str, str | AnyScope | None], OpeningStream],
        max_scope_bytes: int,
    ) -> None:
        self._open = open
        self._snapshot = snapshot
        self._max_scope_bytes = max_scope_bytes

    async def list(
        self,
        *,
        limit: int = 100,
        before: ThreadSummary | None = None,
        include_archived: bool = False,
        agent_id: str | None = None,
        scope: str | AnyScope | None = ANY_SCOPE,
    ) -> list[ThreadSummary]:
        """Return threads that have a stored run or a live one, the most recently updated first.

        Args:
            limit: Greatest number of threads to return, from 1 to 10,000.
            before: The last thread of the previous page; `None` returns the first page.
            include_archived: Whether archived threads are listed too.
            agent_id: List only threads of this agent.
            scope: List only threads of this scope; `None` lists those without one.

        Returns:
            The threads.

        Raises:
            InvalidInput: The limit is out of range, or another argument has the wrong type.

        Example::

            page = await runner.threads.list(limit=20)
            next_page = await runner.threads.list(limit=20, before=page[-1])

        """
        if not isinstance(limit, int) or not 1 <= limit <= MAX_LIST:
            raise InvalidInput(f"limit must be an integer from 1 to {MAX_LIST}, not {limit!r}")
        if not isinstance(before, ThreadSummary | None):
            raise InvalidInput(f"before must be a ThreadSummary that `list` returned, not {before!r}")
        check_flag("include_archived", include_archived)
        check_optional_text("agent_id", agent_id)
        check_scope_filter(scope)
        position = (before.updated_at, before.thread_id) if before else None
        return await (await self._open()).threads(limit, position, include_archived, agent_id, scope)

    async def get(self, thread_id: str, *, scope: str | AnyScope | None = ANY_SCOPE) -> ThreadSummary:
        """Return the summary of a thread, even while its first run is live.

        Args:
            thread_id: The thread.
            scope: The scope that the thread must belong to; by default any.

        Returns:
            The thread as `list` returns it.

        Raises:
            ThreadNotFound: The store has no such thread.

        Example::

            print((await runner.threads.get("t1")).running)

        """
        check_text("thread_id", thread_id)
        return await (await self._open()).thread(thread_id, guard=_guard(scope))

    async def events(self, thread_id: str, *, scope: str | AnyScope | None = ANY_SCOPE) -> builtins.list[Event]:
        """Return a thread's compacted events, including the durable ones of its live run.

        Args:
            thread_id: The thread. An unknown one has no events.
            scope: The scope that the thread must belong to; by default any.

        Returns:
            The events in order, the oldest first.

        Example::

            types = [event.type for event in await runner.threads.events("t1")]

        """
        return [event async for event in self._snapshot(thread_id, scope)]

    async def fold(self, thread_id: str, *, scope: str | AnyScope | None = ANY_SCOPE) -> Folded:
        """Return the messages and the state that a client holds after replaying the thread.

        Args:
            thread_id: The thread. An unknown one has no messages, and its state is `{}`.
            scope: The scope that the thread must belong to; by default any.

        Returns:
            The messages and the state.

        Example::

            folded = await runner.threads.fold("t1")
            print(folded.messages, folded.state)

        """
        events = await self.events(thread_id, scope=scope)
        # In a worker thread, because folding a long thread would block the event loop.
        return await asyncio.to_thread(fold, events)

    folded = fold
    """Older name of `fold`."""

    async def messages(
        self, thread_id: str, *, scope: str | AnyScope | None = ANY_SCOPE
    ) -> builtins.list[dict[str, Any]]:
        """Return the thread's messages as a client shows them.

        Args:
            thread_id: The thread. An unknown one has no messages.
            scope: The scope that the thread must belong to; by default any.

        Returns:
            AG-UI messages as dicts with the wire's field names.

        Example::

            print([message["content"] for message in await runner.threads.messages("t1")])

        """
        return (await self.fold(thread_id, scope=scope)).messages

    async def state(self, thread_id: str, *, scope: str | AnyScope | None = ANY_SCOPE) -> Any:
        """Return the thread's shared state.

        Args:
            thread_id: The thread.
            scope: The scope that the thread must belong to; by default any.

        Returns:
            Any JSON value; `{}` if no event has set one.

        Example::

            print(await runner.threads.state("t1"))

        """
        return (await self.fold(thread_id, scope=scope)).state

    async def rename(self, thread_id: str, name: str | None, *, scope: str | AnyScope | None = ANY_SCOPE) -> None:
        """Set the thread's name.

        Args:
            thread_id: The thread.
            name: The name; `None` removes it.
            scope: The scope that the thread must belong to; by default any.

        Raises:
            InvalidInput: The name contains NUL or is not valid text.
            ThreadNotFound: The store has no such thread.

        Example::

            await runner.threads.rename("t1", "Holiday plans")

        """
        check_text("thread_id", thread_id)
        if name is not None:
            check_stored_text("name", name)
        await (await self._open()).rename(thread_id, name, guard=_guard(scope))

    async def archive(self, thread_id: str, archived: bool = True, *, scope: str | AnyScope | None = ANY_SCOPE) -> None:
        """Mark the thread as archived, or as no longer archived.

        Args:
            thread_id: The thread.
            archived: True to archive the thread, false to bring it back.
            scope: The scope that the thread must belong to; by default any.

        Raises:
            ThreadNotFound: The store has no such thread.

        Example::

            await runner.threads.archive("t1")

        """
        check_text("thread_id", thread_id)
        check_flag("archived", archived)
        await (await self._open()).archive(thread_id, archived, guard=_guard(scope))

    async def delete(self, thread_id: str, *, scope: str | AnyScope | None = ANY_SCOPE) -> None:
        """Remove the thread and everything that belongs to it, for good.

        Args:
            thread_id: The thread.
            scope: The scope that the thread must belong to; by default any.

        Raises:
            ThreadNotFound: The store has no such thread.
            ThreadAlreadyRunning: The thread has a live run; stop it first.

        Example::

            await runner.threads.delete("t1")

        """
        check_text("thread_id", thread_id)
        await (await self._open()).delete(thread_id, guard=_guard(scope))

    async def move(self, thread_id: str, scope: str | None, *, from_scope: str | AnyScope | None = ANY_SCOPE) -> None:
        """Move the thread to another scope, for example to the account of a user who signs in.

        Everything in the thread moves with it: its runs and their cursors, its name, its harness runs, approvals and
        sessions. To the old scope the thread looks deleted, and streams of that scope end. There is no HTTP route for
        this: call it from the server, which decides who gets which thread.

        Args:
            thread_id: The thread.
            scope: The new scope; `None` for none.
            from_scope: The scope that the thread must belong to; by default any. Pass it if the thread's id comes from
                a client, which could otherwise take any user's thread.

        Raises:
            InvalidInput: The scope contains NUL, is not valid text, or is empty or too long.
            ThreadNotFound: The store has no such thread in `from_scope`.
            ThreadAlreadyRunning: The thread has a live run; stop it first, or wait until it ends.
            StoreError: The store is a custom one without the method `move`.

        Example::

            for thread in await runner.threads.list(scope="visitor-17", include_archived=True):
                await runner.threads.move(thread.thread_id, "alice", from_scope="visitor-17")

        """
        check_text("thread_id", thread_id)
        if scope is not None:
            check_scope(scope, self._max_scope_bytes)
        guard = _guard(from_scope)
        await move_thread(await self._open(), thread_id, scope, guard)

    async def clear(self, *, scope: str | AnyScope | None = ANY_SCOPE) -> None:
        """Remove every thread that has no live run, for good.

        Args:
            scope: Remove only threads of this scope; `None` removes those without one.

        Example::

            await runner.threads.clear(scope="alice")

        """
        check_scope_filter(scope)
        await (await self._open()).clear(scope)


def _guard(scope: str | AnyScope | None) -> ThreadGuard | None:
    check_scope_filter(scope)
    return None if isinstance(scope, AnyScope) else ThreadGuard(scope)
