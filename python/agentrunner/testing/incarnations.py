"""Tests for guards, and for threads that are deleted and created again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agentrunner.errors import CursorAhead, CursorError, CursorExpired, ThreadNotFound
from agentrunner.stores.types import ThreadGuard
from agentrunner.testing.base import ConformanceTests
from agentrunner.testing.checks import check, check_equal, check_raises
from agentrunner.testing.stored_threads import make_runs, make_summary
from agentrunner.testing.writer import READ_BYTES, begin, claim, read_journal, store_run
from agentrunner.types import ANY_SCOPE

if TYPE_CHECKING:
    from agentrunner.stores import Store

MEANT = "check the guard in the step that reads or changes the thread, and treat any other thread as unknown"
LATER = (
    "a thread's numbers begin after those of the deleted thread of its id, or an old cursor would be taken for its own"
)
REPLACED_THREADS = 30


class IncarnationTests(ConformanceTests):
    """A guard tells a thread from another scope's, and from a deleted one with the same id."""

    async def test_a_thread_that_is_created_again_has_another_incarnation(self, store: Store) -> None:
        """Claims, `live` and `thread` return the incarnation, which no later thread shares."""
        seen = set()
        for n in range(3):
            live = await begin(store, "t", f"r{n}")
            incarnation = live.claim.incarnation
            check(incarnation != 0 and incarnation not in seen, "0 stands for an unknown incarnation; use a new number")
            seen.add(incarnation)
            [(shown, _)] = await store.live("t")
            check_equal(shown.incarnation, incarnation, "`live` returns the claim's incarnation")
            check_equal((await store.thread("t")).incarnation, incarnation, "`thread` returns the claim's incarnation")
            await live.end()
            again, _ = await claim(store, "t", f"again{n}")
            check_equal(again.incarnation, incarnation, "the next run is in the same life of the thread")
            await store.finish(again, live.recorder, False)
            check_equal(
                (await store.threads(9, None, True, None, ANY_SCOPE))[0].incarnation, incarnation, "list it too"
            )
            await store.delete("t")
        await store.put(make_summary("t"), make_runs("p"))
        check((await store.thread("t")).incarnation not in {0, *seen}, "`put` creates a thread as well")

    async def test_methods_with_a_guard_treat_another_thread_as_unknown(self, store: Store) -> None:
        """With a guard for another scope or incarnation, a thread is as unknown."""
        await store_run(store, "t", "r1", scope="alice")
        live = await begin(store, "t", "r2", scope="alice")
        incarnation = live.claim.incarnation
        for guard in (
            ThreadGuard("bob"), ThreadGuard(None), ThreadGuard(ANY_SCOPE, incarnation + 1),
            ThreadGuard("alice", incarnation + 1), ThreadGuard("bob", incarnation),
        ):  # fmt: skip
            page = await store.journal("t", 0, None, READ_BYTES, guard=guard)
            check_equal((bytes(page.frames), page.live_token), (b"", None), MEANT)
            history = await store.history("t", (0, None), None, READ_BYTES, guard=guard)
            check_equal((bytes(history.frames), history.next), (b"", None), MEANT)
            check_equal(await store.runs("t", 0, READ_BYTES, guard=guard), [], MEANT)
            check_equal(await store.known_ids("t", ["m-r1"], guard=guard), {}, MEANT)
            check_equal(await store.request_stop("t", None, guard=guard), False, MEANT)
            check_equal((await store.locate("t", (0, None), guard=guard)).kind, "stored", MEANT)
            for cursor in ((1, None), (5, 0), (6, None)):
                await check_raises(CursorAhead, store.locate("t", cursor, guard=guard), MEANT)
            for verb in (
                store.thread("t", guard=guard), store.rename("t", "theirs", guard=guard),
                store.archive("t", True, guard=guard), store.delete("t", guard=guard),
            ):  # fmt: skip
                await check_raises(ThreadNotFound, verb, MEANT)
        check_equal(await store.stops(), [], "no run was marked")
        await live.end()
        await check_raises(ThreadNotFound, store.delete("t", guard=ThreadGuard("bob")), MEANT)
        thread = await store.thread("t")
        check_equal((thread.name, thread.archived, thread.runs), (None, False, 2), "nothing was changed")

    async def test_methods_with_the_threads_guard_work_as_without_one(self, store: Store) -> None:
        """A guard for the thread as it is changes nothing."""
        await store_run(store, "t", "r1", scope="alice")
        live = await begin(store, "t", "r2", scope="alice")
        for guard in (ThreadGuard("alice"), ThreadGuard.of(live.claim), ThreadGuard.of(live.claim, "alice")):
            page = await store.journal("t", 0, None, READ_BYTES, guard=guard)
            check_equal((len(page.frames.events()), page.live_token), (6, live.claim.token), "return the thread's")
            check_equal(len(await store.runs("t", 0, READ_BYTES, guard=guard)), 1, "return the thread's runs")
            check_equal(await store.known_ids("t", ["m-r1"], guard=guard), {"m-r1": 5}, "return the thread's ids")
            history = await store.history("t", (0, None), 6, READ_BYTES, guard=guard)
            check(len(history.frames.events()) > 1, "return the thread's history")
            check_equal((await store.locate("t", (2, None), guard=guard)).kind, "journal", "return the cursor's place")
            check_equal((await store.locate("t", (6, None), guard=guard)).kind, "live", "return the cursor's place")
            await store.rename("t", "hers", guard=guard)
            await store.archive("t", True, guard=guard)
        check_equal(await store.request_stop("t", "r2", guard=ThreadGuard("alice")), True, "mark the run")
        await live.end()
        check_equal((await store.thread("t", guard=ThreadGuard("alice"))).name, "hers", "the name was set")
        await store.delete("t", guard=ThreadGuard.of(live.claim, "alice"))
        await check_raises(ThreadNotFound, store.thread("t"), "it was deleted")

    async def test_a_cursor_of_a_deleted_thread_is_not_accepted(self, store: Store) -> None:
        """A thread that is created again begins after the numbers of the one that was deleted."""
        await store_run(store, "t", "r1")
        last_seq = (await store_run(store, "t", "r2")).recorder.last_seq
        await store.delete("t")
        for cursor in ((1, None), (5, None), (last_seq, 1)):
            await check_raises(CursorAhead, store.locate("t", cursor), "there is no such thread")
        new = await store_run(store, "t", "r1")
        check(new.claim.first_seq > last_seq, LATER)
        for cursor in ((1, None), (5, None), (last_seq, None), (last_seq, 1)):
            await check_raises(CursorExpired, store.locate("t", cursor), "the cursor is of an earlier thread")
        check_equal((await store.locate("t", (0, None))).kind, "stored", "without a cursor, a reader gets the thread")
        check_equal((await store.locate("t", (new.claim.first_seq, None))).kind, "journal", "its own cursors are good")
        await store.clear(ANY_SCOPE)
        third, _ = await claim(store, "t", "r1")
        check(third.first_seq > new.recorder.last_seq, LATER)

    async def test_frames_of_a_run_that_was_not_stored_stay_in_their_scope(self, store: Store) -> None:
        """Frames of a first run that was not stored are for its own scope and life."""
        unstored = await begin(store, "t", "r1", scope="alice")
        await unstored.end(stored=False)
        hers = ThreadGuard.of(unstored.claim, "alice")
        page = await store.journal("t", 0, None, READ_BYTES, guard=hers)
        check_equal(len(page.frames.events()), unstored.recorder.last_seq, "its readers get the rest of it")
        page = await store.journal("t", 0, None, READ_BYTES, guard=ThreadGuard("bob"))
        check_equal(bytes(page.frames), b"", MEANT)
        retried = await begin(store, "t", "r2", scope="alice")
        check_equal(retried.claim.incarnation, unstored.claim.incarnation, "a retry in the same scope continues it")
        await retried.end(stored=False)
        his = await begin(store, "t", "r3", scope="bob")
        check(his.claim.incarnation != unstored.claim.incarnation, "another scope begins another life")
        guard = ThreadGuard.of(his.claim, "bob")
        events = (await store.journal("t", 0, None, READ_BYTES, guard=guard)).frames.events()
        check_equal([event.seq for event in events], [his.claim.first_seq], "return none of the frames before it")
        seq = unstored.recorder.last_seq
        await check_raises(CursorError, store.locate("t", (seq, None), guard=guard), "the cursor is another scope's")

    async def test_run_ids_are_unique_within_a_thread_only(self, store: Store) -> None:
        """Two threads may have runs of the same id, live or stored; each has its own."""
        first, second = await begin(store, "t1", "r", scope="alice"), await begin(store, "t2", "r", scope="bob")
        check_equal([claim.run_id for claim, _ in await store.live("t2")], ["r"], "return the id unchanged")
        check_equal(await store.request_stop("t2", "r"), True, "find the run in its thread")
        check_equal(await store.stops(), [second.claim.token], "the other thread's run is not meant")
        await first.end()
        await second.end()
        await store_run(store, "t2", "next", scope="bob")
        for thread_id, run_ids in (("t1", ["r"]), ("t2", ["r", "next"])):
            runs = await store.runs(thread_id, 0, READ_BYTES)
            check_equal([run.run_id for run in runs], run_ids, "return the ids unchanged")
            check_equal([run.parent_run_id for run in runs], [None, *run_ids][: len(runs)], "a run's parent too")
            check_equal(len(await read_journal(store, thread_id, 0, 2)), 2, "each run has its own frames")
        await store.delete("t1")
        check_equal(len(await store.runs("t2", 0, READ_BYTES)), 2, "the other thread keeps its run")
        await store_run(store, "t1", "r", scope="alice")
        copies = await store.runs("t2", 0, READ_BYTES)
        await store.put(make_summary("t3"), copies)
        check_equal(
            [run.run_id for run in await store.runs("t3", 0, READ_BYTES)], ["r", "next"], "`put` takes them too"
        )

    async def test_a_guarded_call_never_meets_another_scopes_thread(self, store: Store) -> None:
        """While a thread is replaced by another scope's, a guarded call never meets the new one."""
        for n in range(REPLACED_THREADS):
            thread_id = f"t{n}"
            await store_run(store, thread_id, "r", scope="alice")
            guard = ThreadGuard.of(await store.thread(thread_id), "alice")

            async def replace(thread_id: str = thread_id) -> None:
                await store.delete(thread_id)
                await store_run(store, thread_id, "his", scope="bob")

            async def read(thread_id: str = thread_id, guard: ThreadGuard = guard) -> bytes:
                data = b""
                for _ in range(4):
                    data += bytes((await store.journal(thread_id, 0, None, READ_BYTES, guard=guard)).frames)
                    data += bytes((await store.history(thread_id, (0, None), None, READ_BYTES, guard=guard)).frames)
                return data

            async def change(thread_id: str = thread_id, guard: ThreadGuard = guard) -> None:
                for verb in (store.rename(thread_id, "hers", guard=guard), store.delete(thread_id, guard=guard)):
                    await asyncio.gather(verb, return_exceptions=True)

            data, _, *_ = await asyncio.gather(read(), replace(), read())
            check(b"his" not in data, MEANT)
            await change()
            thread = await store.thread(thread_id)
            check_equal((thread.scope, thread.name), ("bob", None), MEANT)
