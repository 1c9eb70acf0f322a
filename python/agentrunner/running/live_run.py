"""A live run as this process sees it: driven here, or followed where it runs in another process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import orjson

from agentrunner._core import Frames

if TYPE_CHECKING:
    from agentrunner._core import Claim, Recorder
    from agentrunner.stores import Store

JOURNAL_PAGE_BYTES = 1 << 20


class LiveRun:
    """A run readers can follow: a recorder, and word of its changes."""

    def __init__(self, claim: Claim, recorder: Recorder, store: Store) -> None:
        self.claim = claim
        self.recorder = recorder
        self._store = store
        self.closed = False
        """Whether nothing more will come."""
        self.readers = 0
        """How many streams follow the run while it is live."""
        self.failure: Frames | None = None
        """The last word to readers of a run whose end could not be made durable."""
        self._waiters: list[asyncio.Future[None]] = []

    async def changed(self) -> None:
        """Wait until something is published or the run is closed."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter

    async def published(self, seq: int) -> None:
        """Wait until readers may see this sequence number, or the run is closed."""
        while self.recorder.published < seq and not self.closed:
            await self.changed()

    async def catch_up(self) -> None:
        """Take in what the journal has of the run already."""
        while True:
            page = await self._store.journal(self.claim.thread_id, self.recorder.last_seq, None, JOURNAL_PAGE_BYTES)
            # Without the run's own token the frames may be those of a later run.
            if not len(page.frames) or page.live_token != self.claim.token:
                return
            self.recorder.replay(page.frames)

    def wake(self) -> None:
        """Tell the readers that there is something new."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def close(self) -> None:
        """Tell the readers that nothing more will come."""
        self.closed = True
        self.wake()

    async def ended(self) -> None:
        """Wait until the run is closed."""
        while not self.closed:
            await self.changed()


def last_word(recorder: Recorder, message: str, code: str) -> Frames | None:
    """Give a `RUN_ERROR` that is in no store, if readers saw none yet; its cursor is that of the last event that is."""
    if recorder.failed and recorder.published == recorder.last_seq:
        return None
    event = orjson.dumps({"type": "RUN_ERROR", "message": message, "code": code})
    return Frames(b"id: %d\ndata: %s\n\n" % (recorder.published, event))
