"""Claiming a thread."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agentrunner.errors import RunAlreadyExists, ThreadAlreadyRunning, ThreadNotFound
from agentrunner.testing.base import Chapter, needs_shared
from agentrunner.testing.checks import check, equal, refused
from agentrunner.testing.writer import begin, claim, history, raw, whole

if TYPE_CHECKING:
    from agentrunner._core import Claim
    from agentrunner.stores import Store

RACERS = 20


class Claims(Chapter):
    """A thread has one live run at most, and a run id is used once."""

    async def test_a_claim_says_what_was_claimed(self, store: Store) -> None:
        """A claim carries the thread, the run, its input and agent as given, and begins behind all the thread had."""
        first, known = await store.claim("t", "r1", '{"a": [1,  "ü"]}', "agent", ["m1"], None)
        equal(
            (first.thread_id, first.run_id, first.input, first.agent_id, first.first_seq),
            ("t", "r1", '{"a": [1,  "ü"]}', "agent", 1),
            "give the claim what was asked for, the input byte for byte, and the first sequence number 1",
        )
        equal(known, [], "a new thread knows no message ids")
        equal(await store.live("t"), [(first, False)], "`live` gives the same claim, with no stop asked for")
        equal(await store.live(), [(first, False)], "`live` without a thread gives those of all threads")

    async def test_a_running_thread_is_not_claimed_again(self, store: Store) -> None:
        """A thread that has a live run is refused: `ThreadAlreadyRunning`, changing nothing."""
        first = await begin(store, "t", "r1")
        await refused(ThreadAlreadyRunning, claim(store, "t", "r2"), "look for a live run and take the thread as one")
        await refused(ThreadAlreadyRunning, claim(store, "t", "r1"), "the live run's own id is refused all the same")
        equal(await store.live("t"), [(first.claim, False)], "a refused claim leaves the live run as it is")
        await first.end()
        await whole(store, "t", "r2")
        equal((await store.thread("t")).runs, 2, "a refused claim does not use up its run id")

    async def test_a_run_id_is_used_once(self, store: Store) -> None:
        """A run id used before, in this thread or any other, live or stored, raises `RunAlreadyExists`."""
        await whole(store, "old", "stored")
        live = await begin(store, "busy", "live")
        for run_id in ("stored", "live"):
            for thread_id in ("old", "new"):
                await refused(RunAlreadyExists, claim(store, thread_id, run_id), "keep run ids unique over all threads")
        await refused(ThreadNotFound, store.thread("new"), "a refused claim does not make its thread")
        equal(await store.live("old"), [], "a refused claim takes no lease")
        await live.end()
        await refused(RunAlreadyExists, claim(store, "new", "live"), "the id stays used when the run has ended")

    async def test_a_thread_that_runs_is_told_before_a_run_id_that_is_used(self, store: Store) -> None:
        """Of a thread that has a live run `ThreadAlreadyRunning` is raised, whatever the run id."""
        await whole(store, "old", "used")
        await begin(store, "t", "r")
        await refused(ThreadAlreadyRunning, claim(store, "t", "used"), "a runner waits for the thread; it may be free")

    async def test_numbers_go_on_where_the_last_run_ended(self, store: Store) -> None:
        """Sequence numbers are dense over a thread, and each claim's token is greater than all before it."""
        first = await whole(store, "t", "r1")
        second = await begin(store, "t", "r2")
        equal(second.claim.first_seq, first.recorder.last_seq + 1, "a run begins right behind the one before it")
        check(second.claim.token > first.claim.token, "a later claim's fencing token must be greater")
        other = await begin(store, "other", "r3")
        equal(other.claim.first_seq, 1, "each thread counts for itself")
        check(other.claim.token != second.claim.token, "tokens of live runs differ: `stops` tells runs by them")

    async def test_known_message_ids_are_told(self, store: Store) -> None:
        """A claim gives those of its message ids the thread knows: of its stored runs, whoever said them."""
        await whole(store, "t", "r1", ["u1", "u2"])
        await whole(store, "other", "r2", ["u3"])
        given, known = await claim(store, "t", "r3", ["u0", "u1", "u2", "u3", "m-r1", "m-r2"])
        equal(sorted(known), ["m-r1", "u1", "u2"], "keep the message ids a run brought when it is finished, by thread")
        equal([live for live, _ in await store.live("t")], [given], "the claim is made all the same")

    async def test_of_many_claims_at_once_one_wins(self, store: Store) -> None:
        """Of claims that race for a thread exactly one is given; the others raise `ThreadAlreadyRunning`."""
        for n in range(5):
            claims = (claim(store, f"t{n}", f"r{n}-{racer}") for racer in range(RACERS))
            await _one_won(await asyncio.gather(*claims, return_exceptions=True), store, ThreadAlreadyRunning)

    async def test_of_many_claims_from_two_stores_one_wins(self, store: Store) -> None:
        """Of claims that race for a thread from several processes exactly one is given."""
        needs_shared(store)
        async with self.opened() as other:
            for n in range(5):
                claims = (claim((store, other)[racer % 2], f"t{n}", f"r{n}-{racer}") for racer in range(RACERS))
                await _one_won(await asyncio.gather(*claims, return_exceptions=True), store, ThreadAlreadyRunning)

    async def test_of_many_claims_for_one_run_id_one_wins(self, store: Store) -> None:
        """Of claims that race for a run id, each in its own thread, exactly one is given."""
        for n in range(5):
            claims = (claim(store, f"t{n}-{racer}", f"r{n}") for racer in range(RACERS))
            await _one_won(await asyncio.gather(*claims, return_exceptions=True), store, RunAlreadyExists)

    async def test_what_was_not_kept_leaves_its_run_id_free(self, store: Store) -> None:
        """A run that is finished without being stored leaves its run id, and a new thread, to anybody."""
        unstored = await begin(store, "t", "r", ["u1"], scope="alice")
        await unstored.end(stored=False)
        equal(await history(store, "t"), [], "with `stored` false nothing of the run goes to the history")
        await refused(ThreadNotFound, store.thread("t"), "a thread without a run is not there")
        again, known = await claim(store, "t", "r", ["u1"], scope="bob")
        equal(known, [], "the message ids of a run that is not stored are not known")
        equal(again.first_seq, unstored.recorder.last_seq + 1, "numbers that were shown are not used again")
        equal((await raw(store, "t", again.first_seq - 1)), [], "the new run has no frames yet")


async def _one_won(outcomes: list[tuple[Claim, list[str]] | BaseException], store: Store, error: type) -> None:
    winners = [outcome[0] for outcome in outcomes if not isinstance(outcome, BaseException)]
    equal(len(winners), 1, f"one claim in {len(outcomes)} must win: check and take in one atomic step")
    losers = {type(outcome) for outcome in outcomes if isinstance(outcome, BaseException)}
    equal(losers, {error}, "every claim that does not win must raise this")
    live = [claim for claim, _ in await store.live(winners[0].thread_id)]
    equal(live, winners, "the run that is live is the winner's")
