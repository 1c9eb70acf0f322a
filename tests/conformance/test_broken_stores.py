"""The suite catches stores that are broken on purpose, each by the test of that rule."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from agentrunner import (
    CursorAhead,
    MemoryStore,
    RecordConflict,
    SqliteStore,
    ThreadAlreadyRunning,
)
from agentrunner._core import Claim
from agentrunner.stores import Change, CursorLocation, HistoryPage
from agentrunner.testing import StoreConformance
from support.broken_guards import BROKEN_GUARDS
from support.broken_numbers import BROKEN_NUMBERS

if TYPE_CHECKING:
    from pathlib import Path

    from agentrunner import Store, ThreadSummary
    from agentrunner._core import Batch, Recorder
    from agentrunner.stores import Cursor, JournalPage, Record, StoredRun
    from agentrunner.types import AnyScope


class AppendsUnderAnyToken(MemoryStore):
    caught_by = "test_a_claim_of_an_earlier_run_raises_LeaseLost"

    async def append(self, claim: Claim, batch: Batch, barrier: bool) -> None:
        self._threads[claim.thread_id].journals[-1].batches.append(batch)


class FinishesUnderAnyToken(MemoryStore):
    caught_by = "test_a_claim_with_another_token_raises_LeaseLost"

    async def finish(self, claim: Claim, recorder: Recorder, stored: bool) -> None:
        await super().finish(self._threads.get_claim(claim.thread_id) or claim, recorder, stored)


class RenewsAnything(MemoryStore):
    caught_by = "test_an_append_after_finish_raises_LeaseLost"

    async def renew(self, claims: list[Claim]) -> list[bool]:
        return [True for _ in claims]


class AllowsTwoWinners(MemoryStore):
    caught_by = "test_of_many_claims_on_a_thread_exactly_one_wins"

    async def claim(self, thread_id: str, *arguments: Any) -> tuple[Claim, dict[str, int]]:
        if self._threads.get_claim(thread_id):
            raise ThreadAlreadyRunning
        await asyncio.sleep(0)
        if thread_id in self._threads:
            self._threads[thread_id].claim = None
        return await super().claim(thread_id, *arguments)


class ReusesRunIds(MemoryStore):
    caught_by = "test_a_run_id_that_was_used_raises_RunAlreadyExists"

    async def claim(self, thread_id: str, run_id: str, *arguments: Any) -> tuple[Claim, dict[str, int]]:
        if thread := self._threads.get(thread_id):
            thread.runs = [run._replace(run_id=f"another {run.run_id}") for run in thread.runs]
        return await super().claim(thread_id, run_id, *arguments)


class IgnoresScopes(MemoryStore):
    caught_by = "test_a_claim_on_another_scopes_thread_raises_ThreadNotFound"

    async def claim(self, thread_id: str, *arguments: Any) -> tuple[Claim, dict[str, int]]:
        thread = self._threads.get(thread_id)
        return await super().claim(thread_id, *arguments[:-1], thread.scope if thread else arguments[-1])


class RevealsThreadsOfOtherScopes(MemoryStore):
    """Checks whether a thread is running before it checks the scope."""

    caught_by = "test_a_claim_on_another_scopes_running_thread_raises_ThreadNotFound"

    async def claim(self, thread_id: str, *arguments: Any) -> tuple[Claim, dict[str, int]]:
        if self._threads.get_claim(thread_id):
            raise ThreadAlreadyRunning
        return await super().claim(thread_id, *arguments)


class ForgetsMessageIds(MemoryStore):
    caught_by = "test_a_claim_returns_the_message_ids_that_the_thread_has"

    async def claim(self, *arguments: Any) -> tuple[Claim, dict[str, int]]:
        claim, _ = await super().claim(*arguments)
        return claim, {}


class KeepsAtTheEnd(MemoryStore):
    """Stores a batch only when the run ends."""

    caught_by = "test_what_was_appended_can_be_read_at_once"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._waiting: list[tuple[Claim, Batch]] = []

    async def append(self, claim: Claim, batch: Batch, barrier: bool) -> None:
        self._threads.require_claim(claim)
        self._waiting.append((claim, batch))

    async def finish(self, claim: Claim, recorder: Recorder, stored: bool) -> None:
        for late, batch in self._waiting:
            await super().append(late, batch, False)
        self._waiting.clear()
        await super().finish(claim, recorder, stored)


class EndsInTwoSteps(MemoryStore):
    """Ends the lease first, and stores the run a moment later."""

    caught_by = "test_a_run_ends_in_one_atomic_step"

    async def finish(self, claim: Claim, recorder: Recorder, stored: bool) -> None:
        self._threads.require_claim(claim).claim = None
        await asyncio.sleep(0)
        self._threads[claim.thread_id].claim = claim
        await super().finish(claim, recorder, stored)


class CountsWhatIsStored(MemoryStore):
    """Uses the sequence numbers of a run that was not stored again."""

    caught_by = "test_finish_without_storing_changes_no_history"

    async def finish(self, claim: Claim, recorder: Recorder, stored: bool) -> None:
        await super().finish(claim, recorder, stored)
        if not stored:
            self._threads[claim.thread_id].head_seq = claim.first_seq - 1


class SkipsARun(MemoryStore):
    """Skips one run between two pages."""

    caught_by = "test_a_page_of_history_has_whole_runs"

    async def history(self, thread_id: str, after: Cursor, until: int | None, limit: int) -> HistoryPage:
        page = await super().history(thread_id, after, until, limit)
        return page._replace(next=page.next and (page.next[0] + 1, None))


class ReadsIntoTheNextRun(MemoryStore):
    caught_by = "test_the_journal_until_a_number_omits_later_runs"

    async def journal(self, thread_id: str, after: int, until: int | None, limit: int) -> JournalPage:
        return await super().journal(thread_id, after, None, limit)


class NeverReturnsFromChanged(MemoryStore):
    caught_by = "test_changed_returns_within_about_a_second"

    async def changed(self, thread_id: str, after: int) -> None:
        await asyncio.Event().wait()


class StopsWhateverRuns(MemoryStore):
    caught_by = "test_request_stop_with_a_run_id_marks_only_that_run"

    async def request_stop(self, thread_id: str, run_id: str | None) -> bool:
        return await super().request_stop(thread_id, None)


class TakesAnyCursor(MemoryStore):
    caught_by = "test_a_cursor_of_an_unknown_thread_is_ahead"

    async def locate(self, thread_id: str, cursor: Cursor) -> CursorLocation:
        try:
            return await super().locate(thread_id, cursor)
        except CursorAhead:
            return CursorLocation("stored", 0, 0)


class PagesByTimeAlone(MemoryStore):
    """Skips threads that were updated in the same millisecond as a page's last thread."""

    caught_by = "test_threads_are_listed_newest_first_in_pages"

    async def threads(self, limit: int, before: tuple[int, str] | None, *chosen: Any) -> list[ThreadSummary]:
        return await super().threads(limit, before and (before[0], ""), *chosen)


class DeletesHalf(MemoryStore):
    """Keeps the message ids of a deleted thread."""

    caught_by = "test_delete_removes_everything_a_thread_has"

    async def delete(self, thread_id: str) -> None:
        known = self._threads.require(thread_id).message_ids
        await super().delete(thread_id)
        await self.claim(thread_id, "again", "{}", None, [], None)
        self._threads[thread_id].claim = None
        self._threads[thread_id].message_ids = known


class PutsOneByOne(MemoryStore):
    caught_by = "test_put_of_runs_that_do_not_follow_raises_StoreError"

    async def put(self, thread: ThreadSummary, runs: list[StoredRun]) -> None:
        for run in runs:
            await super().put(thread, [run])


class PrunesFromTheMiddle(MemoryStore):
    """Removes old runs wherever they are in the chain."""

    caught_by = "test_prune_removes_runs_that_ended_before_a_time"

    async def prune(self, max_runs: int | None, before: int | None, limit: int) -> int:
        removed = 0
        for thread in self._threads.values():
            kept = [run for run in thread.runs if before is None or run.created_at >= before]
            removed += len(thread.runs) - len(kept)
            thread.runs = kept
        return removed


class WritesUnderAnyClaim(MemoryStore):
    caught_by = "test_a_write_with_a_lost_claim_raises_LeaseLost"

    async def write(self, changes: list[Change], claim: Claim | None = None) -> list[int]:
        return await super().write(changes)


class ComparesNothing(MemoryStore):
    caught_by = "test_a_change_with_a_version_needs_that_version"

    async def write(self, changes: list[Change], claim: Claim | None = None) -> list[int]:
        return await super().write([change._replace(version=None) for change in changes], claim)


class WritesOneByOne(MemoryStore):
    caught_by = "test_one_conflict_undoes_all_changes_of_a_write"

    async def write(self, changes: list[Change], claim: Claim | None = None) -> list[int]:
        return [version for change in changes for version in await super(WritesOneByOne, self).write([change], claim)]


class LooksAndWritesLater(MemoryStore):
    caught_by = "test_of_two_writes_for_one_version_exactly_one_wins"

    async def write(self, changes: list[Change], claim: Claim | None = None) -> list[int]:
        for change in changes:
            kept = await self.record(change.kind, change.key)
            if change.version not in (None, kept.version if kept else 0):
                raise RecordConflict(change.kind, change.key)
        await asyncio.sleep(0)
        return await super().write([change._replace(version=None) for change in changes], claim)


class CountsEachRecordsVersions(MemoryStore):
    """Starts again with version 1 after a record was removed."""

    caught_by = "test_a_version_is_never_used_again"

    async def write(self, changes: list[Change], claim: Claim | None = None) -> list[int]:
        kept = await self.record(changes[0].kind, changes[0].key)
        self._records._last_version = kept.version if kept else 0
        return await super().write(changes, claim)


class LeavesRecordsBehind(MemoryStore):
    caught_by = "test_records_are_deleted_with_their_thread"

    async def prune(self, *arguments: Any) -> int:
        kept = await self.records(None, None, None, 1000)
        removed = await super().prune(*arguments)
        for record in kept:
            if not await self.record(record.kind, record.key):
                await self.write([Change(record.kind, record.key, record.thread_id, record.value)])
        return removed


class ClearsRecordsWithoutThread(MemoryStore):
    """Clears the records of threads that do not exist."""

    caught_by = "test_a_records_thread_need_not_exist"

    async def clear(self, scope: str | AnyScope | None) -> None:
        await super().clear(scope)
        for record in await self.records(None, None, None, 1000):
            if record.thread_id not in self._threads:
                self._records.remove_thread(record.thread_id)


class PagesByKeyAlone(MemoryStore):
    caught_by = "test_records_are_returned_in_order_and_in_pages"

    async def records(
        self, kind: str | None, thread_id: str | None, after: tuple[str, str] | None, limit: int
    ) -> list[Record]:
        records = await super().records(kind, thread_id, None, 10_000)
        return [record for record in records if after is None or record.key > after[1]][:limit]


class KeepsText(MemoryStore):
    caught_by = "test_a_value_may_be_any_bytes"

    async def write(self, changes: list[Change], claim: Claim | None = None) -> list[int]:
        text = [change._replace(value=(change.value or b"").decode("utf-8", "replace").encode()) for change in changes]
        return await super().write(text, claim)


class RecoversTheLiving(SqliteStore):
    """Takes over runs whose owners are alive."""

    caught_by = "test_recover_leaves_runs_whose_owner_is_alive"

    async def recover(self, thread_id: str | None = None) -> list[Claim]:
        return [claim for claim, _ in await self.live(thread_id)]


class RecoversUnderTheSameToken(SqliteStore):
    caught_by = "test_recover_takes_over_a_run_whose_owner_is_gone"

    async def recover(self, thread_id: str | None = None) -> list[Claim]:
        live = {claim.thread_id: claim for claim, _ in await self.live(thread_id)}
        return [live[claim.thread_id] for claim in await super().recover(thread_id)]


class RecoversForAll(SqliteStore):
    """Returns a run whose owner is gone to every caller."""

    caught_by = "test_of_many_processes_exactly_one_recovers_a_run"
    taken: ClassVar[dict[str, list[Claim]]] = {}

    async def recover(self, thread_id: str | None = None) -> list[Claim]:
        claims = await super().recover(thread_id)
        return self.taken.setdefault(self.path, claims) if claims or self.path in self.taken else []


class ClaimsWhatWasLeft(SqliteStore):
    """Claims a thread whose owner is gone, and loses what was shown of its run."""

    caught_by = "test_a_claim_does_not_take_over_a_run"

    async def claim(self, thread_id: str, *arguments: Any) -> tuple[Claim, dict[str, int]]:
        from agentrunner.testing.writer import Writer

        for left in await self.recover(thread_id):
            await self.finish(left, Writer(self, left).recorder, False)
        return await super().claim(thread_id, *arguments)


class RenewsNothing(SqliteStore):
    """Returns true without extending the lease."""

    caught_by = "test_renew_and_append_extend_the_lease"

    async def renew(self, claims: list[Claim]) -> list[bool]:
        live = [claim for claim, _ in await self.live()]
        return [claim in live for claim in claims]


class ForgetsWhenClosed(SqliteStore):
    """Returns results although it is closed."""

    caught_by = "test_every_method_of_a_closed_store_raises_StoreClosed"

    async def stops(self) -> list[int]:
        return await super().stops() if self._core else []


BROKEN: list[Any] = [value for value in list(globals().values()) if hasattr(value, "caught_by")]
BROKEN += BROKEN_GUARDS + BROKEN_NUMBERS


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_store_fails(broken: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentrunner.testing.journals.CHANGED_SECONDS", 1.5)
    in_memory = issubclass(broken, MemoryStore)

    class Conformance(StoreConformance):
        durable = not in_memory

        def make_store(self, **options: Any) -> Store:
            store: Store = broken(**options) if in_memory else broken(tmp_path / "threads.db", **options)
            return store

    with pytest.raises((AssertionError, TimeoutError)) as failure:
        getattr(Conformance(), broken.caught_by)()
    (*_, rule) = failure.value.__notes__
    assert rule.startswith("The rule: ")
