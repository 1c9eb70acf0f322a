"""Wait for changes in followed threads, with one subscription for the whole process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

if TYPE_CHECKING:
    from redis.asyncio.client import PubSub

    from agentrunner.stores.redis.client import RedisClient

logger = logging.getLogger("agentrunner")

LONGEST_WAIT_SECONDS = 1.0
"""Seconds after which a follower reads without a message, since messages can be lost."""
RECHECK_SECONDS = 0.02
"""Seconds after which a follower reads again if it may have missed a change."""
UNUSED_SECONDS = 5.0
"""Seconds without a follower after which a thread is unsubscribed."""
SILENCE_SECONDS = 10.0
"""Seconds of silence, even after a ping, after which the subscription is made again."""
RESUBSCRIBE_SECONDS = 0.1
"""Seconds between two attempts to subscribe."""


class _WatchedThread:
    """A thread to whose changes this process is subscribed."""

    __slots__ = ("changed_at", "is_subscribed", "last_used", "new_frames_at", "newest_seq", "next_message")

    def __init__(self, now: float) -> None:
        self.is_subscribed = False
        self.newest_seq = 0
        """Newest sequence number in a message."""
        self.new_frames_at = self.changed_at = 0.0
        """Times of the last message about new frames, and about another change.

        The end of a run is such another change.
        """
        self.last_used = now
        self.next_message: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Future that the next message completes."""

    def is_unused(self, now: float) -> bool:
        """Return whether no follower has waited for a while."""
        return now - self.last_used > UNUSED_SECONDS

    def wake(self) -> None:
        if not self.next_message.done():
            self.next_message.set_result(None)
        self.next_message = asyncio.get_running_loop().create_future()


class RedisWatcher:
    """Waits for changes in any number of threads over one subscription.

    `XREAD BLOCK` would need a blocked connection for each set of streams, and another thread could not be added to the
    set until it returns.
    """

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._prefix = f"{client.prefix}:changed:".encode()
        self._watched: dict[bytes, _WatchedThread] = {}
        self._pubsub: PubSub | None = None
        self._listening: asyncio.Task[None] | None = None

    async def aclose(self) -> None:
        """End the subscription and wake all followers."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])
        for watched in self._watched.values():
            watched.wake()
        self._watched.clear()

    async def wait_for_change(self, thread_id: str, after: int) -> None:
        """Wait for the next change; return at once if there may be frames after `after` already."""
        self._client.require_open()
        channel = self._prefix + thread_id.encode()
        now = time.monotonic()
        watched = self._watched.get(channel)
        if watched is None:
            watched = self._watched[channel] = _WatchedThread(now)
            if self._pubsub is not None:
                # If this fails, the listening task makes a new connection and subscribes to all channels.
                with contextlib.suppress(RedisError, OSError):
                    await self._pubsub.subscribe(channel)
        if self._listening is None or self._listening.done():
            self._listening = asyncio.get_running_loop().create_task(self._listen())
        watched.last_used = now
        wait_seconds = LONGEST_WAIT_SECONDS
        if not watched.is_subscribed:
            # There is no message about what happens before the subscription.
            wait_seconds = RECHECK_SECONDS
        elif now - watched.new_frames_at < LONGEST_WAIT_SECONDS and watched.newest_seq > after:
            return
        elif now - watched.changed_at < LONGEST_WAIT_SECONDS:
            # The change may have come between the caller's last read and now.
            wait_seconds = RECHECK_SECONDS
        await asyncio.wait([watched.next_message], timeout=wait_seconds)

    async def _listen(self) -> None:
        while self._watched:
            try:
                await self._listen_once()
            except (RedisError, OSError) as error:
                logger.info("the subscription to changes of threads has failed; the store subscribes again: %s", error)
                await asyncio.sleep(RESUBSCRIBE_SECONDS)
            finally:
                for watched in self._watched.values():
                    watched.is_subscribed = False
                    watched.wake()

    async def _listen_once(self) -> None:
        pubsub = self._client.make_pubsub()
        try:
            channels = set(self._watched)
            await pubsub.subscribe(*channels)
            self._pubsub = pubsub
            if new_channels := self._watched.keys() - channels:
                await pubsub.subscribe(*new_channels)
            last_message_at = time.monotonic()
            while self._watched:
                message = await pubsub.get_message(timeout=LONGEST_WAIT_SECONDS)
                now = time.monotonic()
                if message is not None:
                    last_message_at = now
                    self._handle(message, now)
                elif now - last_message_at > SILENCE_SECONDS:
                    raise ConnectionError("the server no longer sends anything")
                elif now - last_message_at > SILENCE_SECONDS / 2:
                    await pubsub.ping()
                if unused := [channel for channel, watched in self._watched.items() if watched.is_unused(now)]:
                    for channel in unused:
                        del self._watched[channel]
                    await pubsub.unsubscribe(*unused)
        finally:
            self._pubsub = None
            await pubsub.aclose()  # type: ignore[no-untyped-call]

    def _handle(self, message: dict[str, Any], now: float) -> None:
        watched = self._watched.get(message["channel"])
        if watched is None:
            return
        if message["type"] == "subscribe":
            watched.is_subscribed = True
        elif message["type"] != "message":
            return
        elif message["data"]:
            watched.newest_seq = int(message["data"])
            watched.new_frames_at = now
        else:
            watched.changed_at = now
        watched.wake()
