"""Word of changes in threads that are followed, over one subscription a process."""

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

AT_MOST = 1.0
"""Seconds after which who waits looks by itself: a message may be lost."""
LOOK_AGAIN = 0.02
"""Seconds until who may have missed a change looks by itself."""
UNWATCHED_AFTER = 5.0
"""Seconds after the last one who waited, until the thread is no longer subscribed to."""
SILENT_AT_MOST = 10.0
"""Seconds without a word from the server, which is asked for one, until the subscription is made anew."""
PAUSE = 0.1
"""Seconds between two tries to subscribe."""


class _Watched:
    """A thread that is subscribed to."""

    __slots__ = ("ended_at", "heard_at", "last_used", "next", "seq", "subscribed")

    def __init__(self, now: float) -> None:
        self.subscribed = False
        self.seq = 0
        """The newest sequence number heard of."""
        self.heard_at = self.ended_at = 0.0
        """When of a new one; when of another change, a run's end for one."""
        self.last_used = now
        self.next: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done with the next message."""

    def unused(self, now: float) -> bool:
        """Say whether nobody has waited for a while."""
        return now - self.last_used > UNWATCHED_AFTER

    def wake(self) -> None:
        if not self.next.done():
            self.next.set_result(None)
        self.next = asyncio.get_running_loop().create_future()


class RedisWatcher:
    """Waits for changes of any number of threads.

    One subscription, where `XREAD BLOCK` would take a blocked connection for each set of streams, and could not be told
    of another thread to follow until it returns.
    """

    def __init__(self, client: RedisClient) -> None:
        self._client = client
        self._prefix = f"{client.prefix}:changed:".encode()
        self._watched: dict[bytes, _Watched] = {}
        self._pubsub: PubSub | None = None
        self._listening: asyncio.Task[None] | None = None

    async def aclose(self) -> None:
        """Let go of the subscription, and of all who wait."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])
        for watched in self._watched.values():
            watched.wake()
        self._watched.clear()

    async def changed(self, thread_id: str, after: int) -> None:
        """Return with the next change, at once if there may have been one since the caller last looked."""
        self._client.check()
        channel = self._prefix + thread_id.encode()
        now = time.monotonic()
        watched = self._watched.get(channel)
        if watched is None:
            watched = self._watched[channel] = _Watched(now)
            if self._pubsub is not None:
                # If it fails, the listener makes a new connection and subscribes to all.
                with contextlib.suppress(RedisError, OSError):
                    await self._pubsub.subscribe(channel)
        if self._listening is None or self._listening.done():
            self._listening = asyncio.get_running_loop().create_task(self._listen())
        watched.last_used = now
        wait = AT_MOST
        if not watched.subscribed:
            # What happened before the subscription nobody tells.
            wait = LOOK_AGAIN
        elif now - watched.heard_at < AT_MOST and watched.seq > after:
            return
        elif now - watched.ended_at < AT_MOST:
            # It may have come between the caller's look and now.
            wait = LOOK_AGAIN
        await asyncio.wait([watched.next], timeout=wait)

    async def _listen(self) -> None:
        while self._watched:
            try:
                await self._listen_once()
            except (RedisError, OSError) as error:
                logger.info("the subscription to changes of threads is made anew: %s", error)
                await asyncio.sleep(PAUSE)
            finally:
                for watched in self._watched.values():
                    watched.subscribed = False
                    watched.wake()

    async def _listen_once(self) -> None:
        pubsub = self._client.pubsub()
        try:
            asked = set(self._watched)
            await pubsub.subscribe(*asked)
            self._pubsub = pubsub
            if more := self._watched.keys() - asked:
                await pubsub.subscribe(*more)
            heard_at = time.monotonic()
            while self._watched:
                message = await pubsub.get_message(timeout=AT_MOST)
                now = time.monotonic()
                if message is not None:
                    heard_at = now
                    self._hear(message, now)
                elif now - heard_at > SILENT_AT_MOST:
                    raise ConnectionError("nothing comes any more")
                elif now - heard_at > SILENT_AT_MOST / 2:
                    await pubsub.ping()
                if unused := [channel for channel, watched in self._watched.items() if watched.unused(now)]:
                    for channel in unused:
                        del self._watched[channel]
                    await pubsub.unsubscribe(*unused)
        finally:
            self._pubsub = None
            await pubsub.aclose()  # type: ignore[no-untyped-call]

    def _hear(self, message: dict[str, Any], now: float) -> None:
        watched = self._watched.get(message["channel"])
        if watched is None:
            return
        if message["type"] == "subscribe":
            watched.subscribed = True
        elif message["type"] != "message":
            return
        elif message["data"]:
            watched.seq = int(message["data"])
            watched.heard_at = now
        else:
            watched.ended_at = now
        watched.wake()
