"""Write a harness run's record during an attempt, and publish its events."""

from __future__ import annotations

import asyncio
import logging
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from agentrunner.errors import LeaseLost, RecordConflict, StoreError
from agentrunner.harness.approvals import withdraw_approvals
from agentrunner.records.approvals import approval_changes
from agentrunner.records.harness_runs import HarnessEvent

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from agentrunner._core import Claim
    from agentrunner.harness._state import HarnessState
    from agentrunner.harness.admission import Admission
    from agentrunner.records.approvals import Approval
    from agentrunner.records.harness_runs import EventType, Intent, RunRecord, RunState
    from agentrunner.stores import Change, Store

logger = logging.getLogger("agentrunner.harness")


class RunWriter:
    """The only writer of a harness run from the admission of an attempt to its end.

    It writes under the attempt's claim, so it can write nothing after another owner has taken the thread.
    """

    def __init__(self, state: HarnessState, store: Store, claim: Claim, admission: Admission) -> None:
        self.record: RunRecord = admission.record
        self.intent: Intent | None = admission.intent
        self.has_ended = False
        """Whether the attempt's end is written, or left to recovery."""
        self.deltas = 0
        """Number of deltas that the record has not counted yet."""
        self.events: list[HarnessEvent] = []
        """Events of the attempt in the order they were written, without deltas."""
        self.has_news = asyncio.Event()
        """Event that is set whenever one of these events is written."""
        self._state = state
        self._store = store
        self._claim = claim
        self._published = admission.published

    async def begin(self, admission: Admission) -> None:
        """Write an admission, all of it or nothing, and publish its events.

        Raises `RecordConflict`, `StoreError`.
        """
        changes = admission.record.to_changes()
        if admission.intent is not None:
            changes.append(admission.intent.to_change())
        changes += admission.changes
        for abandoned, _ in admission.abandoned:
            changes += abandoned.to_changes()
        try:
            versions = await self._store.write(changes, self._claim)
        except StoreError:
            # The store may have written the changes anyway; recovery finds out.
            self._state.request_recovery()
            raise
        admission.record.version = versions[0]
        if admission.intent is not None:
            admission.intent.version = versions[2]
        self.intent = admission.intent
        self.has_ended = admission.refusal is not None
        for abandoned, published in admission.abandoned:
            self._state.publish(abandoned.events_after(published))
        self._publish()

    def _publish(self) -> None:
        """Pass the events that were written since the last call to the listeners."""
        events = self.record.events_after(self._published)
        self._published = self.record.seq
        self.events += events
        self._state.publish(events)
        self.has_news.set()

    def publish_delta(self, type: EventType, text: str, message_id: str | None) -> None:
        """Pass a delta to the listeners; it is not written here, because the thread has it."""
        record = self.record
        data = {"text": text, "message_id": message_id}
        seq = record.seq + self.deltas
        self._state.bus.publish(HarnessEvent(type, record.run_id, record.thread_id, seq, record.updated_at, data))

    async def wait_for(self, approvals: list[Approval]) -> None:
        """Write that the harness run waits for approvals; if that fails, nothing changes."""
        record = deepcopy(self.record)
        record.seq += self.deltas
        record.waits_for = [approval.approval_id for approval in approvals]
        record.checkpoint = next((each.checkpoint for each in approvals if each.checkpoint), record.checkpoint)
        record.attempts = 0
        for approval in approvals:
            record.add_event(
                "approval.requested",
                approval_id=approval.approval_id, tool=approval.tool, message=approval.message,
            )  # fmt: skip
        record.change_state("waiting_for_approval")
        changes = [change for approval in approvals for change in approval_changes(approval)]
        versions = await self._store.write([*record.to_changes(), *changes, *self._drop_intent()], self._claim)
        self.has_ended, self.deltas = True, 0
        record.version = versions[0]
        self.record = record
        self._publish()

    async def end(self, state: RunState, error: str | None = None) -> None:
        """Write how the harness run ended, unless its end is already written."""
        if not self.has_ended:
            await self.start_end(state, error)

    def start_end(self, state: RunState, error: str | None) -> Coroutine[Any, Any, None]:
        """Count the harness run as ended at once, and return the coroutine that writes it."""
        self.has_ended = True
        self._count_deltas()
        self.record.change_state(state, error)
        return self._write_end([*self.record.to_changes(), *self._drop_intent()])

    async def revoke_waiting(self, error: str) -> None:
        """Fail a waiting harness run because the runner refused the event with its interrupts."""
        if self.record.state == "waiting_for_approval":
            changes = await withdraw_approvals(self._store, self.record)
            self.record.change_state("failed", error)
            await self._write_end([*self.record.to_changes(), *changes])

    async def pause(self) -> None:
        """Leave the harness run to the next start, and do not count this attempt."""
        self.has_ended = True
        self._count_deltas()
        self.record.attempts = max(0, self.record.attempts - 1)
        changes = self.record.to_changes()
        if self.intent is not None:
            self.intent.attempts = self.record.attempts
            changes.append(self.intent.to_change())
        await self._write_end(changes)

    def leave_to_recovery(self) -> None:
        """Write nothing more; this harness's recovery, or another's, finds the harness run."""
        self.has_ended = True
        self._state.request_recovery()

    def _count_deltas(self) -> None:
        self.record.seq += self.deltas
        self.deltas = 0

    def _drop_intent(self) -> list[Change]:
        return [self.record.drop_intent()] if self.intent is not None else []

    async def _write_end(self, changes: list[Change]) -> None:
        """Write the attempt's end; if the store fails, leave it to recovery."""
        try:
            try:
                versions = await self._store.write(changes, self._claim)
            except LeaseLost:
                # The next owner of the thread may not know how the run ended. If it does, it has changed the record,
                # and this write, which expects the version this writer knows, changes nothing.
                versions = await self._store.write(changes)
        except RecordConflict:
            logger.warning("run %s: another process has changed its record and continues it", self.record.run_id)
        except StoreError as error:
            logger.error("run %s: its end cannot be written now: %s", self.record.run_id, error)  # noqa: TRY400
            self._state.unwritten_ends.add(self.record.key)
            self.leave_to_recovery()
        else:
            self.record.version = versions[0]
            self._publish()
