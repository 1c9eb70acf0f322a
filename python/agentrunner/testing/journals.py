"""Raw frames, read and followed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agentrunner.testing.base import Chapter, needs_shared
from agentrunner.testing.checks import check, equal
from agentrunner.testing.writer import Writer, begin, lines, raw, text, whole

if TYPE_CHECKING:
    from agentrunner.stores import Store

SOON = 15.0
"""Seconds for what is to take one at most: a machine may be busy."""


class Journals(Chapter):
    """The journal gives raw frames as they were appended; `changed` says when there may be more."""

    async def test_pages_of_any_size(self, store: Store) -> None:
        """A page has about `limit` bytes, at least a frame if there is one; pages in turn give everything once."""
        writer = await begin(store, "t", "r")
        for n in range(10):
            await writer.write(*text(f"m{n}", *"abcdefgh"))
        everything = lines(await raw(store, "t"))
        equal(len(everything), 101, "give every frame that was appended")
        for limit in (1, 100, 1000, 10_000):
            equal(lines(await raw(store, "t", limit=limit)), everything, f"pages of {limit} bytes skip or double")
        small = await store.journal("t", 0, None, 1)
        equal(len(small.frames.events()), 1, "a page over its limit is ended behind a frame")
        page = await store.journal("t", 0, None, 1000)
        check(len(bytes(page.frames)) < 2000, "a page is about `limit` bytes, not the whole run")

    async def test_behind_any_number(self, store: Store) -> None:
        """The journal gives exactly the frames behind a sequence number, wherever batches begin."""
        writer = await begin(store, "t", "r")
        await writer.write(*text("m1", *"abc"))
        await writer.write(*text("m2", *"abc"))
        everything = lines(await raw(store, "t"))
        for after in range(len(everything) + 2):
            equal(lines(await raw(store, "t", after)), everything[after:], f"begin right behind {after}")

    async def test_until_a_later_run(self, store: Store) -> None:
        """`until` leaves out every run that begins after it: a reader of one run is given nothing of the next."""
        for n in range(3):
            await whole(store, "t", f"r{n}")
        for until, last in ((1, 5), (5, 5), (6, 10), (10, 10), (11, 15)):
            found = [event.seq for event in await raw(store, "t", 0, until)]
            equal(found[:until], list(range(1, until + 1)), f"give every frame up to {until}")
            check(len(found) <= last, f"give nothing of a run that begins after {until}")

    async def test_the_live_token_is_told(self, store: Store) -> None:
        """A page says the live run's token at the moment of reading, or none where no run is live."""
        equal((await store.journal("t", 0, None, 100)).live_token, None, "an unknown thread has no live run")
        first = await begin(store, "t", "r1")
        equal((await store.journal("t", 0, None, 100)).live_token, first.claim.token, "the live run's token")
        await first.end()
        equal((await store.journal("t", 0, None, 100)).live_token, None, "the run has ended")
        second = await begin(store, "t", "r2")
        equal((await store.journal("t", 0, None, 100)).live_token, second.claim.token, "the live run's token")

    async def test_the_token_and_the_frames_are_of_one_moment(self, store: Store) -> None:
        """Frames that come with a run's token are that run's, or an earlier one's: never a later one's."""
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

    async def test_changed_comes_back(self, store: Store) -> None:
        """`changed` returns within about a second though nothing has changed, of an unknown thread too."""
        await begin(store, "t", "r")
        async with asyncio.timeout(SOON):
            await asyncio.gather(store.changed("t", 1), store.changed("unknown", 0), store.changed("t", 900))

    async def test_a_cancelled_follower_costs_the_others_nothing(self, store: Store) -> None:
        """Who stops waiting in `changed` leaves the others waiting."""
        writer = await begin(store, "t", "r")
        waiting = [asyncio.ensure_future(_follow(store, "t", 3)) for _ in range(10)]
        await asyncio.sleep(0)
        for task in waiting[::2]:
            task.cancel()
        await asyncio.gather(*waiting[::2], return_exceptions=True)
        await writer.write(*text("m"))
        for followed in await asyncio.gather(*waiting[1::2]):
            equal(followed, [1, 2, 3], "wake those who still wait")

    async def test_a_run_is_followed_to_its_end(self, store: Store) -> None:
        """Who waits with `changed` and reads sees every frame of the run, and that it has ended."""
        await self._followed(store, store)

    async def test_a_run_is_followed_from_another_process(self, store: Store) -> None:
        """A run of another process is followed the same way."""
        needs_shared(store)
        async with self.opened() as other:
            await self._followed(store, other)

    async def _followed(self, store: Store, reader: Store) -> None:
        writer = await begin(store, "t", "r")
        following = [asyncio.ensure_future(_follow(reader, "t", 152)) for _ in range(3)]
        for n in range(30):
            await writer.write(*text(f"m{n}", "a", "b", "c"))
        await writer.end()
        for followed in await asyncio.gather(*following):
            equal(followed, list(range(1, 153)), "every frame once, in order, the last one too")
        while (await reader.journal("t", 152, None, 1)).live_token is not None:
            await reader.changed("t", 152)

    async def test_the_end_of_a_silent_run_is_a_change(self, store: Store) -> None:
        """`changed` returns when the live run has ended, or is another, though there are no new frames."""
        writer = await begin(store, "t", "r")
        waiting = asyncio.ensure_future(_gone(store, writer))
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


async def _gone(store: Store, writer: Writer) -> None:
    while (await store.journal("t", 1, None, 1)).live_token == writer.claim.token:
        await store.changed("t", 1)
