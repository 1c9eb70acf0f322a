"""Tests for `prune`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrunner.errors import ThreadNotFound
from agentrunner.testing.base import ConformanceTests
from agentrunner.testing.checks import check, check_equal, check_raises
from agentrunner.testing.stored_threads import make_runs, make_summary
from agentrunner.testing.writer import READ_BYTES, begin, claim, history, read_journal, store_run

if TYPE_CHECKING:
    from agentrunner.stores import Store

OLDEST = "only ever remove a thread's oldest runs, so that what is left is a whole chain"


class PruneTests(ConformanceTests):
    """`prune` deletes a thread's oldest runs and leaves a complete chain."""

    async def test_prune_keeps_the_newest_max_runs_of_each_thread(self, store: Store) -> None:
        """With `max_runs`, `prune` keeps this many of each thread's newest runs.

        The first of them then has no parent.
        """
        for n in range(5):
            await store_run(store, "t", f"r{n}")
        await store_run(store, "short", "r9")
        before = await store.runs("t", 15, READ_BYTES)
        check_equal(await store.prune(2, None, 100), 3, "return how many runs were removed")
        left = await store.runs("t", 0, READ_BYTES)
        check_equal([run.run_id for run in left], ["r3", "r4"], "the newest stay")
        check_equal(
            [run.parent_run_id for run in left], [None, "r3"], "the first that is left has no parent, the others have"
        )
        as_before = [run._replace(parent_run_id=was.parent_run_id) for run, was in zip(left, before, strict=True)]
        check_equal(as_before, before, "what is left is as it was, its sequence numbers too")
        events = await history(store, "t")
        check_equal(
            [event.to_dict()["runId"] for event in events if event.type == "RUN_STARTED"], ["r3", "r4"], "and is read"
        )
        check_equal((await store.thread("t")).runs, 2, "the thread counts what it has")
        check_equal((await store.thread("short")).runs, 1, "a thread within the bound keeps all it has")
        check_equal(await store.prune(2, None, 100), 0, "there is nothing more to remove")

    async def test_prune_removes_runs_that_ended_before_a_time(self, store: Store) -> None:
        """With `before`, `prune` removes the runs that ended before this time.

        It never removes one that follows a run which stays.
        """
        await store.put(make_summary("t"), make_runs("r0", "r1", "r2", "r3", created_at=1000))
        early, late, early_again = make_runs("x0", "x1", "x2")
        odd = [early._replace(created_at=900), late._replace(created_at=5000), early_again._replace(created_at=900)]
        await store.put(make_summary("odd"), odd)
        check_equal(await store.prune(None, 900, 100), 0, "a run that ended at that moment stays")
        check_equal(await store.prune(None, 1002, 100), 3, "r0, r1 and x0 ended before 1002")
        check_equal([run.run_id for run in await store.runs("t", 0, READ_BYTES)], ["r2", "r3"], OLDEST)
        check_equal([run.run_id for run in await store.runs("odd", 0, READ_BYTES)], ["x1", "x2"], OLDEST)

    async def test_prune_removes_a_run_for_either_reason(self, store: Store) -> None:
        """`prune` removes a run for `max_runs` or for `before`; with neither, it removes none."""
        await store.put(make_summary("t"), make_runs("r0", "r1", "r2", "r3", created_at=1000))
        check_equal(await store.prune(None, None, 100), 0, "no reason, no removal")
        check_equal(await store.prune(3, 1002, 100), 2, "r0 and r1 ended before 1002, though three runs may stay")
        check_equal(await store.prune(1, 0, 100), 1, "r2 is beyond one run, though it is not old")
        check_equal([run.run_id for run in await store.runs("t", 0, READ_BYTES)], ["r3"], OLDEST)

    async def test_prune_removes_at_most_limit_runs_per_call(self, store: Store) -> None:
        """One call removes at most `limit` runs, oldest first; repeated calls remove all."""
        for thread in range(3):
            await store.put(make_summary(f"t{thread}"), make_runs(*(f"r{thread}-{n}" for n in range(4))))
        removed = []
        while count := await store.prune(1, None, 2):
            removed.append(count)
            for thread in range(3):
                left = [run.run_id for run in await store.runs(f"t{thread}", 0, READ_BYTES)]
                check_equal(left, [f"r{thread}-{n}" for n in range(4 - len(left), 4)], OLDEST)
        check(max(removed) <= 2, "at most `limit` runs a call")
        check_equal(sum(removed), 9, "each call returns how many runs it removed")

    async def test_prune_removes_a_runs_raw_frames_and_message_ids(self, store: Store) -> None:
        """A pruned run's raw frames and message ids go with it, and its run id is free."""
        await store_run(store, "t", "r1", ["u1"])
        await store_run(store, "t", "r2", ["u2"])
        await store.prune(1, None, 100)
        check_equal(
            [event.seq for event in await read_journal(store, "t")],
            [6, 7, 8, 9, 10],
            "the raw frames of r1 go, those of r2 stay",
        )
        check_equal((await store.locate("t", (7, None))).kind, "journal", "a place in r2 is as it was")
        await store_run(store, "other", "r1")
        new, known = await claim(store, "t", "r3", ["u1", "m-r1", "u2", "m-r2"])
        check_equal(known, {"u2": 10, "m-r2": 10}, "message ids only r1 had are no longer known, those of r2 are")
        check_equal(new.first_seq, 11, "the thread's numbers go on")

    async def test_prune_removes_a_thread_that_has_no_run_left(self, store: Store) -> None:
        """A thread without a run is removed with its name and scope, unless a run is live."""
        await store_run(store, "idle", "r1", scope="alice")
        await store.rename("idle", "name")
        await store_run(store, "busy", "r2", scope="alice")
        live = await begin(store, "busy", "r3", scope="alice")
        check_equal(await store.prune(0, None, 100), 2, "`max_runs` 0 keeps none")
        await check_raises(ThreadNotFound, store.thread("idle"), "a thread without a run is not there")
        await store_run(store, "idle", "r1", scope="bob")
        check_equal((await store.thread("idle")).name, None, "its name goes with it")
        thread = await store.thread("busy")
        check_equal((thread.runs, thread.running, thread.scope), (0, True, "alice"), "a thread with a live run stays")
        await live.write({"type": "CUSTOM", "name": "n", "value": 1})
        await live.end()
        check_equal(
            [run.parent_run_id for run in await store.runs("busy", 0, READ_BYTES)],
            [None],
            "its live run becomes the first",
        )
        check_equal({event.seq for event in await history(store, "busy")}, {8}, "and is whole")
