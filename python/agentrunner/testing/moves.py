"""Tests for `move`, which a store need not have."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING
from unittest import SkipTest

from agentrunner.errors import CursorAhead, ThreadAlreadyRunning, ThreadNotFound
from agentrunner.stores.types import Change, ThreadGuard
from agentrunner.testing.base import ConformanceTests
from agentrunner.testing.checks import check_equal, check_raises
from agentrunner.testing.writer import READ_BYTES, begin, claim, history, lines, store_run
from agentrunner.types import ANY_SCOPE

if TYPE_CHECKING:
    from agentrunner.stores import Store
    from agentrunner.types import AnyScope

LEFT = "for the scope that it has left, a thread does not exist"
KEPT = "only the scope changes; everything else in the thread stays the same"
MEANT = "check the guard in the step that moves the thread"
MOVED_THREADS = 20


def needs_move(store: Store) -> None:
    """Skip the test for a store that cannot move threads."""
    if not hasattr(store, "move"):
        raise SkipTest("only for stores that can move threads")


class MoveTests(ConformanceTests):
    """A thread can be given to another scope, with everything it has."""

    async def test_a_moved_thread_belongs_to_its_new_scope_with_everything_it_has(self, store: Store) -> None:
        """`move` changes a thread's scope and nothing else of it."""
        needs_move(store)
        writer = await store_run(store, "t", "r1", ["u1"], scope="alice", agent_id="agent")
        await store_run(store, "other", "r1", scope="alice")
        await store.rename("t", "name")
        await store.archive("t", True)
        await store.write([Change("kind", "key", "t", b"value")])
        before, events = await store.thread("t"), lines(await history(store, "t"))
        incarnation = before.incarnation
        for scope in ("bob", "bob", None, "alice", "bob"):
            await store.move("t", scope)
            after = await store.thread("t")
            check_equal(after, replace(before, scope=scope), KEPT)
            check_equal(after.incarnation, incarnation, "the thread is still in the same life, or old cursors end")
            check_equal(await _names(store, scope), {"t"} if scope != "alice" else {"t", "other"}, "list it there")
        check_equal(await _names(store, "alice"), {"other"}, LEFT)
        check_equal(await _names(store, None), set(), LEFT)
        check_equal(lines(await history(store, "t")), events, KEPT)
        check_equal([each.key for each in await store.records(None, "t", None, 9)], ["key"], "its records stay")
        check_equal((await store.locate("t", (2, None), guard=ThreadGuard("bob"))).kind, "journal", "cursors stay good")
        live, known = await claim(store, "t", "r2", ["u1", "m-r1", "new"], scope="bob")
        check_equal((known, live.first_seq), ({"u1": 5, "m-r1": 5}, writer.recorder.last_seq + 1), KEPT)
        check_equal(live.incarnation, incarnation, "the next run is in the same life of the thread")

    async def test_a_moved_thread_is_unknown_to_the_scope_it_has_left(self, store: Store) -> None:
        """Claims and guards of the scope that a thread has left do not find it."""
        needs_move(store)
        claim_before = (await store_run(store, "t", "r1", scope="alice")).claim
        await store.move("t", "bob", guard=ThreadGuard.of(claim_before, "alice"))
        await check_raises(ThreadNotFound, claim(store, "t", "r2", scope="alice"), LEFT)
        for guard in (ThreadGuard("alice"), ThreadGuard.of(claim_before, "alice")):
            check_equal(bytes((await store.journal("t", 0, None, READ_BYTES, guard=guard)).frames), b"", LEFT)
            page = await store.history("t", (0, None), None, READ_BYTES, guard=guard)
            check_equal(bytes(page.frames), b"", LEFT)
            check_equal(await store.runs("t", 0, READ_BYTES, guard=guard), [], LEFT)
            await check_raises(CursorAhead, store.locate("t", (1, None), guard=guard), LEFT)
            for verb in (
                store.thread("t", guard=guard), store.rename("t", "hers", guard=guard),
                store.delete("t", guard=guard), store.move("t", "alice", guard=guard),
            ):  # fmt: skip
                await check_raises(ThreadNotFound, verb, LEFT)
        await store.clear("alice")
        check_equal(await _names(store, "bob"), {"t"}, "clearing the old scope leaves the thread alone")
        await store.clear("bob")
        check_equal(await _names(store, ANY_SCOPE), set(), "clearing the new scope deletes it")

    async def test_move_of_a_thread_that_is_not_meant_raises_ThreadNotFound(self, store: Store) -> None:
        """`move` of an unknown thread, or of one that the guard does not name, changes nothing."""
        needs_move(store)
        await check_raises(ThreadNotFound, store.move("nowhere", "bob"), "there is no such thread")
        await store_run(store, "t", "r1", scope="alice")
        before = await store.thread("t")
        for guard in (ThreadGuard("bob"), ThreadGuard(None), ThreadGuard(ANY_SCOPE, before.incarnation + 1)):
            await check_raises(ThreadNotFound, store.move("t", "bob", guard=guard), MEANT)
        check_equal(await store.thread("t"), before, "a refused move changes nothing")
        check_equal(await _names(store, ANY_SCOPE), {"t"}, "a refused move creates nothing")

    async def test_move_of_a_running_thread_raises_ThreadAlreadyRunning(self, store: Store) -> None:
        """A thread with a live run stays where it is."""
        needs_move(store)
        live = await begin(store, "t", "r1", scope="alice")
        await check_raises(ThreadAlreadyRunning, store.move("t", "bob"), "check for a live run in the step that moves")
        check_equal((await store.thread("t")).scope, "alice", "a refused move changes nothing")
        check_equal(await _names(store, "bob"), set(), "a refused move changes no list")
        await live.end()
        await store.move("t", "bob")
        check_equal((await store.thread("t")).scope, "bob", "after the run it can be moved")

    async def test_of_a_claim_and_a_move_at_once_one_is_refused(self, store: Store) -> None:
        """A thread is moved, or a run of its old scope begins; never both."""
        needs_move(store)
        for n in range(MOVED_THREADS):
            thread_id = f"t{n}"
            await store_run(store, thread_id, "r1", scope="alice")
            calls = [claim(store, thread_id, "r2", scope="alice"), store.move(thread_id, "bob")]
            # Which call is first differs from round to round.
            outcomes = await asyncio.gather(*calls[:: 1 if n % 2 else -1], return_exceptions=True)
            claimed, moved = outcomes[:: 1 if n % 2 else -1]
            scope = (await store.thread(thread_id)).scope
            is_claimed = not isinstance(claimed, Exception)
            check_equal(isinstance(moved, ThreadAlreadyRunning), is_claimed, f"found {claimed!r} and {moved!r}")
            check_equal(isinstance(claimed, ThreadNotFound), not is_claimed, f"found {claimed!r} and {moved!r}")
            check_equal(scope, "alice" if is_claimed else "bob", "the thread is where the call that won left it")


async def _names(store: Store, scope: str | AnyScope | None) -> set[str]:
    return {thread.thread_id for thread in await store.threads(100, None, True, None, scope)}
