"""The Redis client: scripts, retries, and the server's errors as `StoreError`s."""

from __future__ import annotations

import asyncio
import logging
import os
import random
from typing import TYPE_CHECKING, Any, TypeVar

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    ConnectionError,  # noqa: A004 - redis' own
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,  # noqa: A004 - redis' own
    TryAgainError,
)

from agentrunner.errors import StoreClosed, StoreError, StoreForked, StoreFull, StoreReadOnly, StoreValueTooLarge
from agentrunner.stores.redis.scripts import load_script

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from redis.asyncio import Connection
    from redis.asyncio.client import PubSub

logger = logging.getLogger("agentrunner")

T = TypeVar("T")

CONNECTIONS = 16
"""The greatest number of connections; a command that needs one more waits."""
MIN_VERSION = (6, 2)
EVALSHA_RO_VERSION = 7
REDIS_VALUE_BYTES = 512 << 20
"""The greatest size of a value in Redis."""
MIN_BYTES_PER_SECOND = 4 << 20
"""Slowest speed at which a request may still reach the server in time."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.02, 0.5
"""Seconds between two attempts, doubled after each one."""

_warned_addresses: set[str] = set()


class RedisClient:
    """Connections to one server; a failed command is retried for `retry_seconds`."""

    def __init__(self, url: str, prefix: str, retry_seconds: float, *, read_only: bool = False) -> None:
        self.url = url
        self.prefix = prefix
        self._key = prefix.encode()
        self._read_only = read_only
        self._run_word = "EVALSHA"
        self._retry_seconds = retry_seconds
        # Half the time, so that a second attempt fits; but at least a second, so that a busy machine with a short lease
        # does not count as dead.
        self._timeout = max(retry_seconds / 2, 1.0)
        # The pool only makes the connections. Taking them from it is slow, and it takes back a connection whose user
        # was cancelled in the middle of a reply.
        self._pool = redis.asyncio.ConnectionPool.from_url(
            url, protocol=2, socket_connect_timeout=self._timeout, socket_keepalive=True
        )
        # These override the URL. The timeout is around each exchange, because redis-py loses cancellations when it
        # sends with a timeout of its own (Python < 3.12). And redis-py does not know which errors are worth a retry.
        self._pool.connection_kwargs.update(decode_responses=False, socket_timeout=None, retry=Retry(NoBackoff(), 0))
        self._address = _name_server(self._pool)
        self._idle: list[Connection] = []
        self._free_slots = asyncio.Semaphore(CONNECTIONS)
        self._pid: int | None = None

    async def open(self) -> None:
        """Connect. Raises `StoreError` if there is no server, or if it is too old."""
        self._pid = os.getpid()
        try:
            await self._check_server()
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Close the connections."""
        is_forked, self._pid = self.is_forked, None
        # A forked child has its parent's sockets: closing them here would remove them from the parent's event loop.
        if not is_forked:
            await self._close_idle()
            await self._pool.disconnect()

    async def _close_idle(self) -> None:
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)

    async def _check_server(self) -> None:
        info = await self.run_command("INFO", "server")
        version = info.partition(b"redis_version:")[2].split(b"\r\n")[0].decode()
        if tuple(int(part) for part in version.split(".")[:2]) < MIN_VERSION:
            raise StoreError(f"{self._address} is version {version}; 6.2 or newer is needed")
        if self._read_only:
            # The server then refuses a script that would write; older servers lack the word.
            self._run_word = "EVALSHA_RO" if int(version.split(".")[0]) >= EVALSHA_RO_VERSION else "EVALSHA"
            return
        if self._address in _warned_addresses:
            return
        _warned_addresses.add(self._address)
        names = ("maxmemory", "maxmemory-policy", "appendonly", "save")
        replies = await self.retry(lambda _: self._send([("CONFIG", "GET", name) for name in names]))
        # A managed server may refuse CONFIG; then nothing is known about its settings.
        settings = {pair[0].decode(): pair[1].decode() for pair in replies if isinstance(pair, list) and len(pair) == 2}
        if settings.get("maxmemory", "0") != "0" and settings.get("maxmemory-policy", "noeviction") != "noeviction":
            logger.warning(
                "%s removes keys when it is short of memory (maxmemory-policy %s), so threads can be lost; set "
                "maxmemory-policy noeviction", self._address, settings["maxmemory-policy"],
            )  # fmt: skip
        if settings.get("appendonly") == "no" and not settings.get("save"):
            logger.warning(
                "%s keeps nothing on disk (appendonly no, save ''), so a restart loses every thread; set "
                "appendonly yes", self._address,
            )  # fmt: skip

    @property
    def is_forked(self) -> bool:
        """Whether this process was forked from the one that opened the connections."""
        return self._pid not in (None, os.getpid())

    def require_open(self) -> None:
        """Raise `StoreClosed` or `StoreForked` if no command can be sent."""
        if self._pid is None:
            raise StoreClosed("the store is closed")
        if self.is_forked:
            raise StoreForked("the store was opened before a fork; open it again in the child process")

    def make_pubsub(self) -> PubSub:
        """Return a connection for subscriptions."""
        return redis.asyncio.Redis(connection_pool=self._pool).pubsub()

    async def run_script(self, name: str, *arguments: Any) -> Any:
        """Run a script that may safely be run twice, with retries."""
        return await self.retry(lambda _: self.run_script_once(name, *arguments))

    async def run_script_once(self, name: str, *arguments: Any) -> Any:
        """Run a script without retries; for use inside `retry`."""
        (reply,) = await self._send([self._evalsha(name, arguments)])
        if isinstance(reply, NoScriptError):
            await self._load(name)
            (reply,) = await self._send([self._evalsha(name, arguments)])
        if isinstance(reply, ResponseError):
            raise reply
        return reply

    async def run_script_for_each(self, name: str, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run a script once for each tuple of arguments, in one round trip.

        Return for each its reply, or the error it raised.
        """
        replies: dict[int, Any] = {}

        async def attempt(_: int) -> None:
            pending = [n for n in range(len(calls)) if n not in replies]
            retryable: ResponseError | None = None
            new_replies = await self._send([self._evalsha(name, calls[n]) for n in pending])
            for n, reply in zip(pending, new_replies, strict=True):
                if isinstance(reply, ResponseError) and _is_transient(reply):
                    retryable = reply
                else:
                    replies[n] = self._convert_error(reply) if isinstance(reply, ResponseError) else reply
            if isinstance(retryable, NoScriptError):
                await self._load(name)
            if retryable is not None:
                raise retryable

        await self.retry(attempt)
        return [replies[n] for n in range(len(calls))]

    async def run_command(self, *words: Any) -> Any:
        """Run a plain command, with retries, and return its reply."""

        async def attempt(_: int) -> Any:
            (reply,) = await self._send([words])
            if isinstance(reply, ResponseError):
                raise reply
            return reply

        return await self.retry(attempt)

    def _evalsha(self, name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return (self._run_word, load_script(name).sha, 1, self._key, *arguments)

    async def _load(self, name: str) -> None:
        await self._send([("SCRIPT", "LOAD", load_script(name).text)])

    async def _send(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Send commands together and return their replies.

        The reply to a command that the server refuses is an exception.
        """
        request = _pack(commands)
        async with self._free_slots:
            self.require_open()
            connection = self._idle.pop() if self._idle else self._make_connection()
            try:
                async with asyncio.timeout(self._timeout + len(request) / MIN_BYTES_PER_SECOND):
                    await connection.send_packed_command(request)
                    replies = [await _read_reply(connection) for _ in commands]
            except BaseException:
                # The remaining replies would be mistaken for replies to other commands.
                await connection.disconnect(nowait=True)
                raise
            if self._pid is None:
                await connection.disconnect(nowait=True)
            else:
                self._idle.append(connection)
            return replies

    def _make_connection(self) -> Connection:
        connection: Connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        return connection

    async def retry(self, attempt: Callable[[int], Awaitable[T]]) -> T:
        """Repeat an attempt until it succeeds, fails for good, or the time for retries is over.

        `attempt` takes the number of attempts before it. Every error of redis-py becomes a `StoreError`.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._retry_seconds
        pause, attempts = FIRST_PAUSE_SECONDS, 0
        while True:
            self.require_open()
            try:
                return await attempt(attempts)
            except (RedisError, OSError) as error:
                self.require_open()
                if not _is_transient(error):
                    raise self._convert_error(error) from error
                # Try at least twice: it may be this process that was suspended, not the server.
                if attempts and loop.time() + pause > deadline:
                    raise StoreError(
                        f"{self._address} could not be reached for {self._retry_seconds:.1f} s: {error}"
                    ) from error
                if not isinstance(error, ResponseError) or _is_read_only(error):
                    # The idle connections will be broken as well, or lead to a server that is no longer the primary.
                    await self._close_idle()
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - no secret
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)
            attempts += 1

    def _convert_error(self, error: Exception) -> StoreError:
        if isinstance(error, OutOfMemoryError) or _has_code(error, "OOM"):
            return StoreFull(f"{self._address} has no memory left: {error}; everything that was acknowledged is kept")
        if "No space left" in str(error):
            return StoreFull(f"{self._address} has no disk space left: {error}; everything acknowledged is kept")
        if _is_read_only(error):
            return StoreReadOnly(f"{self._address} cannot be written to: {error}")
        return StoreError(f"{self._address}: {error}")


def _pack(commands: list[tuple[bytes | str | int, ...]]) -> bytes:
    """Encode commands in Redis' protocol.

    redis-py's own encoding takes as long as everything else about an append.
    """
    parts: list[bytes] = []
    for words in commands:
        parts.append(b"*%d\r\n" % len(words))
        for word in words:
            data = word if type(word) is bytes else str(word).encode()
            if len(data) > REDIS_VALUE_BYTES:
                raise StoreValueTooLarge(
                    f"Redis cannot keep {len(data)} bytes in one value; the limit is {REDIS_VALUE_BYTES}"
                )
            parts += (b"$%d\r\n" % len(data), data, b"\r\n")
    return b"".join(parts)


async def _read_reply(connection: Connection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


def _name_server(pool: redis.asyncio.ConnectionPool) -> str:
    """Return the server's address without the password that its URL may have."""
    options = pool.connection_kwargs
    if "path" in options:
        return f"Redis at {options['path']}"
    return f"Redis at {options.get('host', 'localhost')}:{options.get('port', 6379)}"


def _has_code(error: Exception, code: str) -> bool:
    """Return whether an error has a code.

    redis-py has no class for some codes, and none for any error from within a script.
    """
    return str(error).startswith(code) or f"-{code} " in str(error)


def _is_read_only(error: Exception) -> bool:
    return isinstance(error, ReadOnlyError) or _has_code(error, "READONLY")


def _is_transient(error: Exception) -> bool:
    """Return whether the next attempt may succeed."""
    if isinstance(error, (AuthenticationError, AuthorizationError)):
        return False
    transient = (ConnectionError, TimeoutError, OSError, NoScriptError, TryAgainError, ClusterDownError)
    return (
        isinstance(error, transient)
        or _is_read_only(error)
        or any(_has_code(error, code) for code in ("BUSY", "LOADING", "MASTERDOWN", "UNKILLABLE"))
    )
