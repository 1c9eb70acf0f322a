"""Tests for `locate`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agentrunner.errors import CursorAhead, CursorExpired
from agentrunner.testing.base import ConformanceTests
from agentrunner.testing.checks import check_equal, check_raises
from agentrunner.testing.writer import begin, history, store_run, text

if TYPE_CHECKING:
    from agentrunner.stores import Store

AHEAD = "a cursor after all the thread ever had is of another thread, or of a file that was lost"
INSIDE = "a cursor inside a finished run is `journal` as long as its raw frames are kept, with the run's bounds"


class CursorTests(ConformanceTests):
    """`locate` returns where a reader continues: stored runs, raw frames or the live run."""

    async def test_a_cursor_of_an_unknown_thread_is_ahead(self, store: Store) -> None:
        """In an unknown thread, every cursor but 0 raises `CursorAhead`."""
        check_equal((await store.locate("t", (0, None))).kind, "stored", "the beginning of a thread that may yet come")
        await check_raises(CursorAhead, store.locate("t", (1, None)), AHEAD)
        await check_raises(CursorAhead, store.locate("t", (1, 0)), AHEAD)

    async def test_a_cursor_in_finished_runs_is_stored_or_journal(self, store: Store) -> None:
        """A cursor between runs is `stored`; inside one it is `journal`, with the run's bounds."""
        for n in range(3):
            await store_run(store, "t", f"r{n}")
        for seq in range(16):
            place = await store.locate("t", (seq, None))
            if seq % 5 == 0:
                check_equal(place.kind, "stored", f"{seq} is after a whole run")
            else:
                first = seq - seq % 5 + 1
                check_equal(tuple(place), ("journal", first, first + 4), INSIDE)
        await check_raises(CursorAhead, store.locate("t", (16, None)), AHEAD)

    async def test_a_cursor_in_compacted_events_is_located_by_its_run(self, store: Store) -> None:
        """A cursor with an index is `stored` if the run was compacted up to its end.

        If it was compacted only in part, the cursor is `journal`.
        """
        await store_run(store, "t", "r1")
        check_equal(
            (await store.locate("t", (5, 2))).kind, "stored", "the form up to the last number is the stored one"
        )
        check_equal(tuple(await store.locate("t", (3, 1))), ("journal", 1, 5), INSIDE)
        await check_raises(CursorAhead, store.locate("t", (6, 0)), AHEAD)

    async def test_a_cursor_in_the_live_run_is_live(self, store: Store) -> None:
        """From the live run's first sequence number on, a cursor is `live`."""
        await store_run(store, "t", "r1")
        live = await begin(store, "t", "r2")
        for cursor in ((6, None), (6, 0), (7, None)):
            check_equal((await store.locate("t", cursor)).kind, "live", "the live run begins at 6")
        check_equal((await store.locate("t", (5, None))).kind, "stored", "5 is after the run before")
        check_equal((await store.locate("t", (3, None))).kind, "journal", INSIDE)
        await live.end()
        check_equal((await store.locate("t", (6, None))).kind, "journal", "it has ended, and is as any other")
        check_equal((await store.locate("t", (7, None))).kind, "stored", "7 is its last number")

    async def test_a_cursor_in_a_run_that_was_not_stored_is_between_runs(self, store: Store) -> None:
        """A cursor in a run that was not stored is between runs: the reader continues after it."""
        unstored = await begin(store, "t", "r1")
        await unstored.end(stored=False)
        seq = unstored.recorder.last_seq
        for cursor in ((1, None), (seq, None)):
            check_equal((await store.locate("t", cursor)).kind, "stored", "its numbers were used")
        await check_raises(CursorAhead, store.locate("t", (seq + 1, None)), AHEAD)
        await store_run(store, "t", "r2")
        events = await history(store, "t", (1, None))
        check_equal({event.seq for event in events}, {seq + 5}, "the next run is after it")

    async def test_a_cursor_in_a_run_whose_raw_frames_are_gone_raises_CursorExpired(self) -> None:
        """Raw frames go after `resume_window` seconds; a cursor among them is `CursorExpired`.

        `recover` is called meanwhile, since it may be what deletes them.
        """
        async with self.open_store(resume_window=0.0) as store:
            await store_run(store, "t", "r1")
            live = await begin(store, "t", "r2")
            await live.write(*text("m", "x"))
            while (await store.journal("t", 0, 1, 1)).frames.events():
                await store.recover()
                await asyncio.sleep(0.01)
            for cursor in ((1, None), (4, None), (4, 0)):
                await check_raises(CursorExpired, store.locate("t", cursor), "its raw frames are no longer kept")
            kinds = {(0, None): "stored", (5, None): "stored", (5, 1): "stored", (6, None): "live"}
            for place, kind in kinds.items():
                check_equal((await store.locate("t", place)).kind, kind, f"{place} needs no raw frames of r1")
            frames = (await store.journal("t", 5, None, 1 << 20)).frames.events()
            check_equal([event.seq for event in frames], [6, 7, 8, 9], "a live run's raw frames are kept")
            check_equal(
                len(await history(store, "t", (5, 0))), len(await history(store, "t")) - 1, "what is stored is kept"
            )
