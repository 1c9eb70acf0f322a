"""Tests for the numbers of message ids, which `claim` and `known_ids` return."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrunner.testing.base import ConformanceTests
from agentrunner.testing.checks import check_equal
from agentrunner.testing.stored_threads import make_runs, make_summary
from agentrunner.testing.writer import READ_BYTES, Writer, begin, claim, store_run, text

if TYPE_CHECKING:
    from agentrunner.stores import Store

NEWEST = "keep with each message id the last sequence number of the newest stored run that has it"


class KnownIdTests(ConformanceTests):
    """Each message id has the `last_seq` of the newest stored run that has it."""

    async def test_a_message_id_has_the_last_seq_of_its_run(self, store: Store) -> None:
        """Each id in a recorder's `message_ids` has the `last_seq` of its newest stored run."""
        writers = [await store_run(store, "t", f"r{n}", [f"u{n}"]) for n in range(3)]
        await store_run(store, "other", "r0", ["u0", "u1", "u2"])
        runs = await store.runs("t", 0, READ_BYTES)
        numbers: dict[str, int] = {}
        for run, writer in zip(runs, writers, strict=True):
            numbers |= dict.fromkeys(writer.recorder.message_ids, run.last_seq)
        check_equal(await store.known_ids("t", sorted(numbers)), numbers, NEWEST)

    async def test_an_id_of_two_runs_has_the_number_of_the_newer(self, store: Store) -> None:
        """An id that two stored runs have has the number of the newer run."""
        await store_run(store, "t", "r1", ["u1", "u2"])
        second = await _write_again(store, "r2")
        check_equal(await store.known_ids("t", ["u1", "m-r1", "u2"]), {"u1": 5, "m-r1": 5, "u2": 5}, "r2 is live")
        await second.finish()
        check_equal(await store.known_ids("t", ["u1", "m-r1", "u2"]), {"u1": 10, "m-r1": 10, "u2": 5}, NEWEST)
        await store_run(store, "t", "r3")
        check_equal(await store.known_ids("t", ["u1", "u2", "m-r3"]), {"u1": 10, "u2": 5, "m-r3": 15}, NEWEST)

    async def test_a_claim_returns_the_numbers_that_known_ids_returns(self, store: Store) -> None:
        """`claim` and `known_ids` return the same for the same ids, each id once."""
        await store_run(store, "t", "r1", ["u1", "u2"])
        await (await _write_again(store, "r2")).finish()
        asked_ids = ["new", "u2", "u1", "m-r1", "u2"]
        _, known = await claim(store, "t", "r3", asked_ids)
        check_equal(known, {"u2": 5, "u1": 10, "m-r1": 10}, NEWEST)
        check_equal(await store.known_ids("t", asked_ids), known, "look the ids up as `claim` does")

    async def test_a_run_that_is_not_stored_changes_no_number(self, store: Store) -> None:
        """A run that ends without being stored adds no id and changes no number."""
        await store_run(store, "t", "r1", ["u1"])
        await (await _write_again(store, "r2", "m-r2")).finish(stored=False)
        check_equal(await store.known_ids("t", ["u1", "m-r1", "m-r2"]), {"u1": 5, "m-r1": 5}, "nothing of r2 is kept")

    async def test_ids_of_runs_that_were_put_have_the_numbers_of_these_runs(self, store: Store) -> None:
        """`put` gives each id the `last_seq` of the newest copied run that has it."""
        first, *gap = make_runs("r1", first_seq=3) + make_runs("r2", "r3", first_seq=50)
        gap[0] = gap[0]._replace(events=first.events)
        await store.put(make_summary("t"), [first])
        check_equal(await store.known_ids("t", ["m-r1", "m-r3"]), {"m-r1": 7}, NEWEST)
        await store.put(make_summary("t"), [first, *gap])
        check_equal(await store.known_ids("t", ["m-r1", "m-r2", "m-r3"]), {"m-r1": 54, "m-r3": 59}, NEWEST)
        await store.put(make_summary("t"), [first, *gap])
        check_equal(await store.known_ids("t", ["m-r1", "m-r3"]), {"m-r1": 54, "m-r3": 59}, "a repeated copy is no run")

    async def test_an_id_is_pruned_with_the_newest_run_that_has_it(self, store: Store) -> None:
        """`prune` deletes an id with the newest run that has it, and no other id."""
        await store_run(store, "t", "r1", ["u1", "u2"])
        await (await _write_again(store, "r2")).finish()
        await store_run(store, "t", "r3")
        asked_ids = ["u1", "u2", "m-r1", "m-r3"]
        check_equal(await store.prune(2, None, 100), 1, "delete r1")
        check_equal(await store.known_ids("t", asked_ids), {"u1": 10, "m-r1": 10, "m-r3": 15}, NEWEST)
        check_equal(await store.prune(1, None, 100), 1, "delete r2")
        check_equal(await store.known_ids("t", asked_ids), {"m-r3": 15}, NEWEST)

    async def test_a_thread_that_is_created_again_has_no_number_of_the_one_before(self, store: Store) -> None:
        """The ids of a deleted thread are gone, and those of the next have its numbers."""
        await store_run(store, "t", "r1", ["u1"])
        await store.delete("t")
        writer = await begin(store, "t", "r1", ["u1"])
        check_equal(await store.known_ids("t", ["u1", "m-r1"]), {}, "delete the ids with their thread")
        await writer.end()
        check_equal(await store.known_ids("t", ["u1", "m-r1"]), {"u1": writer.recorder.last_seq}, NEWEST)


async def _write_again(store: Store, run_id: str, message_id: str = "m-r1") -> Writer:
    """Write a run of five events that has `u1` and the message id, even if a run has them."""
    new_claim, _ = await claim(store, "t", run_id, ["u1"])
    writer = Writer(store, new_claim)
    await writer.write(
        {"type": "RUN_STARTED", "threadId": "t", "runId": run_id}, *text(message_id, "word"),
        {"type": "RUN_FINISHED", "threadId": "t", "runId": run_id},
    )  # fmt: skip
    return writer
