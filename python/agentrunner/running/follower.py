"""A run of another process, followed through the store's journal."""

from __future__ import annotations

import logging

from agentrunner.errors import CursorAhead, CursorError, StoreError
from agentrunner.running.live_run import JOURNAL_PAGE_BYTES, LiveRun, last_word

logger = logging.getLogger("agentrunner")


class Follower(LiveRun):
    """A run that lives in another process, read from the journal."""

    async def follow(self) -> None:
        """Read until the run has ended or nobody here reads it any more."""
        try:
            while self.readers:
                page = await self._store.journal(self.claim.thread_id, self.recorder.last_seq, None, JOURNAL_PAGE_BYTES)
                if page.live_token != self.claim.token and not await self._taken_over():
                    await self._read_rest()
                    return
                if page.live_token == self.claim.token and len(page.frames):
                    self.recorder.replay(page.frames)
                    self.wake()
                else:
                    await self._store.changed(self.claim.thread_id, self.recorder.last_seq)
        except (StoreError, CursorError) as error:
            self.give_up(error)
            logger.exception("thread %s: following run %s failed", self.claim.thread_id, self.claim.run_id)
        finally:
            self.close()

    def give_up(self, error: Exception) -> None:
        """Tell the readers why nothing more will come, though the run has no end in the store."""
        self.failure = last_word(self.recorder, str(error), "STORE_ERROR")
        self.close()

    async def _taken_over(self) -> bool:
        """Say whether the run is live still, under another owner, and go on under the new token."""
        for claim, _ in await self._store.live(self.claim.thread_id):
            if claim.run_id == self.claim.run_id:
                self.claim = claim
                return True
        return False

    async def _read_rest(self) -> None:
        """Read what is left of the ended run, and nothing of a run that came after it."""
        thread_id, first_seq = self.claim.thread_id, self.claim.first_seq
        try:
            place = await self._store.locate(thread_id, (first_seq, None))
        except CursorAhead:
            # It was given up before it had said anything.
            return
        if place.kind == "live":
            # As before, and its number is another run's now.
            return
        # A run that is not stored, or has one event, is one batch.
        last_seq = place.last_seq if place.kind == "journal" else first_seq
        while self.recorder.last_seq < last_seq:
            page = await self._store.journal(thread_id, self.recorder.last_seq, last_seq, JOURNAL_PAGE_BYTES)
            if not len(page.frames):
                return
            self.recorder.replay(page.frames)
