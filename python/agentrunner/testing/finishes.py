"""Finishing runs, and the history they become."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from agentrunner import _core
from agentrunner.errors import LeaseLost, RunAlreadyExists
from agentrunner.testing.base import Chapter
from agentrunner.testing.checks import check, equal, refused
from agentrunner.testing.writer import begin, claim, history, lines, raw, text, whole

if TYPE_CHECKING:
    from agentrunner.stores import Store

RUNS = 7


class Finishes(Chapter):
    """A finished run is the thread's history, compacted, in one step."""

    async def test_a_finished_run_is_history(self, store: Store) -> None:
        """`finish` keeps the run's compacted events and ends its lease: the thread is free."""
        writer = await begin(store, "t", "r", agent_id="agent")
        equal(await history(store, "t"), [], "a live run is no history yet")
        await writer.write(*text("m1", "Hel", "lo"), *text("m2", "world"))
        await writer.end()
        stored = _core.run_frames(writer.recorder.compacted(), writer.recorder.last_seq, 0).events()
        equal(lines(await history(store, "t")), lines(stored), "keep `recorder.compacted()`, every byte of it")
        equal(await store.live("t"), [], "the lease ends with the run")
        thread = await store.thread("t")
        equal((thread.runs, thread.running, thread.agent_id), (1, False, "agent"), "the thread has one run more")

    async def test_history_outlives_the_store(self) -> None:
        """What `finish` has returned from is durable: runs, message ids and run ids are there when opened again."""
        self.needs_durable()
        async with self.opened() as store:
            await whole(store, "t", "r1", ["u1"], scope="alice", agent_id="agent")
            await whole(store, "t", "r2", scope="alice")
            await store.rename("t", "a name")
            before, thread = lines(await history(store, "t")), await store.thread("t")
        async with self.opened() as again:
            equal(lines(await history(again, "t")), before, "write a run down before `finish` returns")
            equal(await again.thread("t"), thread, "write down what the thread is")
            await refused(RunAlreadyExists, claim(again, "t", "r1", scope="alice"), "write down run ids")
            third, known = await claim(again, "t", "r3", ["u1", "u2"], scope="alice")
            equal((known, third.first_seq), (["u1"], 11), "write down message ids and sequence numbers")

    async def test_the_history_is_every_run_in_order(self, store: Store) -> None:
        """`history` gives every stored run, in the order they ran, each with the sequence number it ends at."""
        ends = [(await whole(store, "t", f"r{n}")).recorder.last_seq for n in range(RUNS)]
        events = await history(store, "t")
        started = [event.to_dict()["runId"] for event in events if event.type == "RUN_STARTED"]
        equal(started, [f"r{n}" for n in range(RUNS)], "give every run once, oldest first")
        equal(
            sorted({event.seq or 0 for event in events}),
            ends,
            "a stored frame's cursor is `<last seq of its run>.<index>`",
        )

    async def test_pages_of_whole_runs(self, store: Store) -> None:
        """A page of history is whole runs, about `limit` bytes, at least one; `next` leads to the rest, or is none."""
        for n in range(RUNS):
            await whole(store, "t", f"r{n}")
        everything = lines(await history(store, "t"))
        for limit in (1, 300, 1000):
            equal(lines(await history(store, "t", limit=limit)), everything, f"pages of {limit} bytes skip or double")
        first = await store.history("t", (0, None), None, 1)
        equal({event.seq for event in first.frames.events()}, {5}, "a page over its limit is ended behind the run")
        equal(first.next, (5, None), "`next` is behind the page's last run")
        last = await store.history("t", (0, None), None, 1 << 20)
        equal(last.next, None, "`next` is none when there is no more")
        nothing = await store.history("unknown", (0, None), None, 1)
        equal((len(nothing.frames), nothing.next), (0, None), "an unknown thread has no history")

    async def test_history_is_read_from_a_place(self, store: Store) -> None:
        """`history` goes on exactly behind its cursor: a frame's, or a run's last sequence number."""
        for n in range(3):
            await whole(store, "t", f"r{n}")
        events = await history(store, "t")
        for place, event in enumerate(events):
            seq, index = _core.parse_cursor(event.cursor or "")
            rest = await history(store, "t", (seq, index))
            equal(
                lines(rest), lines(events[place + 1 :]), f"go on behind frame {event.cursor}, no frame twice or never"
            )
        for n in range(4):
            rest = await history(store, "t", (5 * n, None))
            equal({event.seq for event in rest}, set(range(5 * n + 5, 16, 5)), f"go on behind sequence number {5 * n}")

    async def test_history_until_a_live_run(self, store: Store) -> None:
        """`until` leaves out runs that begin at or behind it: what a reader has of a live run is not given again."""
        for n in range(3):
            await whole(store, "t", f"r{n}")
        for until, ends in ((1, []), (2, [5]), (6, [5]), (7, [5, 10]), (11, [5, 10]), (12, [5, 10, 15])):
            events = await history(store, "t", until=until)
            equal(sorted({event.seq or 0 for event in events}), ends, f"of runs that begin before {until}")

    async def test_a_run_ends_in_one_step(self, store: Store) -> None:
        """Whoever looks sees a run live or stored, at no moment neither."""
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

    async def test_finished_twice(self, store: Store) -> None:
        """A run is stored once, even if whoever finishes it asks again because the answer was lost."""
        writer = await whole(store, "t", "r")
        before = lines(await history(store, "t"))
        with suppress(LeaseLost):
            await writer.finish()
        equal(lines(await history(store, "t")), before, "store a run once")
        equal((await store.thread("t")).runs, 1, "store a run once")
        equal(len(await store.runs("t", 0, 1 << 20)), 1, "store a run once")

    async def test_an_unstored_run_leaves_the_history(self, store: Store) -> None:
        """A run finished with `stored` false changes nothing in a thread that has runs."""
        await whole(store, "t", "r1")
        before, thread = lines(await history(store, "t")), await store.thread("t")
        unstored = await begin(store, "t", "r2", ["u2"])
        await unstored.end(stored=False)
        equal(lines(await history(store, "t")), before, "nothing of it goes to the history")
        equal(await store.thread("t"), thread, "the thread is what it was")
        third = await begin(store, "t", "r2")
        equal(third.claim.first_seq, unstored.recorder.last_seq + 1, "numbers that were shown are not used again")
        await third.end()
        equal((await store.thread("t")).runs, 2, "the thread goes on")

    async def test_a_long_run(self, store: Store) -> None:
        """A run of 5 MB and 20,000 events is kept as any other, while other tasks go on."""
        writer = await begin(store, "t", "r")
        for n in range(20):
            await writer.write(*text(f"m{n}", *(f"{n:04}" + "x" * 250 for _ in range(1000))))
        await writer.end()
        equal(len(await raw(store, "t")), 20_042, "keep every raw event")
        events = await history(store, "t")
        contents = [event.to_dict()["delta"] for event in events if event.type == "TEXT_MESSAGE_CONTENT"]
        equal([len(content) for content in contents], [254_000] * 20, "keep the whole compacted run")
