"""Tests for `claim`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agentrunner.errors import RunAlreadyExists, ThreadAlreadyRunning, ThreadNotFound
from agentrunner.testing.base import ConformanceTests, needs_shared
from agentrunner.testing.checks import check, check_equal, check_raises
from agentrunner.testing.writer import begin, claim, history, read_journal, store_run

if TYPE_CHECKING:
    from agentrunner._core import Claim
    from agentrunner.stores import Store

RACERS = 20


class ClaimTests(ConformanceTests):
    """A thread has at most one live run, and a run id is used once."""

    async def test_a_claim_has_what_was_asked_for(self, store: Store) -> None:
        """A claim has the thread, run, input and agent that were asked for, unchanged.

        Its first sequence number follows the thread's last one.
        """
        first, known = await store.claim("t", "r1", '{"a": [1,  "ü"]}', "agent", ["m1"], None)
        check_equal(
            (first.thread_id, first.run_id, first.input, first.agent_id, first.first_seq),
            ("t", "r1", '{"a": [1,  "ü"]}', "agent", 1),
            "return the claim what was asked for, the input byte for byte, and the first sequence number 1",
        )
        check_equal(known, {}, "a new thread has no message ids")
        check_equal(await store.live("t"), [(first, False)], "`live` returns the same claim, not marked to be stopped")
        check_equal(await store.live(), [(first, False)], "`live` without a thread id returns the runs of all threads")

    async def test_a_second_claim_on_a_thread_raises_ThreadAlreadyRunning(self, store: Store) -> None:
        """A claim on a thread that has a live run raises `ThreadAlreadyRunning`.

        It changes nothing.
        """
        first = await begin(store, "t", "r1")
        await check_raises(
            ThreadAlreadyRunning, claim(store, "t", "r2"), "check for a live run and take the thread in one step"
        )
        await check_raises(
            ThreadAlreadyRunning, claim(store, "t", "r1"), "the live run's own id is refused all the same"
        )
        check_equal(await store.live("t"), [(first.claim, False)], "a refused claim leaves the live run as it is")
        await first.end()
        await store_run(store, "t", "r2")
        check_equal((await store.thread("t")).runs, 2, "a refused claim does not use up its run id")

    async def test_a_run_id_that_was_used_raises_RunAlreadyExists(self, store: Store) -> None:
        """A claim with a run id that its thread has used raises `RunAlreadyExists`.

        Another thread's runs make no difference: their ids are not its caller's to know or to take.
        """
        await store_run(store, "t", "stored")
        await store_run(store, "t", "second")
        for run_id in ("stored", "second"):
            await check_raises(RunAlreadyExists, claim(store, "t", run_id), "a retried run must not run twice")
        check_equal(await store.live("t"), [], "a refused claim takes no lease")
        await begin(store, "new", "stored")

    async def test_ThreadAlreadyRunning_comes_before_RunAlreadyExists(self, store: Store) -> None:
        """If both the thread is running and the run id is used, `ThreadAlreadyRunning` is raised."""
        await store_run(store, "t", "used")
        await begin(store, "t", "r")
        await check_raises(
            ThreadAlreadyRunning, claim(store, "t", "used"), "a runner waits for the thread; it may be free"
        )

    async def test_a_run_begins_right_after_the_run_before_it(self, store: Store) -> None:
        """A thread's sequence numbers have no gaps, and each new token is greater than all before."""
        first = await store_run(store, "t", "r1")
        second = await begin(store, "t", "r2")
        check_equal(second.claim.first_seq, first.recorder.last_seq + 1, "a run begins right after the one before it")
        check(second.claim.token > first.claim.token, "a later claim's fencing token must be greater")
        other = await begin(store, "other", "r3")
        check_equal(other.claim.first_seq, 1, "each thread counts for itself")
        check(other.claim.token != second.claim.token, "tokens of live runs must differ: `stops` names runs by them")

    async def test_a_claim_returns_the_message_ids_that_the_thread_has(self, store: Store) -> None:
        """A claim returns those of its message ids that the thread's stored runs already have."""
        await store_run(store, "t", "r1", ["u1", "u2"])
        await store_run(store, "other", "r2", ["u3"])
        new_claim, known = await claim(store, "t", "r3", ["u0", "u1", "u2", "u3", "m-r1", "m-r2"])
        check_equal(
            sorted(known), ["m-r1", "u1", "u2"], "keep the message ids a run brought when it is finished, by thread"
        )
        check_equal([live for live, _ in await store.live("t")], [new_claim], "the claim is made all the same")

    async def test_the_ids_of_stored_runs_can_be_looked_up(self, store: Store) -> None:
        """`known_ids` returns those of the ids that the thread's stored runs have."""
        check_equal(await store.known_ids("t", ["u1"]), {}, "an unknown thread has no ids")
        await store_run(store, "t", "r1", ["u1", "u2"])
        await store_run(store, "other", "r2", ["u3"])
        asked_ids = ["u0", "u1", "u3", "m-r1", "m-r3", "\x00", "\x01user u1", "\x01prompt u1"]
        await begin(store, "t", "r3", ["u0"])
        check_equal(
            sorted(await store.known_ids("t", asked_ids)), ["\x01prompt u1", "m-r1", "u1"],
            "keep all `message_ids` of a recorder when its run is finished, byte for byte",
        )  # fmt: skip
        check_equal(await store.known_ids("t", []), {}, "nothing was asked for")

    async def test_of_many_claims_on_a_thread_exactly_one_wins(self, store: Store) -> None:
        """Of claims that race for a thread, one wins; the others raise `ThreadAlreadyRunning`."""
        for n in range(5):
            claims = (claim(store, f"t{n}", f"r{n}-{racer}") for racer in range(RACERS))
            await _one_won(await asyncio.gather(*claims, return_exceptions=True), store, ThreadAlreadyRunning)

    async def test_of_many_claims_from_two_processes_exactly_one_wins(self, store: Store) -> None:
        """Of claims from several processes that race for a thread, exactly one wins."""
        needs_shared(store)
        async with self.open_store() as other:
            for n in range(5):
                claims = (claim((store, other)[racer % 2], f"t{n}", f"r{n}-{racer}") for racer in range(RACERS))
                await _one_won(await asyncio.gather(*claims, return_exceptions=True), store, ThreadAlreadyRunning)

    async def test_of_claims_in_several_threads_with_one_run_id_each_wins(self, store: Store) -> None:
        """Claims in several threads that race with one run id do not get in each other's way."""
        for n in range(5):
            claims = (claim(store, f"t{n}-{racer}", f"r{n}") for racer in range(RACERS))
            claimed = [claim for claim, _ in await asyncio.gather(*claims)]
            check_equal({claim.run_id for claim in claimed}, {f"r{n}"}, "each claim has the id that was asked for")
            check_equal(len({claim.token for claim in claimed}), RACERS, "each claim has a token of its own")

    async def test_a_run_that_was_not_stored_leaves_its_run_id_free(self, store: Store) -> None:
        """After a run ends without being stored, its run id is free.

        If it was the thread's only run, the thread is free too, for any scope.
        """
        unstored = await begin(store, "t", "r", ["u1"], scope="alice")
        await unstored.end(stored=False)
        check_equal(await history(store, "t"), [], "with `stored` false nothing of the run goes to the history")
        await check_raises(ThreadNotFound, store.thread("t"), "a thread without a run is not there")
        again, known = await claim(store, "t", "r", ["u1"], scope="bob")
        check_equal(known, {}, "the message ids of a run that is not stored are not known")
        check_equal(again.first_seq, unstored.recorder.last_seq + 1, "numbers that were shown are not used again")
        check_equal((await read_journal(store, "t", again.first_seq - 1)), [], "the new run has no frames yet")


async def _one_won(outcomes: list[tuple[Claim, dict[str, int]] | BaseException], store: Store, error: type) -> None:
    winners = [outcome[0] for outcome in outcomes if not isinstance(outcome, BaseException)]
    check_equal(len(winners), 1, f"one claim in {len(outcomes)} must win: check and take in one atomic step")
    losers = {type(outcome) for outcome in outcomes if isinstance(outcome, BaseException)}
    check_equal(losers, {error}, "every claim that does not win must raise this")
    live = [claim for claim, _ in await store.live(winners[0].thread_id)]
    check_equal(live, winners, "the run that is live is the winner's")
