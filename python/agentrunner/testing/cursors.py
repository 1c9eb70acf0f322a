"""Where a cursor is."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agentrunner.errors import CursorAhead, CursorExpired
from agentrunner.testing.base import Chapter
from agentrunner.testing.checks import equal, refused
from agentrunner.testing.writer import begin, history, text, whole

if TYPE_CHECKING:
    from agentrunner.stores import Store

AHEAD = "a cursor behind all the thread ever had is of another thread, or of a file that was lost"
INSIDE = "a cursor inside a finished run is `journal` as long as its raw frames are kept, with the run's bounds"


class Cursors(Chapter):
    """`locate` says what can be read behind a cursor: stored runs, a finished run's raw frames, or the live run."""

    async def test_of_an_unknown_thread(self, store: Store) -> None:
        """Nothing is behind 0; any other cursor is ahead: `CursorAhead`."""
        equal((await store.locate("t", (0, None))).kind, "stored", "the beginning of a thread that may yet come")
        await refused(CursorAhead, store.locate("t", (1, None)), AHEAD)
        await refused(CursorAhead, store.locate("t", (1, 0)), AHEAD)

    async def test_of_finished_runs(self, store: Store) -> None:
        """Between runs a cursor is `stored`; inside one it is `journal`, with that run's first and last number."""
        for n in range(3):
            await whole(store, "t", f"r{n}")
        for seq in range(16):
            place = await store.locate("t", (seq, None))
            if seq % 5 == 0:
                equal(place.kind, "stored", f"{seq} is behind a whole run")
            else:
                first = seq - seq % 5 + 1
                equal(tuple(place), ("journal", first, first + 4), INSIDE)
        await refused(CursorAhead, store.locate("t", (16, None)), AHEAD)

    async def test_of_compacted_forms(self, store: Store) -> None:
        """A cursor with an index is `stored` in the run's final form, `journal` in a form of it that went less far."""
        await whole(store, "t", "r1")
        equal((await store.locate("t", (5, 2))).kind, "stored", "the form up to the last number is the stored one")
        equal(tuple(await store.locate("t", (3, 1))), ("journal", 1, 5), INSIDE)
        await refused(CursorAhead, store.locate("t", (6, 0)), AHEAD)

    async def test_of_a_live_run(self, store: Store) -> None:
        """From the live run's first number on a cursor is `live`; its runner knows how far the run is."""
        await whole(store, "t", "r1")
        live = await begin(store, "t", "r2")
        for cursor in ((6, None), (6, 0), (7, None)):
            equal((await store.locate("t", cursor)).kind, "live", "the live run begins at 6")
        equal((await store.locate("t", (5, None))).kind, "stored", "5 is behind the run before")
        equal((await store.locate("t", (3, None))).kind, "journal", INSIDE)
        await live.end()
        equal((await store.locate("t", (6, None))).kind, "journal", "it has ended, and is as any other")
        equal((await store.locate("t", (7, None))).kind, "stored", "7 is its last number")

    async def test_of_a_run_that_was_not_stored(self, store: Store) -> None:
        """A place in a run that was not stored is between runs: who was there goes on with what came after."""
        unstored = await begin(store, "t", "r1")
        await unstored.end(stored=False)
        seq = unstored.recorder.last_seq
        for cursor in ((1, None), (seq, None)):
            equal((await store.locate("t", cursor)).kind, "stored", "its numbers were used")
        await refused(CursorAhead, store.locate("t", (seq + 1, None)), AHEAD)
        await whole(store, "t", "r2")
        events = await history(store, "t", (1, None))
        equal({event.seq for event in events}, {seq + 5}, "the next run is behind it")

    async def test_of_a_run_whose_frames_are_gone(self) -> None:
        """After `resume_window` seconds and a `recover` a finished run's raw frames go: `CursorExpired` inside it."""
        async with self.opened(resume_window=0.0) as store:
            await whole(store, "t", "r1")
            live = await begin(store, "t", "r2")
            await live.write(*text("m", "x"))
            while (await store.journal("t", 0, 1, 1)).frames.events():
                await store.recover()
                await asyncio.sleep(0.01)
            for cursor in ((1, None), (4, None), (4, 0)):
                await refused(CursorExpired, store.locate("t", cursor), "its raw frames are no longer kept")
            kinds = {(0, None): "stored", (5, None): "stored", (5, 1): "stored", (6, None): "live"}
            for place, kind in kinds.items():
                equal((await store.locate("t", place)).kind, kind, f"{place} needs no raw frames of r1")
            frames = (await store.journal("t", 5, None, 1 << 20)).frames.events()
            equal([event.seq for event in frames], [6, 7, 8, 9], "a live run's raw frames are kept")
            equal(len(await history(store, "t", (5, 0))), len(await history(store, "t")) - 1, "what is stored is kept")
