"""Word of what other processes write: notifications as hints, and one poll beside them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import psycopg

from agentrunner.errors import StoreError
from agentrunner.stores.postgres.client import direct
from agentrunner.stores.postgres.text import keepable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from agentrunner.stores.postgres.client import PostgresClient

logger = logging.getLogger("agentrunner")

LOOK_EVERY = 0.05
"""Seconds between looks at the runs that are followed."""
LONGEST = 1.0
"""Seconds after which a follower looks for itself."""
TELL_EVERY = 0.005
"""Seconds between notifications; what is to be told meanwhile goes in one."""
IDLE = 60.0
"""Seconds without a follower after which nothing is listened to."""
AGAIN_AFTER = 1.0
"""Seconds until a lost connection is made anew."""
MOST_KEYS = 999
"""As many as a notification of 8,000 bytes has room for; of more none is named, which means any."""

LOOK = """SELECT thread_id, token, last_seq,
  followed_until IS NULL OR followed_until < clock_timestamp() + interval '5s'
  FROM "agentrunner".live_runs WHERE thread_id = ANY (%(threads)b::text[])"""

# By this its owner knows that somebody wants to be told. Of those that are being written the mark comes a little later.
FOLLOW = """UPDATE "agentrunner".live_runs l SET followed_until = clock_timestamp() + interval '10s'
  FROM (SELECT thread_id FROM "agentrunner".live_runs WHERE thread_id = ANY (%(threads)b::text[])
    FOR UPDATE SKIP LOCKED) f WHERE l.thread_id = f.thread_id RETURNING 1"""

# A hint need not outlive a power cut, so the commit need not wait for the disk.
TELL = "SELECT set_config('synchronous_commit', 'off', true), pg_notify(%(channel)s, %(keys)s)"


class _Waiter(NamedTuple):
    thread_id: str
    after: int
    told: asyncio.Future[None]


class PostgresListener:
    """Tells who follows a run when to look, and other processes what was written here.

    A notification is a hint, sent behind the commit and never within it, where it would make commits wait for each
    other. Where none arrives, as behind PgBouncer's transaction pooling, the poll finds the same a little later.
    """

    def __init__(self, client: PostgresClient) -> None:
        self._client = client
        self._channel = "agentrunner_" + hashlib.blake2b(client.schema.encode(), digest_size=8).hexdigest()
        self._waiting: dict[str, list[_Waiter]] = {}
        """By the key of their thread."""
        self._tokens: dict[str, int] = {}
        """Of the threads that are followed, the live run's token when last looked at."""
        self._to_tell: set[str] = set()
        self._tasks: dict[Callable[[], Coroutine[None, None, None]], asyncio.Task[None]] = {}
        self._pooled = False
        """Whether notifications cannot reach us."""
        self.listening = False
        """Whether they do."""

    async def aclose(self) -> None:
        """Stop looking, listening and telling."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def tell(self, thread_id: str) -> None:
        """Let other processes know that something was written."""
        self._to_tell.add(_key(thread_id))
        self._start(self._tell)

    async def changed(self, thread_id: str, after: int) -> None:
        """Return when there may be something new, within a second in any case."""
        waiter = _Waiter(thread_id, after, asyncio.get_running_loop().create_future())
        waiters = self._waiting.setdefault(_key(thread_id), [])
        waiters.append(waiter)
        self._start(self._look)
        if not self._pooled:
            self._start(self._listen)
        try:
            await asyncio.wait([waiter.told], timeout=LONGEST)
        finally:
            waiters.remove(waiter)
            if not waiters:
                del self._waiting[_key(thread_id)]

    def _start(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        task = self._tasks.get(work)
        if task is None or task.done():
            self._tasks[work] = asyncio.get_running_loop().create_task(work())

    async def _tell(self) -> None:
        while self._to_tell:
            keys, self._to_tell = self._to_tell, set()
            try:
                await self._client.rows(
                    TELL, channel=self._channel, keys="".join(keys) if len(keys) <= MOST_KEYS else ""
                )
            except StoreError as error:
                logger.debug("other processes are not told, they have to look: %s", error)
            await asyncio.sleep(TELL_EVERY)

    async def _look(self) -> None:
        """Look at all followed runs together."""
        while self._waiting:
            waiters = [waiter for same in self._waiting.values() for waiter in same]
            try:
                threads = {waiter.thread_id for waiter in waiters if keepable(waiter.thread_id)}
                rows = await self._client.rows(LOOK, threads=list(threads))
                if unmarked := [thread_id for thread_id, _, _, soon_unmarked in rows if soon_unmarked]:
                    await self._client.rows(FOLLOW, threads=unmarked)
            except StoreError as error:
                # Who waits looks after a while, and is told what is wrong.
                logger.debug("followed runs could not be looked at: %s", error)
                rows = []
            live = {thread_id: (token, last_seq) for thread_id, token, last_seq, _ in rows}
            for waiter in waiters:
                token, last_seq = live.get(waiter.thread_id, (None, 0))
                # A token that was not there at the last look is another run, or the first that is seen.
                if token is None or last_seq > waiter.after or token != self._tokens.get(waiter.thread_id):
                    _wake(waiter)
            self._tokens = {thread_id: token for thread_id, (token, _) in live.items()}
            await asyncio.sleep(LOOK_EVERY)

    async def _listen(self) -> None:
        while self._waiting:
            try:
                async with await self._client.connect() as connection:
                    self._pooled = not await direct(connection)
                    if self._pooled:
                        return
                    await connection.execute(f"LISTEN {self._channel}")
                    self.listening = True
                    while True:
                        async for notification in connection.notifies(timeout=IDLE):
                            self._heard(notification.payload)
                        if not self._waiting:
                            return
            except psycopg.Error as error:
                logger.debug("notifications are not heard: %s", error)
                await asyncio.sleep(AGAIN_AFTER)
            finally:
                self.listening = False

    def _heard(self, keys: str) -> None:
        named = [keys[n : n + 8] for n in range(0, len(keys), 8)] or list(self._waiting)
        for key in named:
            for waiter in self._waiting.get(key, ()):
                _wake(waiter)


@lru_cache(maxsize=4096)
def _key(thread_id: str) -> str:
    """Give eight characters that stand for a thread; that another has the same costs a look."""
    digest = hashlib.blake2b(thread_id.encode("utf-8", "surrogatepass"), digest_size=6).digest()
    return base64.b64encode(digest).decode()


def _wake(waiter: _Waiter) -> None:
    if not waiter.told.done():
        waiter.told.set_result(None)
