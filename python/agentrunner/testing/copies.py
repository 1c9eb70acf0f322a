"""Tests for `runs` and `put`, which copy threads from one store to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrunner.errors import RunAlreadyExists, StoreError, ThreadAlreadyRunning, ThreadNotFound
from agentrunner.testing.base import ConformanceTests
from agentrunner.testing.checks import check, check_equal, check_raises
from agentrunner.testing.stored_threads import make_runs, make_summary, put_damaged
from agentrunner.testing.writer import READ_BYTES, begin, claim, history, lines, store_run
from agentrunner.types import ANY_SCOPE

if TYPE_CHECKING:
    from agentrunner.stores import Store, StoredRun

ALL_OR_NONE = "check every run before the first is stored, or undo: `put` stores all or none"


class CopyTests(ConformanceTests):
    """`put` stores what `runs` returns, and an interrupted copy can be repeated."""

    async def test_runs_returns_everything_about_stored_runs(self, store: Store) -> None:
        """`runs` returns each stored run's numbers, parent, compacted events, input and time."""
        writers = [await store_run(store, "t", f"r{n}", [f"u{n}"]) for n in range(3)]
        await begin(store, "t", "live")
        for n, (run, writer) in enumerate(zip(await store.runs("t", 0, READ_BYTES), writers, strict=True)):
            check_equal(
                (run.run_id, run.parent_run_id), (f"r{n}", f"r{n - 1}" if n else None), "each run's parent is before it"
            )
            check_equal(
                (run.first_seq, run.last_seq), (5 * n + 1, 5 * n + 5), "the sequence numbers it had when it ran"
            )
            check_equal(run.events, writer.recorder.compacted(), "its compacted events, byte for byte")
            check_equal(run.input, writer.claim.input, "its input, byte for byte")
            check(run.created_at > 1.6e12, "the milliseconds since 1970 when it ended")
        check_equal(await store.runs("unknown", 0, READ_BYTES), [], "an unknown thread has none")

    async def test_runs_are_returned_in_pages_of_about_limit_bytes(self, store: Store) -> None:
        """A page of runs has about `limit` bytes and at least one run.

        The next page begins after the last run of the page before.
        """
        for n in range(5):
            await store_run(store, "t", f"r{n}")
        everything = await store.runs("t", 0, READ_BYTES)
        for limit in (1, 1000):
            listed: list[StoredRun] = []
            while page := await store.runs("t", listed[-1].last_seq if listed else 0, limit):
                listed += page
            check_equal(listed, everything, f"pages of {limit} bytes skip or repeat frames")
        check_equal(len(await store.runs("t", 0, 1)), 1, "a page over its limit ends after the run")
        check_equal(
            [run.run_id for run in await store.runs("t", 7, READ_BYTES)],
            ["r1", "r2", "r3", "r4"],
            "runs that end after 7",
        )

    async def test_a_thread_that_was_copied_reads_the_same(self, store: Store) -> None:
        """A thread that was taken out and put back is the same to every reader, and continues."""
        for n in range(3):
            await store_run(store, "t", f"r{n}", [f"u{n}"], agent_id="agent", scope="alice")
        await store.rename("t", "name")
        await store.archive("t", True)
        thread, runs, events = await store.thread("t"), await store.runs("t", 0, READ_BYTES), await history(store, "t")
        await store.delete("t")
        await store.put(thread, runs)
        check_equal(
            await store.thread("t"), thread, "the thread takes the summary's name, mark, agent, scope and times"
        )
        check_equal(await store.runs("t", 0, READ_BYTES), runs, "runs are kept as they are given")
        check_equal(lines(await history(store, "t")), lines(events), "cursors and events are what they were")
        check_equal((await store.locate("t", (15, None))).kind, "stored", "the thread's last place is known")
        await check_raises(RunAlreadyExists, claim(store, "t", "r1", scope="alice"), "the run ids are used")
        await check_raises(ThreadNotFound, claim(store, "t", "r3"), "the thread is its scope's")
        new, known = await claim(store, "t", "r3", ["u1", "m-r1", "u9"], scope="alice")
        check_equal(
            (new.first_seq, known),
            (16, {"u1": 10, "m-r1": 10}),
            "it continues after its last run, and knows its messages",
        )

    async def test_put_leaves_runs_that_the_thread_already_has(self, store: Store) -> None:
        """`put` leaves a run that the thread already has, so that a copy can be repeated."""
        thread, runs = make_summary("t", name="name"), make_runs("r1", "r2", "r3")
        for part in (runs[:1], runs[:2], runs[:2], runs, runs):
            await store.put(thread, part)
            check_equal(
                await store.runs("t", 0, READ_BYTES), part if len(part) > 1 else runs[:1], "add what is not there, once"
            )
        check_equal((await store.thread("t")).runs, 3, "each run is counted once")

    async def test_put_without_runs_sets_the_summary_of_an_existing_thread(self, store: Store) -> None:
        """Without runs, `put` sets the summary of an existing thread, and creates no new one."""
        await store.put(make_summary("t"), make_runs("r1"))
        await store.put(make_summary("t", name="name", agent_id="agent", updated_at=2000), [])
        thread = await store.thread("t")
        check_equal(
            (thread.name, thread.agent_id, thread.updated_at, thread.runs), ("name", "agent", 2000, 1), "take it"
        )
        await store.put(make_summary("new"), [])
        await check_raises(ThreadNotFound, store.thread("new"), "a thread without a run is not there")

    async def test_runs_that_are_put_may_have_gaps_between_them(self, store: Store) -> None:
        """Runs may have gaps between their sequence numbers.

        Runs that were not stored have used those numbers.
        """
        await store.put(make_summary("t"), make_runs("r1", first_seq=3) + make_runs("r2", first_seq=50))
        check_equal(
            [(run.first_seq, run.last_seq) for run in await store.runs("t", 0, READ_BYTES)],
            [(3, 7), (50, 54)],
            "keep them",
        )
        check_equal(
            [run.parent_run_id for run in await store.runs("t", 0, READ_BYTES)],
            [None, "r1"],
            "a run's parent is before it",
        )
        new, _ = await claim(store, "t", "r3")
        check_equal(new.first_seq, 55, "the thread continues after its last run")

    async def test_put_into_a_running_thread_raises_ThreadAlreadyRunning(self, store: Store) -> None:
        """`put` into a thread with a live run raises `ThreadAlreadyRunning` and changes nothing."""
        live = await begin(store, "t", "r1")
        await check_raises(
            ThreadAlreadyRunning, store.put(make_summary("t"), make_runs("r2")), "check for a live run first"
        )
        await live.end()
        check_equal([run.run_id for run in await store.runs("t", 0, READ_BYTES)], ["r1"], "nothing was put")
        await check_raises(ThreadNotFound, store.thread("r2"), "nothing was put")

    async def test_put_of_runs_that_do_not_follow_raises_StoreError(self, store: Store) -> None:
        """`put` raises `StoreError` if a run does not begin after the thread's last number.

        It stores none of the runs.
        """
        overlapping = [*make_runs("r1"), *make_runs("r2", first_seq=5)]
        await check_raises(
            StoreError, store.put(make_summary("t"), overlapping), "each run begins after the one before it"
        )
        await _check_untouched(store)
        await store.put(make_summary("t", name="before"), make_runs("own"))
        for runs in (make_runs("r1"), make_runs("r1", first_seq=5), [*make_runs("r1", first_seq=6), *overlapping]):
            await check_raises(
                StoreError, store.put(make_summary("t", name="after"), runs), "the thread is at 5 already"
            )
            thread = await store.thread("t")
            check_equal((thread.runs, thread.name), (1, "before"), ALL_OR_NONE)
            check_equal([run.run_id for run in await store.runs("t", 0, READ_BYTES)], ["own"], ALL_OR_NONE)
        await store_run(store, "other", "r1")

    async def test_what_was_put_is_there_after_the_store_is_reopened(self) -> None:
        """What `put` has stored is durable when it returns."""
        self.needs_durable()
        async with self.open_store() as store:
            await store.put(make_summary("t", name="name", scope="alice"), make_runs("r1", "r2"))
            before = lines(await history(store, "t"))
        async with self.open_store() as again:
            check_equal(lines(await history(again, "t")), before, "write runs down before `put` returns")
            thread = await again.thread("t")
            check_equal(
                (thread.name, thread.scope, thread.updated_at), ("name", "alice", 1000), "and the thread with them"
            )

    async def test_a_run_that_cannot_be_read_is_skipped(self, store: Store) -> None:
        """`history` and `runs` skip a run whose events cannot be read, and return the others."""
        if await put_damaged(store):
            check_equal(
                {event.seq for event in await history(store, "t")}, {5, 15}, "leave it out of the history, and continue"
            )
            check_equal(
                [run.run_id for run in await store.runs("t", 0, READ_BYTES)],
                ["r1", "r3"],
                "leave it out of copies, and continue",
            )
            new, _ = await claim(store, "t", "r4")
            check_equal(new.first_seq, 16, "the thread continues")


async def _check_untouched(store: Store) -> None:
    await check_raises(ThreadNotFound, store.thread("t"), ALL_OR_NONE)
    check_equal(await store.runs("t", 0, READ_BYTES), [], ALL_OR_NONE)
    check_equal(await history(store, "t"), [], ALL_OR_NONE)
    listed = await store.threads(100, None, True, None, ANY_SCOPE)
    check("t" not in {thread.thread_id for thread in listed}, ALL_OR_NONE)
    await store.put(make_summary("probe"), make_runs("r1"))
    await store.delete("probe")
