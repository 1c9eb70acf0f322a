"""Runs read whole and put into a store, as a copy from one to another does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrunner.errors import RunAlreadyExists, StoreError, ThreadAlreadyRunning, ThreadNotFound
from agentrunner.testing.base import Chapter
from agentrunner.testing.checks import check, equal, refused
from agentrunner.testing.stored_threads import kept_runs, put_damaged, summary
from agentrunner.testing.writer import begin, claim, history, lines, whole
from agentrunner.types import ANY_SCOPE

if TYPE_CHECKING:
    from agentrunner.stores import Store, StoredRun

ALL_OR_NONE = "look at every run before the first is kept, or undo: `put` keeps all or none"
MIB = 1 << 20


class Copies(Chapter):
    """What `runs` gives, `put` keeps, in this store or another; a copy that was cut off can be done again."""

    async def test_runs_are_given_as_they_are_kept(self, store: Store) -> None:
        """`runs` gives each stored run with its place, its parent, its compacted events, its input and its time."""
        writers = [await whole(store, "t", f"r{n}", [f"u{n}"]) for n in range(3)]
        await begin(store, "t", "live")
        for n, (run, writer) in enumerate(zip(await store.runs("t", 0, MIB), writers, strict=True)):
            equal(
                (run.run_id, run.parent_run_id), (f"r{n}", f"r{n - 1}" if n else None), "each run's parent is before it"
            )
            equal((run.first_seq, run.last_seq), (5 * n + 1, 5 * n + 5), "the sequence numbers it had when it ran")
            equal(run.events, writer.recorder.compacted(), "its compacted events, byte for byte")
            equal(run.input, writer.claim.input, "its input, byte for byte")
            check(run.created_at > 1.6e12, "the milliseconds since 1970 when it ended")
        equal(await store.runs("unknown", 0, MIB), [], "an unknown thread has none")

    async def test_pages_of_runs(self, store: Store) -> None:
        """A page of runs has about `limit` bytes, at least one run; the next begins behind its last one."""
        for n in range(5):
            await whole(store, "t", f"r{n}")
        everything = await store.runs("t", 0, MIB)
        for limit in (1, 1000):
            found: list[StoredRun] = []
            while page := await store.runs("t", found[-1].last_seq if found else 0, limit):
                found += page
            equal(found, everything, f"pages of {limit} bytes skip or double")
        equal(len(await store.runs("t", 0, 1)), 1, "a page over its limit is ended behind the run")
        equal([run.run_id for run in await store.runs("t", 7, MIB)], ["r1", "r2", "r3", "r4"], "runs that end behind 7")

    async def test_a_copied_thread_is_the_same(self, store: Store) -> None:
        """A thread taken out and put back is the same to every reader, and goes on where it was."""
        for n in range(3):
            await whole(store, "t", f"r{n}", [f"u{n}"], agent_id="agent", scope="alice")
        await store.rename("t", "name")
        await store.archive("t", True)
        thread, runs, events = await store.thread("t"), await store.runs("t", 0, MIB), await history(store, "t")
        await store.delete("t")
        await store.put(thread, runs)
        equal(await store.thread("t"), thread, "the thread takes the summary's name, mark, agent, scope and times")
        equal(await store.runs("t", 0, MIB), runs, "runs are kept as they are given")
        equal(lines(await history(store, "t")), lines(events), "cursors and events are what they were")
        equal((await store.locate("t", (15, None))).kind, "stored", "the thread's last place is known")
        await refused(RunAlreadyExists, claim(store, "t", "r1", scope="alice"), "the run ids are used")
        await refused(ThreadNotFound, claim(store, "t", "r3"), "the thread is its scope's")
        new, known = await claim(store, "t", "r3", ["u1", "m-r1", "u9"], scope="alice")
        equal(
            (new.first_seq, sorted(known)),
            (16, ["m-r1", "u1"]),
            "it goes on behind its last run, and knows its messages",
        )

    async def test_put_again(self, store: Store) -> None:
        """A run the thread has already is left as it is, so that a copy that was cut off can be done again."""
        thread, runs = summary("t", name="name"), kept_runs("r1", "r2", "r3")
        for part in (runs[:1], runs[:2], runs[:2], runs, runs):
            await store.put(thread, part)
            equal(await store.runs("t", 0, MIB), part if len(part) > 1 else runs[:1], "add what is not there, once")
        equal((await store.thread("t")).runs, 3, "each run is counted once")

    async def test_only_the_summary(self, store: Store) -> None:
        """With no runs a thread takes the summary all the same; one that is not there is not made."""
        await store.put(summary("t"), kept_runs("r1"))
        await store.put(summary("t", name="name", agent_id="agent", updated_at=2000), [])
        thread = await store.thread("t")
        equal((thread.name, thread.agent_id, thread.updated_at, thread.runs), ("name", "agent", 2000, 1), "take it")
        await store.put(summary("new"), [])
        await refused(ThreadNotFound, store.thread("new"), "a thread without a run is not there")

    async def test_numbers_may_be_missing(self, store: Store) -> None:
        """Runs need not follow each other closely: numbers between them were used by runs that were not stored."""
        await store.put(summary("t"), kept_runs("r1", first_seq=3) + kept_runs("r2", first_seq=50))
        equal([(run.first_seq, run.last_seq) for run in await store.runs("t", 0, MIB)], [(3, 7), (50, 54)], "keep them")
        equal([run.parent_run_id for run in await store.runs("t", 0, MIB)], [None, "r1"], "a run's parent is before it")
        new, _ = await claim(store, "t", "r3")
        equal(new.first_seq, 55, "the thread goes on behind its last run")

    async def test_a_running_thread_is_not_put_into(self, store: Store) -> None:
        """`ThreadAlreadyRunning` for a thread with a live run, changing nothing."""
        live = await begin(store, "t", "r1")
        await refused(ThreadAlreadyRunning, store.put(summary("t"), kept_runs("r2")), "look for a live run first")
        await live.end()
        equal([run.run_id for run in await store.runs("t", 0, MIB)], ["r1"], "nothing was put")
        await refused(ThreadNotFound, store.thread("r2"), "nothing was put")

    async def test_a_run_of_another_thread_is_refused(self, store: Store) -> None:
        """`RunAlreadyExists` for a run id of another thread, stored or live; none of the runs is kept."""
        await whole(store, "other", "stored")
        await begin(store, "busy", "live")
        for used in ("stored", "live"):
            await refused(RunAlreadyExists, store.put(summary("t"), kept_runs("r1", used)), "run ids are used once")
            await _untouched(store)
        equal((await store.thread("other")).runs, 1, "the other thread keeps its run")

    async def test_runs_that_do_not_fit_are_refused(self, store: Store) -> None:
        """`StoreError` for runs that do not begin behind the thread's last sequence number; none of them is kept."""
        overlapping = [*kept_runs("r1"), *kept_runs("r2", first_seq=5)]
        await refused(StoreError, store.put(summary("t"), overlapping), "each run begins behind the one before it")
        await _untouched(store)
        await store.put(summary("t", name="before"), kept_runs("own"))
        for runs in (kept_runs("r1"), kept_runs("r1", first_seq=5), [*kept_runs("r1", first_seq=6), *overlapping]):
            await refused(StoreError, store.put(summary("t", name="after"), runs), "the thread is at 5 already")
            thread = await store.thread("t")
            equal((thread.runs, thread.name), (1, "before"), ALL_OR_NONE)
            equal([run.run_id for run in await store.runs("t", 0, MIB)], ["own"], ALL_OR_NONE)
        await whole(store, "other", "r1")

    async def test_put_outlives_the_store(self) -> None:
        """What `put` has returned from is durable."""
        self.needs_durable()
        async with self.opened() as store:
            await store.put(summary("t", name="name", scope="alice"), kept_runs("r1", "r2"))
            before = lines(await history(store, "t"))
        async with self.opened() as again:
            equal(lines(await history(again, "t")), before, "write runs down before `put` returns")
            thread = await again.thread("t")
            equal((thread.name, thread.scope, thread.updated_at), ("name", "alice", 1000), "and the thread with them")

    async def test_what_cannot_be_read_is_left_out(self, store: Store) -> None:
        """A run whose events cannot be read costs that run: history and copies go on with the rest."""
        if await put_damaged(store):
            equal({event.seq for event in await history(store, "t")}, {5, 15}, "leave it out of the history, and go on")
            equal(
                [run.run_id for run in await store.runs("t", 0, MIB)], ["r1", "r3"], "leave it out of copies, and go on"
            )
            new, _ = await claim(store, "t", "r4")
            equal(new.first_seq, 16, "the thread goes on")


async def _untouched(store: Store) -> None:
    await refused(ThreadNotFound, store.thread("t"), ALL_OR_NONE)
    equal(await store.runs("t", 0, MIB), [], ALL_OR_NONE)
    equal(await history(store, "t"), [], ALL_OR_NONE)
    listed = await store.threads(100, None, True, None, ANY_SCOPE)
    check("t" not in {thread.thread_id for thread in listed}, ALL_OR_NONE)
    await store.put(summary("probe"), kept_runs("r1"))
    await store.delete("probe")
