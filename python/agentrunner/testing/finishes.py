"""Tests for `finish` and `history`."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING
from unittest import SkipTest

from agentrunner import _core
from agentrunner.errors import LeaseLost, RunAlreadyExists, StoreValueTooLarge
from agentrunner.testing.base import ConformanceTests
from agentrunner.testing.checks import check, check_equal, check_raises
from agentrunner.testing.writer import begin, claim, history, lines, read_journal, store_run, text

if TYPE_CHECKING:
    from agentrunner.stores import Store

RUNS = 7


class FinishTests(ConformanceTests):
    """`finish` makes a run part of the thread's history in one atomic step."""

    async def test_finish_stores_the_run_and_frees_the_thread(self, store: Store) -> None:
        """`finish` stores the run's compacted events and ends its lease."""
        writer = await begin(store, "t", "r", agent_id="agent")
        check_equal(await history(store, "t"), [], "a live run is no history yet")
        await writer.write(*text("m1", "Hel", "lo"), *text("m2", "world"))
        await writer.end()
        stored = _core.run_frames(writer.recorder.compacted(), writer.recorder.last_seq, 0).events()
        check_equal(lines(await history(store, "t")), lines(stored), "keep `recorder.compacted()`, every byte of it")
        check_equal(await store.live("t"), [], "the lease ends with the run")
        thread = await store.thread("t")
        check_equal((thread.runs, thread.running, thread.agent_id), (1, False, "agent"), "the thread has one run more")

    async def test_what_was_finished_is_there_after_the_store_is_reopened(self) -> None:
        """What `finish` has stored is durable: runs, message ids and run ids."""
        self.needs_durable()
        async with self.open_store() as store:
            await store_run(store, "t", "r1", ["u1"], scope="alice", agent_id="agent")
            await store_run(store, "t", "r2", scope="alice")
            await store.rename("t", "a name")
            before, thread = lines(await history(store, "t")), await store.thread("t")
        async with self.open_store() as again:
            check_equal(lines(await history(again, "t")), before, "write a run down before `finish` returns")
            check_equal(await again.thread("t"), thread, "write down what the thread is")
            await check_raises(RunAlreadyExists, claim(again, "t", "r1", scope="alice"), "write down run ids")
            third, known = await claim(again, "t", "r3", ["u1", "u2"], scope="alice")
            check_equal((known, third.first_seq), ({"u1": 5}, 11), "write down message ids and sequence numbers")

    async def test_a_run_over_max_run_bytes_raises_StoreValueTooLarge(self, store: Store) -> None:
        """`finish` of a run larger than `max_run_bytes` raises `StoreValueTooLarge`.

        The run stays live, and it can be finished without its content.
        """
        if getattr(store, "max_run_bytes", None) is None:
            raise SkipTest("only for stores with a limit on the size of a run")
        store.max_run_bytes = 2000
        writer = await begin(store, "t", "r", ["u1"])
        await writer.write(*text("m", "x" * 4000))
        writer.recorder.finalize(stop_requested=True)
        await writer.append()
        before = lines(await read_journal(store, "t"))
        await check_raises(StoreValueTooLarge, writer.finish(), "refuse the run before anything is written")
        check_equal([claim.run_id for claim, _ in await store.live("t")], ["r"], "keep the run live")
        check_equal(await history(store, "t"), [], "store nothing of the run")
        check_equal(lines(await read_journal(store, "t")), before, "keep its raw frames")
        writer.recorder.drop_content("too large", "RUN_TOO_LARGE")
        await writer.finish()
        kinds = [event.type for event in await history(store, "t")]
        check_equal(kinds, ["RUN_STARTED", "RUN_ERROR"], "store the run without its content")
        check_equal(await store.live("t"), [], "free the thread")
        _, known = await claim(store, "t", "r2", ["u1", "m"])
        check_equal(known, {"u1": 5}, "know only the messages that are stored")

    async def test_history_returns_every_run_in_order(self, store: Store) -> None:
        """`history` returns every stored run in order, with its last number in the cursors."""
        ends = [(await store_run(store, "t", f"r{n}")).recorder.last_seq for n in range(RUNS)]
        events = await history(store, "t")
        started = [event.to_dict()["runId"] for event in events if event.type == "RUN_STARTED"]
        check_equal(started, [f"r{n}" for n in range(RUNS)], "return every run once, oldest first")
        check_equal(
            sorted({event.seq or 0 for event in events}),
            ends,
            "a stored frame's cursor is `<last seq of its run>.<index>`",
        )

    async def test_a_page_of_history_has_whole_runs(self, store: Store) -> None:
        """A page of history has whole runs, about `limit` bytes, and at least one run.

        `next` is the cursor of the next page, or `None`.
        """
        for n in range(RUNS):
            await store_run(store, "t", f"r{n}")
        everything = lines(await history(store, "t"))
        for limit in (1, 300, 1000):
            check_equal(
                lines(await history(store, "t", limit=limit)),
                everything,
                f"pages of {limit} bytes skip or repeat frames",
            )
        first = await store.history("t", (0, None), None, 1)
        check_equal({event.seq for event in first.frames.events()}, {5}, "a page over its limit ends after the run")
        check_equal(first.next, (5, None), "`next` is after the page's last run")
        last = await store.history("t", (0, None), None, 1 << 20)
        check_equal(last.next, None, "`next` is none when there is no more")
        nothing = await store.history("unknown", (0, None), None, 1)
        check_equal((len(nothing.frames), nothing.next), (0, None), "an unknown thread has no history")

    async def test_history_continues_right_after_its_cursor(self, store: Store) -> None:
        """`history` continues right after its cursor: a frame, or a run's last number."""
        for n in range(3):
            await store_run(store, "t", f"r{n}")
        events = await history(store, "t")
        for place, event in enumerate(events):
            seq, index = _core.parse_cursor(event.cursor or "")
            rest = await history(store, "t", (seq, index))
            check_equal(
                lines(rest), lines(events[place + 1 :]), f"continue after frame {event.cursor}, no frame twice or never"
            )
        for n in range(4):
            rest = await history(store, "t", (5 * n, None))
            check_equal(
                {event.seq for event in rest}, set(range(5 * n + 5, 16, 5)), f"continue after sequence number {5 * n}"
            )

    async def test_history_until_a_number_omits_runs_that_begin_there_or_later(self, store: Store) -> None:
        """`until` omits the runs that begin at this number or after it.

        A reader that has the live run is not given it again.
        """
        for n in range(3):
            await store_run(store, "t", f"r{n}")
        for until, ends in ((1, []), (2, [5]), (6, [5]), (7, [5, 10]), (11, [5, 10]), (12, [5, 10, 15])):
            events = await history(store, "t", until=until)
            check_equal(sorted({event.seq or 0 for event in events}), ends, f"of runs that begin before {until}")

    async def test_a_run_ends_in_one_atomic_step(self, store: Store) -> None:
        """At every moment, a reader finds a run either live or stored."""
        neither = asyncio.Event()
        ended = asyncio.Event()

        async def look() -> None:
            while not ended.is_set():
                running = bool(await store.live("t"))
                if not running and not await history(store, "t"):
                    neither.set()
                await asyncio.sleep(0)

        for n in range(10):
            writer = await begin(store, "t", f"r{n}")
            looking = [asyncio.ensure_future(look()) for _ in range(3)]
            await writer.end()
            ended.set()
            await asyncio.gather(*looking)
            check(not neither.is_set(), "keep the run and end its lease in one atomic step")
            ended.clear()
            await store.delete("t")

    async def test_finishing_a_run_twice_stores_it_once(self, store: Store) -> None:
        """A run is stored once, even if `finish` is repeated because the reply was lost."""
        writer = await store_run(store, "t", "r")
        before = lines(await history(store, "t"))
        with suppress(LeaseLost):
            await writer.finish()
        check_equal(lines(await history(store, "t")), before, "store a run once")
        check_equal((await store.thread("t")).runs, 1, "store a run once")
        check_equal(len(await store.runs("t", 0, 1 << 20)), 1, "store a run once")

    async def test_finish_without_storing_changes_no_history(self, store: Store) -> None:
        """`finish` with `stored=False` changes nothing in a thread that has other runs."""
        await store_run(store, "t", "r1")
        before, thread = lines(await history(store, "t")), await store.thread("t")
        unstored = await begin(store, "t", "r2", ["u2"])
        await unstored.end(stored=False)
        check_equal(lines(await history(store, "t")), before, "nothing of it goes to the history")
        check_equal(await store.thread("t"), thread, "the thread is what it was")
        third = await begin(store, "t", "r2")
        check_equal(third.claim.first_seq, unstored.recorder.last_seq + 1, "numbers that were shown are not used again")
        await third.end()
        check_equal((await store.thread("t")).runs, 2, "the thread continues")

    async def test_a_long_run_is_stored_like_any_other(self, store: Store) -> None:
        """A run of 5 MB and 20,000 events is stored like any other."""
        writer = await begin(store, "t", "r")
        for n in range(20):
            await writer.write(*text(f"m{n}", *(f"{n:04}" + "x" * 250 for _ in range(1000))))
        await writer.end()
        check_equal(len(await read_journal(store, "t")), 20_042, "keep every raw event")
        events = await history(store, "t")
        contents = [event.to_dict()["delta"] for event in events if event.type == "TEXT_MESSAGE_CONTENT"]
        check_equal([len(content) for content in contents], [254_000] * 20, "keep the whole compacted run")
