"""Tests for the scopes of threads."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agentrunner.errors import ThreadNotFound
from agentrunner.testing.base import ConformanceTests
from agentrunner.testing.checks import check_equal, check_raises
from agentrunner.testing.writer import begin, claim, store_run
from agentrunner.types import ANY_SCOPE

if TYPE_CHECKING:
    from agentrunner.stores import Store
    from agentrunner.types import AnyScope

HIDDEN = "compare scopes before anything else, so that another's thread looks as if it were not there"


class ScopeTests(ConformanceTests):
    """A thread belongs to its scope, and for any other scope it does not exist."""

    async def test_a_claim_on_another_scopes_thread_raises_ThreadNotFound(self, store: Store) -> None:
        """A claim on another scope's thread raises `ThreadNotFound` and changes nothing.

        This is checked before everything else.
        """
        await store_run(store, "t", "r1", scope="alice")
        before = await store.thread("t")
        for other in ("bob", None, "Alice", "alice ", "alice2"):
            await check_raises(ThreadNotFound, claim(store, "t", "r2", scope=other), HIDDEN)
            await check_raises(ThreadNotFound, claim(store, "t", "r1", scope=other), HIDDEN)
        check_equal(await store.thread("t"), before, "a refused claim changes nothing")
        await store_run(store, "t", "r2", scope="alice")

    async def test_a_claim_on_another_scopes_running_thread_raises_ThreadNotFound(self, store: Store) -> None:
        """For another scope's running thread too, it is not `ThreadAlreadyRunning`."""
        for thread_id, scope in (("hers", "alice"), ("nobodys", None)):
            live = await begin(store, thread_id, f"run of {thread_id}", scope=scope)
            await check_raises(ThreadNotFound, claim(store, thread_id, "r2", scope="bob"), HIDDEN)
            check_equal(await store.live(thread_id), [(live.claim, False)], "a refused claim changes nothing")
            check_equal((await store.thread(thread_id)).scope, scope, "a thread is its scope's from its first claim on")

    async def test_of_two_scopes_that_claim_a_new_thread_one_gets_it(self, store: Store) -> None:
        """A new thread belongs to the scope that claims it first; the other does not find it."""
        for n in range(10):
            scopes = ("alice", "bob")
            claims = (claim(store, f"t{n}", f"{scope}{n}", scope=scope) for scope in scopes)
            outcomes = await asyncio.gather(*claims, return_exceptions=True)
            lost = [isinstance(outcome, ThreadNotFound) for outcome in outcomes]
            check_equal(sorted(lost), [False, True], "check the scope and take the thread in one atomic step")
            check_equal((await store.thread(f"t{n}")).scope, scopes[lost.index(False)], "the thread is the winner's")

    async def test_a_deleted_thread_is_free_for_any_scope(self, store: Store) -> None:
        """After a thread is deleted, any scope can create it again."""
        await store_run(store, "t", "r1", scope="alice")
        await store.delete("t")
        await store_run(store, "t", "r1", scope="bob")
        check_equal((await store.thread("t")).scope, "bob", "the first claim after the deletion makes the thread anew")

    async def test_threads_and_clear_take_one_scope_none_or_all(self, store: Store) -> None:
        """`threads` and `clear` take a scope, `None` for no scope, or `ANY_SCOPE` for all."""
        for thread_id, scope in (("a1", "alice"), ("a2", "alice"), ("b1", "bob"), ("n1", None)):
            await store_run(store, thread_id, f"{thread_id}-run", scope=scope)
        expected: dict[str | AnyScope | None, set[str]] = {
            "alice": {"a1", "a2"}, "bob": {"b1"}, None: {"n1"}, "nobody": set(), ANY_SCOPE: {"a1", "a2", "b1", "n1"},
        }  # fmt: skip
        for listed_scope, names in expected.items():
            check_equal(await _names(store, listed_scope), names, f"list the threads of scope {listed_scope!r} only")
        await store.clear("nobody")
        await store.clear(None)
        check_equal(
            await _names(store, ANY_SCOPE), {"a1", "a2", "b1"}, "`clear(None)` is for threads that have no scope"
        )
        await store.clear("alice")
        check_equal(await _names(store, ANY_SCOPE), {"b1"}, "clear the threads of one scope only")
        await store.clear(ANY_SCOPE)
        check_equal(await _names(store, ANY_SCOPE), set(), "`clear(ANY_SCOPE)` is for all")


async def _names(store: Store, scope: str | AnyScope | None) -> set[str]:
    return {thread.thread_id for thread in await store.threads(100, None, True, None, scope)}
