"""Whose a thread is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agentrunner.errors import ThreadNotFound
from agentrunner.testing.base import Chapter
from agentrunner.testing.checks import equal, refused
from agentrunner.testing.writer import begin, claim, whole
from agentrunner.types import ANY_SCOPE

if TYPE_CHECKING:
    from agentrunner.stores import Store
    from agentrunner.types import AnyScope

HIDDEN = "compare scopes before anything else, so that another's thread looks as if it were not there"


class Scopes(Chapter):
    """A thread belongs to the scope it was made in, and for any other it is not there."""

    async def test_another_scopes_thread_is_not_found(self, store: Store) -> None:
        """A thread of another scope raises `ThreadNotFound`, before anything else is told, changing nothing."""
        await whole(store, "t", "r1", scope="alice")
        before = await store.thread("t")
        for other in ("bob", None, "Alice", "alice ", "alice2"):
            await refused(ThreadNotFound, claim(store, "t", "r2", scope=other), HIDDEN)
            await refused(ThreadNotFound, claim(store, "t", "r1", scope=other), HIDDEN)
        equal(await store.thread("t"), before, "a refused claim changes nothing")
        await whole(store, "t", "r2", scope="alice")

    async def test_another_scopes_live_thread_is_not_found(self, store: Store) -> None:
        """A live thread of another scope raises `ThreadNotFound` too, not `ThreadAlreadyRunning`."""
        for thread_id, scope in (("hers", "alice"), ("nobodys", None)):
            live = await begin(store, thread_id, f"run of {thread_id}", scope=scope)
            await refused(ThreadNotFound, claim(store, thread_id, "r2", scope="bob"), HIDDEN)
            equal(await store.live(thread_id), [(live.claim, False)], "a refused claim changes nothing")
            equal((await store.thread(thread_id)).scope, scope, "a thread is its scope's from its first claim on")

    async def test_of_two_scopes_at_once_one_wins(self, store: Store) -> None:
        """A new thread is the scope's whose claim came first; the other does not find it."""
        for n in range(10):
            scopes = ("alice", "bob")
            claims = (claim(store, f"t{n}", f"{scope}{n}", scope=scope) for scope in scopes)
            outcomes = await asyncio.gather(*claims, return_exceptions=True)
            lost = [isinstance(outcome, ThreadNotFound) for outcome in outcomes]
            equal(sorted(lost), [False, True], "check the scope and take the thread in one atomic step")
            equal((await store.thread(f"t{n}")).scope, scopes[lost.index(False)], "the thread is the winner's")

    async def test_a_deleted_thread_is_free_for_another_scope(self, store: Store) -> None:
        """What is deleted holds no scope."""
        await whole(store, "t", "r1", scope="alice")
        await store.delete("t")
        await whole(store, "t", "r1", scope="bob")
        equal((await store.thread("t")).scope, "bob", "the first claim after the deletion makes the thread anew")

    async def test_lists_and_clears_by_scope(self, store: Store) -> None:
        """`threads` and `clear` take one scope: a name, `None` for threads without any, `ANY_SCOPE` for all."""
        for thread_id, scope in (("a1", "alice"), ("a2", "alice"), ("b1", "bob"), ("n1", None)):
            await whole(store, thread_id, f"{thread_id}-run", scope=scope)
        expected: dict[str | AnyScope | None, set[str]] = {
            "alice": {"a1", "a2"}, "bob": {"b1"}, None: {"n1"}, "nobody": set(), ANY_SCOPE: {"a1", "a2", "b1", "n1"},
        }  # fmt: skip
        for asked, names in expected.items():
            equal(await _names(store, asked), names, f"list the threads of scope {asked!r} only")
        await store.clear("nobody")
        await store.clear(None)
        equal(await _names(store, ANY_SCOPE), {"a1", "a2", "b1"}, "`clear(None)` is for threads that have no scope")
        await store.clear("alice")
        equal(await _names(store, ANY_SCOPE), {"b1"}, "clear the threads of one scope only")
        await store.clear(ANY_SCOPE)
        equal(await _names(store, ANY_SCOPE), set(), "`clear(ANY_SCOPE)` is for all")


async def _names(store: Store, scope: str | AnyScope | None) -> set[str]:
    return {thread.thread_id for thread in await store.threads(100, None, True, None, scope)}
