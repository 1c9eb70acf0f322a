"""Tests for `journal` and `changed`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agentrunner.testing.base import ConformanceTests, needs_shared
from agentrunner.testing.checks import check, check_equal
from agentrunner.testing.writer import Writer, begin, lines, read_journal, store_run, text

if TYPE_CHECKING:
    from agentrunner.stores import Store

CHANGED_SECONDS = 15.0
"""Seconds within which `changed` must return, on a busy machine."""


class JournalTests(ConformanceTests):
    """`journal` returns raw frames as they were appended; `changed` wakes followers."""

    async def test_a_page_of_the_journal_has_about_limit_bytes(self, store: Store) -> None:
        """A page has about `limit` bytes, and at least one frame if there is any.

        The pages together have every frame once.
        """
        writer = await begin(store, "t", "r")
        for n in range(10):
            await writer.write(*text(f"m{n}", *"abcdefgh"))
        everything = lines(await read_journal(store, "t"))
        check_equal(len(everything), 101, "return every frame that was appended")
        for limit in (1, 100, 1000, 10_000):
            check_equal(
                lines(await read_journal(store, "t", limit=limit)),
                everything,
                f"pages of {limit} bytes skip or repeat frames",
            )
        small = await store.journal("t", 0, None, 1)
        check_equal(len(small.frames.events()), 1, "a page over its limit ends after a frame")
        page = await store.journal("t", 0, None, 1000)
        check(len(bytes(page.frames)) < 2000, "a page is about `limit` bytes, not the whole run")

    async def test_the_journal_begins_right_after_any_sequence_number(self, store: Store) -> None:
        """The journal returns exactly the frames after a number, wherever batches begin."""
        writer = await begin(store, "t", "r")
        await writer.write(*text("m1", *"abc"))
        await writer.write(*text("m2", *"abc"))
        everything = lines(await read_journal(store, "t"))
        for after in range(len(everything) + 2):
            check_equal(lines(await read_journal(store, "t", after)), everything[after:], f"begin right after {after}")

    async def test_the_journal_until_a_number_omits_later_runs(self, store: Store) -> None:
        """`until` omits every run that begins after it, for the readers of one run."""
        for n in range(3):
            await store_run(store, "t", f"r{n}")
        for until, last in ((1, 5), (5, 5), (6, 10), (10, 10), (11, 15)):
            seqs = [event.seq for event in await read_journal(store, "t", 0, until)]
            check_equal(seqs[:until], list(range(1, until + 1)), f"return every frame up to {until}")
            check(len(seqs) <= last, f"return nothing of a run that begins after {until}")

    async def test_a_page_has_the_token_of_the_live_run(self, store: Store) -> None:
        """A page has the live run's token at the moment of reading, or `None`."""
        check_equal((await store.journal("t", 0, None, 100)).live_token, None, "an unknown thread has no live run")
        first = await begin(store, "t", "r1")
        check_equal((await store.journal("t", 0, None, 100)).live_token, first.claim.token, "the live run's token")
        await first.end()
        check_equal((await store.journal("t", 0, None, 100)).live_token, None, "the run has ended")
        second = await begin(store, "t", "r2")
        check_equal((await store.journal("t", 0, None, 100)).live_token, second.claim.token, "the live run's token")

    async def test_frames_and_token_are_read_at_the_same_moment(self, store: Store) -> None:
        """A page has frames of the run with its token and of earlier runs, never of a later one."""
        run_of: dict[int, int] = {}
        done = asyncio.Event()

        async def look() -> None:
            while not done.is_set():
                page = await store.journal("t", 0, None, 1 << 20)
                last = max((event.seq or 0 for event in page.frames.events()), default=0)
                if page.live_token is not None and page.live_token in run_of:
                    limit = run_of[page.live_token] + 4
                    check(last <= limit, "read the frames and the live token in one step")
                await asyncio.sleep(0)

        looking = [asyncio.ensure_future(look()) for _ in range(3)]
        for n in range(20):
            writer = await begin(store, "t", f"r{n}")
            run_of[writer.claim.token] = writer.claim.first_seq
            await writer.write(*text("m", "x"))
            await writer.end()
        done.set()
        await asyncio.gather(*looking)

    async def test_changed_returns_within_about_a_second(self, store: Store) -> None:
        """`changed` returns within about a second even if nothing changes."""
        await begin(store, "t", "r")
        async with asyncio.timeout(CHANGED_SECONDS):
            await asyncio.gather(store.changed("t", 1), store.changed("unknown", 0), store.changed("t", 900))

    async def test_cancelling_one_follower_does_not_affect_others(self, store: Store) -> None:
        """If one follower in `changed` is cancelled, the others are woken all the same."""
        writer = await begin(store, "t", "r")
        waiting = [asyncio.ensure_future(_follow(store, "t", 3)) for _ in range(10)]
        await asyncio.sleep(0)
        for task in waiting[::2]:
            task.cancel()
        await asyncio.gather(*waiting[::2], return_exceptions=True)
        await writer.write(*text("m"))
        for followed in await asyncio.gather(*waiting[1::2]):
            check_equal(followed, [1, 2, 3], "wake those who still wait")

    async def test_a_follower_reads_a_run_to_its_end(self, store: Store) -> None:
        """A follower that uses `changed` reads every frame of the run, and learns of its end."""
        await self._check_followed(store, store)

    async def test_a_follower_in_another_process_reads_a_run_to_its_end(self, store: Store) -> None:
        """A follower in another process reads every frame too, and learns of the run's end."""
        needs_shared(store)
        async with self.open_store() as other:
            await self._check_followed(store, other)

    async def _check_followed(self, store: Store, reader: Store) -> None:
        writer = await begin(store, "t", "r")
        following = [asyncio.ensure_future(_follow(reader, "t", 152)) for _ in range(3)]
        for n in range(30):
            await writer.write(*text(f"m{n}", "a", "b", "c"))
        await writer.end()
        for followed in await asyncio.gather(*following):
            check_equal(followed, list(range(1, 153)), "every frame once, in order, the last one too")
        while (await reader.journal("t", 152, None, 1)).live_token is not None:
            await reader.changed("t", 152)

    async def test_changed_returns_when_a_run_ends_without_new_frames(self, store: Store) -> None:
        """`changed` returns when the live run has ended, even if there are no new frames."""
        writer = await begin(store, "t", "r")
        waiting = asyncio.ensure_future(_wait_until_replaced(store, writer))
        await writer.finish()
        await waiting


async def _follow(store: Store, thread_id: str, last: int) -> list[int | None]:
    seen: list[int | None] = []
    while len(seen) < last:
        events = (await store.journal(thread_id, len(seen), None, 1 << 20)).frames.events()
        seen += [event.seq for event in events]
        if not events:
            await store.changed(thread_id, len(seen))
    return seen


async def _wait_until_replaced(store: Store, writer: Writer) -> None:
    while (await store.journal("t", 1, None, 1)).live_token == writer.claim.token:
        await store.changed("t", 1)
