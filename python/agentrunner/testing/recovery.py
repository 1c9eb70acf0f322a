"""Tests for `recover`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agentrunner.errors import ThreadAlreadyRunning
from agentrunner.testing.base import ConformanceTests, needs_shared
from agentrunner.testing.checks import check, check_equal, check_raises
from agentrunner.testing.writer import Writer, begin, claim, history, lines, read_journal, text, wait_and_recover

if TYPE_CHECKING:
    from agentrunner._core import Claim
    from agentrunner.stores import Store

SHORT_TTL = 0.3
"""Seconds of a lease that ends soon after its store is closed.

Some stores do not see otherwise that the owner is gone.
"""


class RecoveryTests(ConformanceTests):
    """Exactly one process takes over a run whose owner is gone, with all its frames."""

    async def _left(self, *threads: str) -> list[Claim]:
        """Start runs and close their store, as a killed process leaves them."""
        async with self.open_store(lease_ttl=SHORT_TTL) as store:
            writers = [await begin(store, thread, f"run of {thread}", agent_id="agent") for thread in threads]
            for writer in writers:
                await writer.write(*text("m", "shown"))
            return [writer.claim for writer in writers]

    async def test_recover_leaves_runs_whose_owner_is_alive(self, store: Store) -> None:
        """A run whose owner is alive is not taken over, by its own process or another."""
        live = await begin(store, "t", "r")
        check_equal(await store.recover(), [], "its owner is here")
        if store.shared:
            async with self.open_store() as other:
                check_equal(await other.recover(), [], "its owner lives and its lease has not ended")
                check_equal(await other.recover("t"), [], "its owner lives and its lease has not ended")
        await live.end()
        check_equal((await store.thread("t")).runs, 1, "it ends as if nothing had happened")

    async def test_recover_takes_over_a_run_whose_owner_is_gone(self) -> None:
        """`recover` returns the run, with all its frames, under a new token."""
        self.needs_durable()
        (old,) = await self._left("t")
        async with self.open_store() as store:
            shown = lines(await read_journal(store, "t"))
            (new,) = await wait_and_recover(store)
            check_equal(
                (new.thread_id, new.run_id, new.first_seq, new.input, new.agent_id),
                (old.thread_id, old.run_id, old.first_seq, old.input, old.agent_id),
                "the claim is the same run's",
            )
            check(new.token > old.token, "a new token, greater than any before it: the old owner may yet wake up")
            check_equal(await store.live("t"), [(new, False)], "the run is live under its new token")
            check_equal(lines(await read_journal(store, "t")), shown, "what was shown is there")
            check_equal(await store.recover(), [], "once taken over it has an owner that lives")
            writer = await Writer(store, new).replay()
            writer.recorder.finalize(message="interrupted", code="INTERRUPTED")
            await writer.end()
            check_equal(
                lines(await read_journal(store, "t"))[: len(shown)], shown, "the run continues after what was shown"
            )
            check_equal((await history(store, "t"))[-1].type, "RUN_ERROR", "the recovered run is history")
            thread = await store.thread("t")
            check_equal((thread.runs, thread.running, thread.agent_id), (1, False, "agent"), "and the thread is free")

    async def test_a_claim_does_not_take_over_a_run(self) -> None:
        """A thread whose owner is gone stays claimed until its run is recovered.

        So nothing that was shown of the run is lost.
        """
        self.needs_durable()
        await self._left("t")
        async with self.open_store() as store:
            await check_raises(ThreadAlreadyRunning, claim(store, "t", "next"), "only `recover` takes a run over")
            (new,) = await wait_and_recover(store, "t")
            await check_raises(ThreadAlreadyRunning, claim(store, "t", "next"), "the run was taken over, not ended")
            await (await Writer(store, new).replay()).end()
            await (await begin(store, "t", "next")).end()
            check_equal((await store.thread("t")).runs, 2, "then the thread is free")

    async def test_recover_with_a_thread_id_takes_over_only_its_run(self) -> None:
        """With a thread id, only that thread's run is taken over."""
        self.needs_durable()
        await self._left("a", "b", "c")
        async with self.open_store() as store:
            check_equal(
                [new.thread_id for new in await wait_and_recover(store, "b")],
                ["b"],
                "only the thread that is named",
            )
            check_equal(await store.recover("unknown"), [], "an unknown thread has nothing to recover")
            rest: list[str] = []
            while len(rest) < 2:
                rest += [new.thread_id for new in await wait_and_recover(store)]
            check_equal(sorted(rest), ["a", "c"], "without a name all the others")

    async def test_of_many_processes_exactly_one_recovers_a_run(self) -> None:
        """Of processes that call `recover` at the same time, exactly one gets a run."""
        async with self.open_store() as one:
            needs_shared(one)
            await self._left("a", "b", "c")
            async with self.open_store() as other:
                taken: list[Claim] = []
                while len(taken) < 3:
                    for claims in await asyncio.gather(*(store.recover() for store in (one, other) for _ in range(5))):
                        taken += claims
                names = sorted(claim.thread_id for claim in taken)
                check_equal(
                    names, ["a", "b", "c"], "return a run to one who asks: look and take over in one atomic step"
                )

    async def test_a_thread_without_runs_and_frames_is_the_same_after_reopening(self) -> None:
        """Numbers stay as they are for a thread whose only run was not stored.

        That holds after its raw frames are gone and the store is opened again.
        """
        self.needs_durable()
        async with self.open_store(resume_window=0.0) as store:
            await (await begin(store, "t", "r1")).end(stored=False)
            while await read_journal(store, "t"):
                await store.recover()
                await asyncio.sleep(0.01)
            await store.recover()
            kept = await begin(store, "t", "r2")
            await kept.end()
            before = lines(await history(store, "t"))
        async with self.open_store() as again:
            check_equal(
                lines(await history(again, "t")), before, "what came after it is there, with its sequence numbers"
            )
            new, _ = await claim(again, "t", "r3")
            check_equal(new.first_seq, kept.recorder.last_seq + 1, "and the thread continues after it")

    async def test_recover_keeps_every_batch_that_was_appended(self) -> None:
        """Every appended batch of a run is there after one recovery, and after a second."""
        self.needs_durable()
        async with self.open_store(lease_ttl=SHORT_TTL) as store:
            writer = await begin(store, "t", "r")
            for n in range(50):
                await writer.write({"type": "CUSTOM", "name": "n", "value": n})
        async with self.open_store(lease_ttl=SHORT_TTL) as second:
            (new,) = await wait_and_recover(second)
            heir = await Writer(second, new).replay()
            check_equal(heir.recorder.last_seq, 51, "nothing that was appended is lost")
            await heir.write({"type": "CUSTOM", "name": "heir", "value": 0})
        async with self.open_store() as third:
            (last,) = await wait_and_recover(third)
            check(last.token > new.token, "each owner has a greater token than the one before")
            heir = await Writer(third, last).replay()
            check_equal(heir.recorder.last_seq, 52, "nothing that was appended is lost")
            await heir.end()
            check_equal((await third.thread("t")).runs, 1, "it is one run through all its owners")
