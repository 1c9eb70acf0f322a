"""Tests for `append` and `renew`, and for claims that are not the newest."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from unittest import SkipTest

from agentrunner import _core
from agentrunner.errors import LeaseLost
from agentrunner.testing.base import ConformanceTests, needs_shared
from agentrunner.testing.checks import check, check_equal, check_raises
from agentrunner.testing.writer import (
    Writer,
    begin,
    fall_silent,
    history,
    lines,
    read_journal,
    store_run,
    text,
    wait_and_recover,
)

if TYPE_CHECKING:
    from agentrunner.stores import Store

FENCED = "check the fencing token in the same atomic step that writes"
RENEWED_TTL = 1.0
BLOCKED_TTL = 0.2


class LeaseTests(ConformanceTests):
    """Only the newest claim writes, and what `append` has stored is there."""

    async def test_what_was_appended_can_be_read_at_once(self, store: Store) -> None:
        """When `append` returns, the journal has the batch, byte for byte."""
        writer = await begin(store, "t", "r")
        for n in range(5):
            await writer.write(*text(f"m{n}", "one", "two ü\u0000\u2028"))
            frames, _ = writer.recorder.read(0, 1 << 20)
            check(frames, "the recorder must have what was appended")
            check_equal(
                lines(await read_journal(store, "t")),
                lines(frames.events() if frames else []),
                "store a batch before `append` returns",
            )

    async def test_what_was_appended_is_there_after_the_store_is_reopened(self) -> None:
        """When `append` returns, the batch is durable."""
        self.needs_durable()
        async with self.open_store(lease_ttl=0.3) as store:
            writer = await begin(store, "t", "r")
            await writer.write(*text("m", "one"))
            before = lines(await read_journal(store, "t"))
        async with self.open_store() as again:
            check_equal(lines(await read_journal(again, "t")), before, "write a batch down before `append` returns")

    async def test_simultaneous_appends_of_many_runs_are_kept_apart(self, store: Store) -> None:
        """Simultaneous appends of many runs are stored whole, each in the order of its run."""
        writers = [await begin(store, f"t{n}", f"r{n}") for n in range(20)]

        async def talk(writer: Writer) -> None:
            for n in range(10):
                await writer.write(*text(f"m{n}", writer.claim.run_id))
            await writer.end()

        await asyncio.gather(*map(talk, writers))
        for writer in writers:
            events = await read_journal(store, writer.claim.thread_id)
            check_equal([event.seq for event in events], list(range(1, 33)), "number a thread's events densely, from 1")
            deltas = {event.to_dict()["delta"] for event in events if event.type == "TEXT_MESSAGE_CONTENT"}
            check_equal(deltas, {writer.claim.run_id}, "keep the frames of a run with its own thread")

    async def test_an_append_after_finish_raises_LeaseLost(self, store: Store) -> None:
        """After `finish`, an append with the claim raises `LeaseLost`, and `renew` returns false."""
        writer = await store_run(store, "t", "r")
        before = lines(await read_journal(store, "t"))
        late = _core.Batch(b"id: 6\ndata: {}\n\n", 6, 1)
        await check_raises(LeaseLost, store.append(writer.claim, late, False), FENCED)
        check_equal(await store.renew([writer.claim]), [False], "a run that has ended holds nothing")
        check_equal(lines(await read_journal(store, "t")), before, "a refused append must write nothing")

    async def test_a_claim_of_an_earlier_run_raises_LeaseLost(self, store: Store) -> None:
        """`append` and `finish` with an older claim raise `LeaseLost` and write nothing."""
        old = await begin(store, "t", "r1")
        zombie = Writer(store, old.claim)
        await old.end()
        new = await begin(store, "t", "r2")
        await _check_fenced(store, zombie, new)
        await new.end()
        check_equal((await store.thread("t")).runs, 2, "the newest claim finishes its run as if nothing had been")

    async def test_a_claim_with_another_token_raises_LeaseLost(self, store: Store) -> None:
        """A claim that equals the live one except for its token writes nothing."""
        live = await begin(store, "t", "r")
        for token in (live.claim.token - 1, live.claim.token + 1):
            forged = _core.Claim("t", "r", token, live.claim.first_seq, live.claim.input)
            await _check_fenced(store, Writer(store, forged), live)
        await live.end()

    async def test_the_former_owner_of_a_recovered_run_raises_LeaseLost(self, store: Store) -> None:
        """After a silent owner's run was recovered, its old claim writes nothing.

        The owner may still be alive in its process.
        """
        needs_shared(store)
        async with self.open_store(lease_ttl=0.3) as silent:
            zombie = await begin(silent, "t", "r")
            await fall_silent(silent, zombie.claim)
            (taken,) = await wait_and_recover(store, "t")
            check(taken.token > zombie.claim.token, "`recover` must give a new, greater token")
            successor = await Writer(store, taken).replay()
            await _check_fenced(silent, zombie, successor)
            await successor.end()
            await _check_fenced(silent, zombie, await begin(store, "t", "r2"))

    async def test_renew_and_append_extend_the_lease(self, store: Store) -> None:
        """`renew` and `append` each extend the lease, so that no other process recovers the run."""
        needs_shared(store)
        async with self.open_store(lease_ttl=RENEWED_TTL) as owner:
            renewed, appending = await begin(owner, "renewed", "r1"), await begin(owner, "appending", "r2")
            for writer in (renewed, appending):
                await fall_silent(owner, writer.claim)
            spoke = began = time.monotonic()
            while spoke - began < 2 * RENEWED_TTL:
                check_equal(await owner.renew([renewed.claim]), [True], "`renew` returns true for a lease that is held")
                await appending.write({"type": "CUSTOM", "name": "n", "value": 1})
                quiet, spoke = time.monotonic() - spoke, time.monotonic()
                if quiet > RENEWED_TTL / 2:
                    raise SkipTest(f"not run: this machine paused for {quiet:.1f} s, too long to tell")
                check_equal(await store.recover(), [], "a lease that was extended in time must not be taken over")
                await asyncio.sleep(0.05)

    async def test_a_lease_lasts_while_the_event_loop_is_blocked(self, store: Store) -> None:
        """A lease is extended without the event loop, until the claim is released or finished."""
        needs_shared(store)
        if not hasattr(store, "release"):
            raise SkipTest("only for stores that extend leases in a thread of their own")
        async with self.open_store(lease_ttl=BLOCKED_TTL) as owner:
            held = await begin(owner, "held", "r1")
            time.sleep(2 * BLOCKED_TTL)  # noqa: ASYNC251 - the event loop must be blocked
            check_equal(await store.recover(), [], "the process that has the claim is alive")
            check_equal(await owner.renew([held.claim]), [True], "no other owner has the thread")
            await held.write(*text("m", "after the pause"))
            await held.end()
        check_equal((await store.thread("held")).runs, 1, "the run ends as if nothing had happened")

    async def test_a_store_of_the_same_process_takes_over_no_claim_that_is_used(self, store: Store) -> None:
        """A claim that this process uses is not taken over, even if its lease has ended."""
        needs_shared(store)
        if not hasattr(store, "release"):
            raise SkipTest("only for stores that extend leases in a thread of their own")
        async with self.open_store(lease_ttl=BLOCKED_TTL) as owner:
            claimed = await begin(owner, "t", "r")
            check(await store.request_stop("t", None), "mark the run, so that its lease is extended by `renew` alone")
            time.sleep(2 * BLOCKED_TTL)  # noqa: ASYNC251 - the event loop must be blocked
            check_equal(await owner.recover(), [], "its own claim is still used")
            check_equal(await store.recover("t"), [], "a claim that is used in the same process")
            check_equal(await owner.renew([claimed.claim]), [True], "no other owner has the thread")
            await claimed.end()

    async def test_renew_answers_for_each_claim_in_order(self, store: Store) -> None:
        """`renew` returns a value for each claim, in order, for unknown threads too."""
        live = await begin(store, "live", "r1")
        ended = await store_run(store, "ended", "r2")
        unknown = _core.Claim("unknown", "r3", live.claim.token, 1, "{}")
        claims = [ended.claim, live.claim, unknown]
        check_equal(await store.renew(claims), [False, True, False], "answer in the order of the claims")
        check_equal(await store.renew([]), [], "no claims, no answers")

    async def test_a_lease_ends_after_lease_ttl(self, store: Store) -> None:
        """A lease that is not renewed for `lease_ttl` seconds ends, and the run can be recovered."""
        needs_shared(store)
        async with self.open_store(lease_ttl=0.3) as silent:
            check_equal(silent.lease_ttl, 0.3, "`lease_ttl` is the option's value, in seconds")
            writer = await begin(silent, "t", "r")
            await fall_silent(silent, writer.claim)
            (taken,) = await wait_and_recover(store)
            check_equal((taken.thread_id, taken.run_id), ("t", "r"), "recover the run whose lease has ended")
            check_equal(await silent.renew([writer.claim]), [False], "a lease that was taken over is not renewed")


async def _check_fenced(store: Store, zombie: Writer, live: Writer) -> None:
    """Check that every method with the zombie's claim raises and changes nothing."""
    thread_id = zombie.claim.thread_id
    before = lines(await read_journal(live.store, thread_id)), lines(await history(live.store, thread_id))
    batch = _core.Batch(b'id: 900\ndata: {"type":"CUSTOM","name":"late","value":1}\n\n', 900, 1)
    await check_raises(LeaseLost, store.append(zombie.claim, batch, True), FENCED)
    for stored in (True, False):
        await check_raises(LeaseLost, store.finish(zombie.claim, zombie.recorder, stored), FENCED)
    check_equal(await store.renew([zombie.claim]), [False], "`renew` returns false for a claim that is not the newest")
    after = lines(await read_journal(live.store, thread_id)), lines(await history(live.store, thread_id))
    check_equal(after, before, "a refused verb must write nothing")
    check_equal(await live.store.live(thread_id), [(live.claim, False)], "the live run stays as it is")
