"""Stores that return wrong numbers for message ids on purpose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentrunner import MemoryStore

if TYPE_CHECKING:
    from agentrunner import ThreadSummary
    from agentrunner._core import Claim, Recorder
    from agentrunner.stores import StoredRun


class KeepsTheFirstNumber(MemoryStore):
    """Keeps for each message id the number of the oldest run that has it."""

    caught_by = "test_an_id_of_two_runs_has_the_number_of_the_newer"

    async def finish(self, claim: Claim, recorder: Recorder, stored: bool) -> None:
        thread = self._threads[claim.thread_id]
        first_numbers = dict(thread.message_ids)
        await super().finish(claim, recorder, stored)
        thread.message_ids |= first_numbers


class NumbersCopiesAsOne(MemoryStore):
    """Numbers all message ids of a copy by its last run."""

    caught_by = "test_ids_of_runs_that_were_put_have_the_numbers_of_these_runs"

    async def put(self, thread: ThreadSummary, runs: list[StoredRun]) -> None:
        await super().put(thread, runs)
        copied = self._threads[thread.thread_id]
        copied.message_ids = dict.fromkeys(copied.message_ids, copied.head_seq)


class ClaimsWithoutNumbers(MemoryStore):
    """Returns numbers from `known_ids` alone."""

    caught_by = "test_a_claim_returns_the_numbers_that_known_ids_returns"

    async def claim(self, *arguments: Any) -> tuple[Claim, dict[str, int]]:
        claim, known_ids = await super().claim(*arguments)
        return claim, dict.fromkeys(known_ids, 0)


class NumbersRunsThatAreNotStored(MemoryStore):
    """Numbers the message ids of every run that ends."""

    caught_by = "test_a_run_that_is_not_stored_changes_no_number"

    async def finish(self, claim: Claim, recorder: Recorder, stored: bool) -> None:
        await super().finish(claim, recorder, stored)
        self._threads[claim.thread_id].message_ids |= dict.fromkeys(recorder.message_ids, recorder.last_seq)


BROKEN_NUMBERS: list[Any] = [KeepsTheFirstNumber, NumbersCopiesAsOne, ClaimsWithoutNumbers, NumbersRunsThatAreNotStored]
