"""Taking over what a process left behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agentrunner.errors import ThreadAlreadyRunning
from agentrunner.testing.base import Chapter, needs_shared
from agentrunner.testing.checks import check, equal, refused
from agentrunner.testing.writer import Writer, begin, claim, history, lines, raw, recovered, text

if TYPE_CHECKING:
    from agentrunner._core import Claim
    from agentrunner.stores import Store

TTL = 0.3
"""So short that the lease of a store that is closed ends soon, where the store does not see that its owner is gone."""


class Recovery(Chapter):
    """A run whose owner is gone is taken over, with all that was shown of it, by one process."""

    async def _left(self, *threads: str) -> list[Claim]:
        """Leave live runs behind, as a process that is killed does."""
        async with self.opened(lease_ttl=TTL) as store:
            writers = [await begin(store, thread, f"run of {thread}", agent_id="agent") for thread in threads]
            for writer in writers:
                await writer.write(*text("m", "shown"))
            return [writer.claim for writer in writers]

    async def test_there_is_nothing_to_recover(self, store: Store) -> None:
        """A run whose owner is alive is not taken over, by its own process or another."""
        live = await begin(store, "t", "r")
        equal(await store.recover(), [], "its owner is here")
        if store.shared:
            async with self.opened() as other:
                equal(await other.recover(), [], "its owner lives and its lease has not ended")
                equal(await other.recover("t"), [], "its owner lives and its lease has not ended")
        await live.end()
        equal((await store.thread("t")).runs, 1, "it ends as if nobody had looked")

    async def test_a_run_left_behind_is_recovered(self) -> None:
        """`recover` gives the run with all it had under a new token; replayed and finished, it is history."""
        self.needs_durable()
        (old,) = await self._left("t")
        async with self.opened() as store:
            shown = lines(await raw(store, "t"))
            (new,) = await recovered(store)
            equal(
                (new.thread_id, new.run_id, new.first_seq, new.input, new.agent_id),
                (old.thread_id, old.run_id, old.first_seq, old.input, old.agent_id),
                "the claim is the same run's",
            )
            check(new.token > old.token, "a new token, greater than any before it: the old owner may yet wake up")
            equal(await store.live("t"), [(new, False)], "the run is live under its new token")
            equal(lines(await raw(store, "t")), shown, "what was shown is there")
            equal(await store.recover(), [], "once taken over it has an owner that lives")
            writer = await Writer(store, new).replay()
            writer.recorder.finalize(message="interrupted", code="INTERRUPTED")
            await writer.end()
            equal(lines(await raw(store, "t"))[: len(shown)], shown, "the run goes on behind what was shown")
            equal((await history(store, "t"))[-1].type, "RUN_ERROR", "the recovered run is history")
            thread = await store.thread("t")
            equal((thread.runs, thread.running, thread.agent_id), (1, False, "agent"), "and the thread is free")

    async def test_a_claim_does_not_take_over(self) -> None:
        """A thread whose owner is gone is refused until it was recovered: what was shown of its run is not lost."""
        self.needs_durable()
        await self._left("t")
        async with self.opened() as store:
            await refused(ThreadAlreadyRunning, claim(store, "t", "next"), "only `recover` takes a run over")
            (new,) = await recovered(store, "t")
            await refused(ThreadAlreadyRunning, claim(store, "t", "next"), "the run was taken over, not ended")
            await (await Writer(store, new).replay()).end()
            await (await begin(store, "t", "next")).end()
            equal((await store.thread("t")).runs, 2, "then the thread is free")

    async def test_one_thread_is_recovered(self) -> None:
        """With a thread id only that thread's run is taken over."""
        self.needs_durable()
        await self._left("a", "b", "c")
        async with self.opened() as store:
            equal([found.thread_id for found in await recovered(store, "b")], ["b"], "only the thread that is named")
            equal(await store.recover("unknown"), [], "an unknown thread has nothing to recover")
            rest: list[str] = []
            while len(rest) < 2:
                rest += [found.thread_id for found in await recovered(store)]
            equal(sorted(rest), ["a", "c"], "without a name all the others")

    async def test_one_process_recovers_a_run(self) -> None:
        """Of processes that look at the same time one takes a run over."""
        async with self.opened() as one:
            needs_shared(one)
            await self._left("a", "b", "c")
            async with self.opened() as other:
                taken: list[Claim] = []
                while len(taken) < 3:
                    for found in await asyncio.gather(*(store.recover() for store in (one, other) for _ in range(5))):
                        taken += found
                names = sorted(claim.thread_id for claim in taken)
                equal(names, ["a", "b", "c"], "give a run to one who asks: look and take over in one atomic step")

    async def test_what_was_let_go_stays_gone(self) -> None:
        """A thread whose only run was not stored, and whose frames are gone, is the same after it was opened again."""
        self.needs_durable()
        async with self.opened(resume_window=0.0) as store:
            await (await begin(store, "t", "r1")).end(stored=False)
            while await raw(store, "t"):
                await store.recover()
                await asyncio.sleep(0.01)
            await store.recover()
            kept = await begin(store, "t", "r2")
            await kept.end()
            before = lines(await history(store, "t"))
        async with self.opened() as again:
            equal(lines(await history(again, "t")), before, "what came after it is there, with its sequence numbers")
            new, _ = await claim(again, "t", "r3")
            equal(new.first_seq, kept.recorder.last_seq + 1, "and the thread goes on behind it")

    async def test_what_was_appended_last_is_recovered(self) -> None:
        """However many batches the run had appended, all are there; recovered twice, still."""
        self.needs_durable()
        async with self.opened(lease_ttl=TTL) as store:
            writer = await begin(store, "t", "r")
            for n in range(50):
                await writer.write({"type": "CUSTOM", "name": "n", "value": n})
        async with self.opened(lease_ttl=TTL) as second:
            (new,) = await recovered(second)
            heir = await Writer(second, new).replay()
            equal(heir.recorder.last_seq, 51, "nothing that was appended is lost")
            await heir.write({"type": "CUSTOM", "name": "heir", "value": 0})
        async with self.opened() as third:
            (last,) = await recovered(third)
            check(last.token > new.token, "each owner has a greater token than the one before")
            heir = await Writer(third, last).replay()
            equal(heir.recorder.last_seq, 52, "nothing that was appended is lost")
            await heir.end()
            equal((await third.thread("t")).runs, 1, "it is one run through all its owners")
