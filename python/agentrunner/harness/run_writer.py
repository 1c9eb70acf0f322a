"""A run's record as the segment under way writes it, and who is told."""

from __future__ import annotations

import asyncio
import logging
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from agentrunner.errors import LeaseLost, RecordConflict, StoreError
from agentrunner.harness.cancellation import withdrawn
from agentrunner.records.approvals import approval_changes
from agentrunner.records.harness_runs import HarnessEvent

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from agentrunner._core import Claim
    from agentrunner.harness.admission import Admission
    from agentrunner.harness.harness import Harness
    from agentrunner.records.approvals import Approval
    from agentrunner.records.harness_runs import EventType, Intent, RunRecord, RunState
    from agentrunner.stores import Change, Store

logger = logging.getLogger("agentrunner.harness")


class RunWriter:
    """What is written of a run from its admission to the end of the segment, each under the segment's claim."""

    def __init__(self, harness: Harness, store: Store, claim: Claim, admission: Admission) -> None:
        self.record: RunRecord = admission.record
        self.intent: Intent | None = admission.intent
        self.ended = False
        """Whether it is written, or left to others, how the segment has ended."""
        self.deltas = 0
        """How many were counted that the record does not know of yet."""
        self.events: list[HarnessEvent] = []
        """Those the segment has brought, as they were written."""
        self.news = asyncio.Event()
        """Set with each of them."""
        self._harness = harness
        self._store = store
        self._claim = claim
        self._told = admission.known

    def tell(self) -> None:
        """Tell the listeners what has been written since."""
        new = [event for event in self.record.events if event.seq > self._told]
        self._told = self.record.seq
        self.events += new
        self._harness.tell(new)
        self.news.set()

    def tell_delta(self, kind: EventType, text: str, message_id: str | None) -> None:
        """Tell the listeners what the agent has said just now."""
        record = self.record
        data = {"text": text, "message_id": message_id}
        event = HarnessEvent(
            kind, record.run_id, record.thread_id, record.seq + self.deltas, record.updated_at, data
        )  # fmt: skip
        self._harness.bus.tell(event)

    async def wait_for(self, approvals: list[Approval]) -> None:
        """Write down that the run waits for approvals. Where it raises, nothing of that is known to anybody."""
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
        asked = [change for approval in approvals for change in approval_changes(approval)]
        versions = await self._store.write([*record.to_changes(), *asked, *self._without_intent()], self._claim)
        self.ended, self.deltas = True, 0
        record.version = versions[0]
        self.record = record
        self.tell()

    async def end(self, state: RunState, error: str | None = None) -> None:
        """Write down how the run has ended, unless that is done."""
        if not self.ended:
            await self.ending(state, error)

    def ending(self, state: RunState, error: str | None) -> Coroutine[Any, Any, None]:
        """Have it ended from now on; give what writes that down."""
        self.ended = True
        self._count()
        self.record.change_state(state, error)
        return self._last_word([*self.record.to_changes(), *self._without_intent()])

    async def refuse_waiting(self, error: str) -> None:
        """Take back that the run waits: the event that says so was none its stream could have."""
        if self.record.state == "waiting_for_approval":
            changes = await withdrawn(self._store, self.record)
            self.record.change_state("failed", error)
            await self._last_word([*self.record.to_changes(), *changes])

    async def pause(self) -> None:
        """Leave the run to the next start: its process is to end, which is no failure, so the try does not count."""
        self.ended = True
        self._count()
        self.record.attempts = max(0, self.record.attempts - 1)
        changes = self.record.to_changes()
        if self.intent is not None:
            self.intent.attempts = self.record.attempts
            changes.append(self.intent.to_change())
        await self._last_word(changes)

    def strand(self) -> None:
        """Leave the run to the recovery, this harness's own for one."""
        self.ended = True
        self._harness.stranded = True

    def _count(self) -> None:
        self.record.seq += self.deltas
        self.deltas = 0

    def _without_intent(self) -> list[Change]:
        return [self.record.drop_intent()] if self.intent is not None else []

    async def _last_word(self, changes: list[Change]) -> None:
        """Write how it ended; if that cannot be now, the recovery finds it out from the thread."""
        try:
            try:
                versions = await self._store.write(changes, self._claim)
            except LeaseLost:
                # Whoever has the thread now may not know how it ended; if they do, they have changed the record.
                versions = await self._store.write(changes)
        except RecordConflict:
            logger.warning("run %s: somebody else has written how it goes on", self.record.run_id)
        except StoreError as error:
            logger.error("run %s: its end cannot be written now: %s", self.record.run_id, error)  # noqa: TRY400
            self.strand()
        else:
            self.record.version = versions[0]
            self.tell()
