"""Follow runs of other processes: notifications as hints, and one poll for all of them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import psycopg

from agentrunner.errors import StoreError
from agentrunner.stores.postgres.text import is_storable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from agentrunner.stores.postgres.client import PostgresClient

logger = logging.getLogger("agentrunner")

FOLLOWED_POLL_SECONDS = 0.05
"""Seconds between two reads of all followed runs."""
MAX_WAIT_SECONDS = 1.0
"""Seconds after which a follower reads without a hint."""
NOTIFY_SECONDS = 0.005
"""Seconds between two notifications; all threads that change meanwhile share the next."""
IDLE_SECONDS = 60.0
"""Seconds without a follower after which the process stops listening."""
RECONNECT_SECONDS = 1.0
"""Seconds until a lost connection is opened again."""
NOTIFIED_KEYS = 999
"""The greatest number of keys in one notification, which can have 8,000 bytes.

A notification without a key means all threads.
"""

READ_FOLLOWED_RUNS = """SELECT thread_id, token, last_seq,
  followed_until IS NULL OR followed_until < clock_timestamp() + interval '5s'
  FROM "agentrunner".live_runs WHERE thread_id = ANY (%(threads)b::text[])"""

# This mark makes a run's owner send notifications. Rows that are being written are marked at the next poll.
MARK_FOLLOWED_RUNS = """UPDATE "agentrunner".live_runs l SET followed_until = clock_timestamp() + interval '10s'
  FROM (SELECT thread_id FROM "agentrunner".live_runs WHERE thread_id = ANY (%(threads)b::text[])
    FOR UPDATE SKIP LOCKED) f WHERE l.thread_id = f.thread_id RETURNING 1"""

# A hint need not survive a power cut, so its commit need not wait for the disk.
NOTIFY = "SELECT set_config('synchronous_commit', 'off', true), pg_notify(%(channel)s, %(keys)s)"


class _Waiter(NamedTuple):
    thread_id: str
    after: int
    is_due: asyncio.Future[None]
    """Future that is done when the follower should read."""


class PostgresListener:
    """Wakes the followers of other processes' runs, and notifies other processes.

    A notification is only a hint. It is sent after the commit and never within it, where notifications would make
    commits wait for each other. Where none arrives, as with PgBouncer's transaction pooling, the poll finds the change
    a little later.
    """

    def __init__(self, client: PostgresClient) -> None:
        self._client = client
        self._channel = "agentrunner_" + hashlib.blake2b(client.schema.encode(), digest_size=8).hexdigest()
        self._waiters: dict[str, list[_Waiter]] = {}
        """Followers, by the key of their thread."""
        self._tokens: dict[str, int] = {}
        """Tokens of the followed runs at the last poll, by thread id."""
        self._keys_to_notify: set[str] = set()
        self._tasks: dict[Callable[[], Coroutine[None, None, None]], asyncio.Task[None]] = {}
        self._is_pooled = False
        """Whether a pooler keeps notifications from this process."""
        self.is_listening = False
        """Whether this process receives notifications now."""

    async def aclose(self) -> None:
        """Stop polling, listening and notifying."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def notify(self, thread_id: str) -> None:
        """Tell other processes soon that a thread has changed."""
        self._keys_to_notify.add(_hash_thread(thread_id))
        self._start(self._send_notifications)

    async def wait_for_change(self, thread_id: str, after: int) -> None:
        """Wait until there may be frames after a sequence number, or another live run."""
        waiter = _Waiter(thread_id, after, asyncio.get_running_loop().create_future())
        key = _hash_thread(thread_id)
        waiters = self._waiters.setdefault(key, [])
        waiters.append(waiter)
        self._start(self._poll)
        if not self._is_pooled:
            self._start(self._listen)
        try:
            await asyncio.wait([waiter.is_due], timeout=MAX_WAIT_SECONDS)
        finally:
            waiters.remove(waiter)
            if not waiters:
                del self._waiters[key]

    def _start(self, work: Callable[[], Coroutine[None, None, None]]) -> None:
        """Start a background task, unless it is running."""
        task = self._tasks.get(work)
        if task is None or task.done():
            self._tasks[work] = asyncio.get_running_loop().create_task(work())

    async def _send_notifications(self) -> None:
        while self._keys_to_notify:
            keys, self._keys_to_notify = self._keys_to_notify, set()
            payload = "".join(keys) if len(keys) <= NOTIFIED_KEYS else ""
            try:
                await self._client.fetch(NOTIFY, channel=self._channel, keys=payload)
            except StoreError as error:
                logger.debug("other processes were not notified and have to poll: %s", error)
            await asyncio.sleep(NOTIFY_SECONDS)

    async def _poll(self) -> None:
        """Read the state of all followed runs, again and again while there is a follower."""
        while self._waiters:
            waiters = [waiter for same_key in self._waiters.values() for waiter in same_key]
            try:
                thread_ids = {waiter.thread_id for waiter in waiters if is_storable(waiter.thread_id)}
                rows = await self._client.fetch(READ_FOLLOWED_RUNS, threads=list(thread_ids))
                if to_mark := [thread_id for thread_id, _, _, needs_mark in rows if needs_mark]:
                    await self._client.fetch(MARK_FOLLOWED_RUNS, threads=to_mark)
            except StoreError as error:
                # The followers wake up and read; their own reads raise the error.
                logger.debug("the followed runs could not be read: %s", error)
                rows = []
            live_runs = {thread_id: (token, last_seq) for thread_id, token, last_seq, _ in rows}
            for waiter in waiters:
                token, last_seq = live_runs.get(waiter.thread_id, (None, 0))
                # A token that the last poll did not have is another run, or the first one seen.
                if token is None or last_seq > waiter.after or token != self._tokens.get(waiter.thread_id):
                    _wake(waiter)
            self._tokens = {thread_id: token for thread_id, (token, _) in live_runs.items()}
            await asyncio.sleep(FOLLOWED_POLL_SECONDS)

    async def _listen(self) -> None:
        while self._waiters:
            try:
                async with await self._client.connect() as connection:
                    self._is_pooled = not connection.is_direct
                    if self._is_pooled:
                        return
                    await connection.execute(f"LISTEN {self._channel}")
                    self.is_listening = True
                    while True:
                        async for notification in connection.notifies(timeout=IDLE_SECONDS):
                            self._handle_notification(notification.payload)
                        if not self._waiters:
                            return
            except psycopg.Error as error:
                logger.debug("notifications cannot be received: %s", error)
                await asyncio.sleep(RECONNECT_SECONDS)
            finally:
                self.is_listening = False

    def _handle_notification(self, payload: str) -> None:
        keys = [payload[n : n + 8] for n in range(0, len(payload), 8)] or list(self._waiters)
        for key in keys:
            for waiter in self._waiters.get(key, ()):
                _wake(waiter)


@lru_cache(maxsize=4096)
def _hash_thread(thread_id: str) -> str:
    """Return a key of eight characters; threads that share a key only cause extra reads."""
    digest = hashlib.blake2b(thread_id.encode("utf-8", "surrogatepass"), digest_size=6).digest()
    return base64.b64encode(digest).decode()


def _wake(waiter: _Waiter) -> None:
    if not waiter.is_due.done():
        waiter.is_due.set_result(None)
