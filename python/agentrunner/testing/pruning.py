"""Removing the oldest runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrunner.errors import ThreadNotFound
from agentrunner.testing.base import Chapter
from agentrunner.testing.checks import check, equal, refused
from agentrunner.testing.stored_threads import kept_runs, summary
from agentrunner.testing.writer import begin, claim, history, raw, whole

if TYPE_CHECKING:
    from agentrunner.stores import Store

MIB = 1 << 20
OLDEST = "only ever remove a thread's oldest runs, so that what is left is a whole chain"


class Pruning(Chapter):
    """`prune` takes a thread's oldest runs and leaves a whole chain."""

    async def test_the_newest_stay(self, store: Store) -> None:
        """With `max_runs` each thread keeps so many of its newest runs; the first that is left has no parent."""
        for n in range(5):
            await whole(store, "t", f"r{n}")
        await whole(store, "short", "r9")
        before = await store.runs("t", 15, MIB)
        equal(await store.prune(2, None, 100), 3, "say how many runs were removed")
        left = await store.runs("t", 0, MIB)
        equal([run.run_id for run in left], ["r3", "r4"], "the newest stay")
        equal(
            [run.parent_run_id for run in left], [None, "r3"], "the first that is left has no parent, the others have"
        )
        as_before = [run._replace(parent_run_id=was.parent_run_id) for run, was in zip(left, before, strict=True)]
        equal(as_before, before, "what is left is as it was, its sequence numbers too")
        events = await history(store, "t")
        equal(
            [event.to_dict()["runId"] for event in events if event.type == "RUN_STARTED"], ["r3", "r4"], "and is read"
        )
        equal((await store.thread("t")).runs, 2, "the thread counts what it has")
        equal((await store.thread("short")).runs, 1, "a thread within the bound keeps all it has")
        equal(await store.prune(2, None, 100), 0, "there is nothing more to remove")

    async def test_what_is_older_goes(self, store: Store) -> None:
        """With `before` the runs that ended before that moment go; never one behind a run that stays."""
        await store.put(summary("t"), kept_runs("r0", "r1", "r2", "r3", created_at=1000))
        early, late, early_again = kept_runs("x0", "x1", "x2")
        odd = [early._replace(created_at=900), late._replace(created_at=5000), early_again._replace(created_at=900)]
        await store.put(summary("odd"), odd)
        equal(await store.prune(None, 900, 100), 0, "a run that ended at that moment stays")
        equal(await store.prune(None, 1002, 100), 3, "r0, r1 and x0 ended before 1002")
        equal([run.run_id for run in await store.runs("t", 0, MIB)], ["r2", "r3"], OLDEST)
        equal([run.run_id for run in await store.runs("odd", 0, MIB)], ["x1", "x2"], OLDEST)

    async def test_either_reason_is_enough(self, store: Store) -> None:
        """A run goes that is beyond `max_runs`, or ended before `before`; with neither said, none."""
        await store.put(summary("t"), kept_runs("r0", "r1", "r2", "r3", created_at=1000))
        equal(await store.prune(None, None, 100), 0, "no reason, no removal")
        equal(await store.prune(3, 1002, 100), 2, "r0 and r1 ended before 1002, though three runs may stay")
        equal(await store.prune(1, 0, 100), 1, "r2 is beyond one run, though it is not old")
        equal([run.run_id for run in await store.runs("t", 0, MIB)], ["r3"], OLDEST)

    async def test_so_many_a_call(self, store: Store) -> None:
        """At most `limit` runs go in one call, oldest first; called again until it gives 0, all go that are to go."""
        for thread in range(3):
            await store.put(summary(f"t{thread}"), kept_runs(*(f"r{thread}-{n}" for n in range(4))))
        removed = []
        while count := await store.prune(1, None, 2):
            removed.append(count)
            for thread in range(3):
                left = [run.run_id for run in await store.runs(f"t{thread}", 0, MIB)]
                equal(left, [f"r{thread}-{n}" for n in range(4 - len(left), 4)], OLDEST)
        check(max(removed) <= 2, "at most `limit` runs a call")
        equal(sum(removed), 9, "each call says how many it removed")

    async def test_what_goes_with_a_run(self, store: Store) -> None:
        """A removed run takes its raw frames and message ids along, and its run id is free; the rest is as it was."""
        await whole(store, "t", "r1", ["u1"])
        await whole(store, "t", "r2", ["u2"])
        await store.prune(1, None, 100)
        equal(
            [event.seq for event in await raw(store, "t")],
            [6, 7, 8, 9, 10],
            "the raw frames of r1 go, those of r2 stay",
        )
        equal((await store.locate("t", (7, None))).kind, "journal", "a place in r2 is as it was")
        await whole(store, "other", "r1")
        new, known = await claim(store, "t", "r3", ["u1", "m-r1", "u2", "m-r2"])
        equal(sorted(known), ["m-r2", "u2"], "message ids only r1 had are no longer known, those of r2 are")
        equal(new.first_seq, 11, "the thread's numbers go on")

    async def test_an_empty_thread_goes(self, store: Store) -> None:
        """A thread left without a run goes, with its name and scope, unless one is live."""
        await whole(store, "idle", "r1", scope="alice")
        await store.rename("idle", "name")
        await whole(store, "busy", "r2", scope="alice")
        live = await begin(store, "busy", "r3", scope="alice")
        equal(await store.prune(0, None, 100), 2, "`max_runs` 0 keeps none")
        await refused(ThreadNotFound, store.thread("idle"), "a thread without a run is not there")
        await whole(store, "idle", "r1", scope="bob")
        equal((await store.thread("idle")).name, None, "its name goes with it")
        thread = await store.thread("busy")
        equal((thread.runs, thread.running, thread.scope), (0, True, "alice"), "a thread with a live run stays")
        await live.write({"type": "CUSTOM", "name": "n", "value": 1})
        await live.end()
        equal([run.parent_run_id for run in await store.runs("busy", 0, MIB)], [None], "its live run becomes the first")
        equal({event.seq for event in await history(store, "busy")}, {8}, "and is whole")
