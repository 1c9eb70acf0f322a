"""Appending under a claim, and what becomes of a claim that is no longer the newest."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING
from unittest import SkipTest

from agentrunner import _core
from agentrunner.errors import LeaseLost
from agentrunner.testing.base import Chapter, needs_shared
from agentrunner.testing.checks import check, equal, refused
from agentrunner.testing.writer import Writer, begin, history, lines, raw, recovered, text, whole

if TYPE_CHECKING:
    from agentrunner.stores import Store

FENCED = "check the fencing token in the same atomic step that writes"
TTL = 1.0


class Leases(Chapter):
    """Only the newest claim writes; what an append has returned from is there."""

    async def test_what_is_appended_is_there(self, store: Store) -> None:
        """What `append` has returned from can be read from the journal at once, byte for byte."""
        writer = await begin(store, "t", "r")
        for n in range(5):
            await writer.write(*text(f"m{n}", "one", "two ü\u0000\u2028"))
            frames, _ = writer.recorder.read(0, 1 << 20)
            check(frames, "the recorder must have what was appended")
            equal(
                lines(await raw(store, "t")), lines(frames.events() if frames else []), "keep a batch before it returns"
            )

    async def test_what_is_appended_outlives_the_store(self) -> None:
        """What `append` has returned from is durable: it is there when the store is opened again."""
        self.needs_durable()
        async with self.opened(lease_ttl=0.3) as store:
            writer = await begin(store, "t", "r")
            await writer.write(*text("m", "one"))
            before = lines(await raw(store, "t"))
        async with self.opened() as again:
            equal(lines(await raw(again, "t")), before, "write a batch down before `append` returns")

    async def test_runs_that_append_at_once_are_kept_apart(self, store: Store) -> None:
        """Appends of many runs at once are each kept whole and in their run's order."""
        writers = [await begin(store, f"t{n}", f"r{n}") for n in range(20)]

        async def talk(writer: Writer) -> None:
            for n in range(10):
                await writer.write(*text(f"m{n}", writer.claim.run_id))
            await writer.end()

        await asyncio.gather(*map(talk, writers))
        for writer in writers:
            events = await raw(store, writer.claim.thread_id)
            equal([event.seq for event in events], list(range(1, 33)), "number a thread's events densely, from 1")
            said = {event.to_dict()["delta"] for event in events if event.type == "TEXT_MESSAGE_CONTENT"}
            equal(said, {writer.claim.run_id}, "keep the frames of a run with its own thread")

    async def test_an_ended_run_writes_no_more(self, store: Store) -> None:
        """After `finish` the claim is worth nothing: an append raises `LeaseLost` and `renew` gives false."""
        writer = await whole(store, "t", "r")
        before = lines(await raw(store, "t"))
        late = _core.Batch(b"id: 6\ndata: {}\n\n", 6, 1)
        await refused(LeaseLost, store.append(writer.claim, late, False), FENCED)
        equal(await store.renew([writer.claim]), [False], "a run that has ended holds nothing")
        equal(lines(await raw(store, "t")), before, "a refused append must write nothing")

    async def test_a_claim_of_an_earlier_run_is_fenced(self, store: Store) -> None:
        """A claim that is not the newest is told so and writes nothing: `append` and `finish` raise `LeaseLost`."""
        old = await begin(store, "t", "r1")
        zombie = Writer(store, old.claim)
        await old.end()
        new = await begin(store, "t", "r2")
        await _fenced(store, zombie, new)
        await new.end()
        equal((await store.thread("t")).runs, 2, "the newest claim finishes its run as if nothing had been")

    async def test_a_made_up_claim_is_fenced(self, store: Store) -> None:
        """It is the token that counts: a claim like the live one but for its token writes nothing."""
        live = await begin(store, "t", "r")
        for token in (live.claim.token - 1, live.claim.token + 1):
            forged = _core.Claim("t", "r", token, live.claim.first_seq, live.claim.input)
            await _fenced(store, Writer(store, forged), live)
        await live.end()

    async def test_who_was_taken_over_is_fenced(self, store: Store) -> None:
        """Once a silent owner's run was recovered, its old claim writes nothing, though it lives on in its process."""
        needs_shared(store)
        async with self.opened(lease_ttl=0.3) as silent:
            zombie = await begin(silent, "t", "r")
            (taken,) = await recovered(store, "t")
            check(taken.token > zombie.claim.token, "`recover` must give a new, greater token")
            successor = await Writer(store, taken).replay()
            await _fenced(silent, zombie, successor)
            await successor.end()
            await _fenced(silent, zombie, await begin(store, "t", "r2"))

    async def test_renewing_and_appending_keep_a_lease(self, store: Store) -> None:
        """`renew` and `append` each extend the lease; nobody recovers a run whose owner speaks within `lease_ttl`."""
        needs_shared(store)
        async with self.opened(lease_ttl=TTL) as owner:
            renewed, appending = await begin(owner, "renewed", "r1"), await begin(owner, "appending", "r2")
            spoke = began = time.monotonic()
            while spoke - began < 2 * TTL:
                equal(await owner.renew([renewed.claim]), [True], "`renew` says true for a lease that is held")
                await appending.write({"type": "CUSTOM", "name": "n", "value": 1})
                quiet, spoke = time.monotonic() - spoke, time.monotonic()
                if quiet > TTL / 2:
                    raise SkipTest(f"not run: this machine paused for {quiet:.1f} s, too long to tell")
                equal(await store.recover(), [], "a lease that was extended in time must not be taken over")
                await asyncio.sleep(0.05)

    async def test_renews_several_at_once(self, store: Store) -> None:
        """`renew` answers for each claim in turn, of any thread, known or not."""
        live = await begin(store, "live", "r1")
        ended = await whole(store, "ended", "r2")
        unknown = _core.Claim("unknown", "r3", live.claim.token, 1, "{}")
        claims = [ended.claim, live.claim, unknown]
        equal(await store.renew(claims), [False, True, False], "answer in the order asked")
        equal(await store.renew([]), [], "nothing asked, nothing answered")

    async def test_a_silent_owner_loses_its_run(self, store: Store) -> None:
        """A lease that is not renewed for `lease_ttl` seconds ends: another process may recover the run then."""
        needs_shared(store)
        async with self.opened(lease_ttl=0.3) as silent:
            equal(silent.lease_ttl, 0.3, "`lease_ttl` says what was asked for, in seconds")
            writer = await begin(silent, "t", "r")
            (taken,) = await recovered(store)
            equal((taken.thread_id, taken.run_id), ("t", "r"), "recover the run whose lease has ended")
            equal(await silent.renew([writer.claim]), [False], "a lease that was taken over is not renewed")


async def _fenced(store: Store, zombie: Writer, live: Writer) -> None:
    """See that the zombie's every verb is refused and that nothing is changed by it."""
    thread_id = zombie.claim.thread_id
    before = lines(await raw(live.store, thread_id)), lines(await history(live.store, thread_id))
    batch = _core.Batch(b'id: 900\ndata: {"type":"CUSTOM","name":"late","value":1}\n\n', 900, 1)
    await refused(LeaseLost, store.append(zombie.claim, batch, True), FENCED)
    for stored in (True, False):
        await refused(LeaseLost, store.finish(zombie.claim, zombie.recorder, stored), FENCED)
    equal(await store.renew([zombie.claim]), [False], "`renew` says false for a claim that is not the newest")
    after = lines(await raw(live.store, thread_id)), lines(await history(live.store, thread_id))
    equal(after, before, "a refused verb must write nothing")
    equal(await live.store.live(thread_id), [(live.claim, False)], "the live run stays as it is")
