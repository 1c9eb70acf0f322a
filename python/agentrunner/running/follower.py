"""A run of another process, followed through the store's journal."""

from __future__ import annotations

import logging

from agentrunner._failures import get_error_id
from agentrunner.errors import CursorAhead, CursorError, StoreError
from agentrunner.running.live_run import JOURNAL_PAGE_BYTES, LiveRun

logger = logging.getLogger("agentrunner")


class Follower(LiveRun):
    """A run of another process, whose journal this process reads once for all readers."""

    async def follow(self) -> None:
        """Read the journal until the run has ended or no reader is left."""
        try:
            while self.readers:
                page = await self._store.journal(
                    self.claim.thread_id, self.recorder.last_seq, None, JOURNAL_PAGE_BYTES, guard=self.guard
                )
                if page.live_token != self.claim.token and not await self._find_new_owner():
                    await self._read_rest()
                    return
                if page.live_token == self.claim.token and len(page.frames):
                    await self.replay(page.frames)
                    self.wake()
                else:
                    await self._store.changed(self.claim.thread_id, self.recorder.last_seq)
        except (StoreError, CursorError) as error:
            self.give_up(error)
            logger.exception(
                "thread %s: cannot follow run %s any further (error id %s)",
                self.claim.thread_id, self.claim.run_id, get_error_id(error),  # noqa: TRY401
            )  # fmt: skip
        finally:
            self.close()

    def give_up(self, error: Exception) -> None:
        """Close the run for its readers with an error, although its end is not in the store."""
        self.set_last_word(error)
        self.close()

    async def _find_new_owner(self) -> bool:
        """Adopt the token of a new owner. Return false if the run is no longer live."""
        for claim, _ in await self._store.live(self.claim.thread_id):
            if (claim.run_id, claim.incarnation) == (self.claim.run_id, self.claim.incarnation):
                self.claim = claim
                return True
        return False

    async def _read_rest(self) -> None:
        """Read the rest of the ended run, and nothing of a later one."""
        thread_id, first_seq = self.claim.thread_id, self.claim.first_seq
        try:
            location = await self._store.locate(thread_id, (first_seq, None), guard=self.guard)
        except CursorAhead:
            # The run was abandoned before its first event.
            return
        if location.kind == "live":
            # It was also abandoned before its first event, and a later run has since used the sequence number.
            return
        # If the run is not stored, or has only one event, its journal is a single batch.
        last_seq = location.last_seq if location.kind == "journal" else first_seq
        while self.recorder.last_seq < last_seq:
            page = await self._store.journal(
                thread_id, self.recorder.last_seq, last_seq, JOURNAL_PAGE_BYTES, guard=self.guard
            )
            if not len(page.frames):
                return
            await self.replay(page.frames)
