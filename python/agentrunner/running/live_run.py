"""A live run as this process sees it: driven here, or followed from another process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

import orjson

from agentrunner._core import Frames
from agentrunner._failures import get_error_code, get_public_text
from agentrunner.running.offload import run_by_size
from agentrunner.stores.types import ThreadGuard
from agentrunner.types import ANY_SCOPE

if TYPE_CHECKING:
    from agentrunner._core import Claim, Recorder
    from agentrunner.stores import Store
    from agentrunner.types import AnyScope

JOURNAL_PAGE_BYTES = 1 << 20
"""Approximate number of bytes of raw frames that one read of a journal returns."""


class LiveRun:
    """A run that readers can follow: it has a recorder, and readers can wait for changes."""

    is_driven: ClassVar[bool] = False
    """Whether this process runs the agent, rather than following another process."""

    def __init__(self, claim: Claim, recorder: Recorder, store: Store) -> None:
        self.claim = claim
        self.recorder = recorder
        self._store = store
        self.is_closed = False
        """Whether the run will publish nothing more."""
        self.readers = 0
        """Number of streams that follow the run while it is live."""
        self.last_word: Frames | None = None
        """Frame with the error for the readers of a run whose end could not be stored."""
        self.recorder_lock = asyncio.Lock()
        """Lock that is held while another thread uses the recorder, so that the event loop never waits for it."""
        self._waiters: dict[asyncio.Future[None], None] = {}
        """Futures of the waiting readers, in the order in which they started to wait."""

    @property
    def silent_seconds(self) -> float:
        """Seconds since the last event of an agent that runs in this process; 0 for other runs."""
        return 0.0

    @property
    def guard(self) -> ThreadGuard:
        """Guard for the life of the thread that the run is in."""
        return ThreadGuard.of(self.claim)

    def is_known_in(self, scope: str | AnyScope | None) -> bool:
        """Return whether this process knows that the run's thread is in a scope."""
        return scope is ANY_SCOPE

    def join(self) -> None:
        """Count one more reader, which must call `leave` once.

        A run of another process is followed while it has readers.
        """
        self.readers += 1

    def leave(self) -> None:
        """Count one reader fewer."""
        self.readers -= 1

    async def wait_for_change(self) -> None:
        """Wait until events are published or the run is closed."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        try:
            await waiter
        finally:
            # A reader that leaves must not stay here until the next event, which may never come.
            self._waiters.pop(waiter, None)

    async def wait_until_published(self, seq: int) -> None:
        """Wait until events up to a sequence number are published, or the run is closed."""
        while self.recorder.published < seq and not self.is_closed:
            await self.wait_for_change()

    async def wait_until_ended(self) -> None:
        """Wait until the run is closed."""
        while not self.is_closed:
            await self.wait_for_change()

    async def catch_up(self) -> None:
        """Replay the run's journal up to its current end into the recorder."""
        while True:
            page = await self._store.journal(
                self.claim.thread_id, self.recorder.last_seq, None, JOURNAL_PAGE_BYTES, guard=self.guard
            )
            # If the live token is not this run's, the frames may belong to a later run.
            if not len(page.frames) or page.live_token != self.claim.token:
                return
            await self.replay(page.frames)

    async def replay(self, frames: Frames) -> None:
        """Replay durable frames, in another thread if there are many."""
        async with self.recorder_lock:
            await run_by_size(len(frames), self.recorder.replay, frames)

    async def read_prefix(self) -> tuple[Frames, int]:
        """Return the run's compacted frames up to now, and the sequence number they go up to."""
        async with self.recorder_lock:
            return await run_by_size(self.recorder.compacted_bytes, self.recorder.prefix, 0)

    def wake(self) -> None:
        """Wake the readers, because there are new events."""
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def close(self) -> None:
        """Close the run and wake the readers, because there will be no more events."""
        self.is_closed = True
        self.wake()

    def set_last_word(self, error: Exception) -> None:
        """Keep an error as the readers' last event, unless they have already seen a `RUN_ERROR`.

        The event is not stored, so its cursor is that of the last event that is.
        """
        recorder = self.recorder
        if recorder.failed and recorder.published == recorder.last_seq:
            self.last_word = None
            return
        code = get_error_code(error) or "STORE_ERROR"
        event = orjson.dumps({"type": "RUN_ERROR", "message": get_public_text(error), "code": code})
        self.last_word = Frames(b"id: %d\ndata: %s\n\n" % (recorder.published, event))
