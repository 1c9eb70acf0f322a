"""The way to the server: scripts run by it, tried again over lost connections and restarts, its errors as ours."""

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

from agentrunner.errors import StoreClosed, StoreError, StoreForked, StoreFull, StoreReadOnly
from agentrunner.stores.redis.scripts import script

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from redis.asyncio import Connection
    from redis.asyncio.client import PubSub

logger = logging.getLogger("agentrunner")

T = TypeVar("T")

CONNECTIONS = 16
"""At most this many at once; who needs one more waits."""
OLDEST = (6, 2)
LARGEST = 512 << 20
"""Bytes a value of Redis may have."""
SLOWEST = 4 << 20
"""Bytes a second in which what is sent is to get to the server."""
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.5

_warned: set[str] = set()


class RedisClient:
    """Connections to one server. `patience`: seconds for which a server that is away is asked again."""

    def __init__(self, url: str, prefix: str, patience: float) -> None:
        self.prefix = prefix
        self._key = prefix.encode()
        self._patience = patience
        # So that there is time for a second try; a short lease is no reason to take a busy machine for a dead one.
        self._timeout = max(patience / 2, 1.0)
        # Only makes the connections: its own are handed out at some cost, and one whose user was cancelled as it was.
        self._pool = redis.asyncio.ConnectionPool.from_url(
            url, protocol=2, socket_connect_timeout=self._timeout, socket_keepalive=True
        )
        # Whatever the address says. Timeouts are around each exchange: redis-py's own way of sending with one loses
        # cancellations (Python < 3.12). And it does not know against which answers it helps to try again.
        self._pool.connection_kwargs.update(decode_responses=False, socket_timeout=None, retry=Retry(NoBackoff(), 0))
        self._where = _where(self._pool)
        self._idle: list[Connection] = []
        self._free = asyncio.Semaphore(CONNECTIONS)
        self._pid: int | None = None

    async def open(self) -> None:
        """Connect. Raises `StoreError` where there is no server, or one that is too old."""
        self._pid = os.getpid()
        try:
            await self._look_over()
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Let go of the connections."""
        forked, self._pid = self.forked, None
        # A forked child's sockets are its parent's: closed here they would no longer be watched there.
        if not forked:
            await self._hang_up()
            await self._pool.disconnect()

    async def _hang_up(self) -> None:
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)

    async def _look_over(self) -> None:
        server = await self.command("INFO", "server")
        found = server.partition(b"redis_version:")[2].split(b"\r\n")[0].decode()
        if tuple(int(part) for part in found.split(".")[:2]) < OLDEST:
            raise StoreError(f"{self._where} is version {found}; 6.2 or newer is needed")
        if self._where in _warned:
            return
        _warned.add(self._where)
        names = ("maxmemory", "maxmemory-policy", "appendonly", "save")
        answers = await self.patiently(lambda _: self._ask([("CONFIG", "GET", name) for name in names]))
        # A server others run for us does not tell.
        settings = {pair[0].decode(): pair[1].decode() for pair in answers if isinstance(pair, list) and len(pair) == 2}
        if settings.get("maxmemory", "0") != "0" and settings.get("maxmemory-policy", "noeviction") != "noeviction":
            logger.warning(
                "%s removes keys when memory is short (maxmemory-policy %s): threads can be lost; set noeviction",
                self._where, settings["maxmemory-policy"],
            )  # fmt: skip
        if settings.get("appendonly") == "no" and not settings.get("save"):
            logger.warning(
                "%s keeps nothing on disk (appendonly no, save ''): its restart loses every thread; set appendonly yes",
                self._where,
            )

    @property
    def forked(self) -> bool:
        """Whether the connections are another process's."""
        return self._pid not in (None, os.getpid())

    def check(self) -> None:
        """Raise `StoreClosed` or `StoreForked` where nothing can be asked."""
        if self._pid is None:
            raise StoreClosed("the store is closed")
        if self.forked:
            raise StoreForked("the store was opened before a fork; open it again in the child process")

    def pubsub(self) -> PubSub:
        """Give a connection for subscriptions."""
        return redis.asyncio.Redis(connection_pool=self._pool).pubsub()

    async def run(self, name: str, *arguments: Any) -> Any:
        """Run a script, again and again if need be: it must be one that may be run twice."""
        return await self.patiently(lambda _: self.try_once(name, *arguments))

    async def try_once(self, name: str, *arguments: Any) -> Any:
        """Run a script once; inside of `patiently`."""
        (answer,) = await self._ask([self._words(name, arguments)])
        if isinstance(answer, NoScriptError):
            await self._load(name)
            (answer,) = await self._ask([self._words(name, arguments)])
        if isinstance(answer, ResponseError):
            raise answer
        return answer

    async def run_each(self, name: str, calls: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Run a script many times in one round trip; gives for each its answer, or the error it raised."""
        answers: dict[int, Any] = {}

        async def work(_: int) -> None:
            waiting = [i for i in range(len(calls)) if i not in answers]
            again: ResponseError | None = None
            for i, answer in zip(waiting, await self._ask([self._words(name, calls[i]) for i in waiting]), strict=True):
                if isinstance(answer, ResponseError) and _passes(answer):
                    again = answer
                else:
                    answers[i] = self._as_ours(answer) if isinstance(answer, ResponseError) else answer
            if isinstance(again, NoScriptError):
                await self._load(name)
            if again is not None:
                raise again

        await self.patiently(work)
        return [answers[i] for i in range(len(calls))]

    async def command(self, *words: Any) -> Any:
        """Give the answer to a plain command."""

        async def work(_: int) -> Any:
            (answer,) = await self._ask([words])
            if isinstance(answer, ResponseError):
                raise answer
            return answer

        return await self.patiently(work)

    def _words(self, name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return ("EVALSHA", script(name).sha, 1, self._key, *arguments)

    async def _load(self, name: str) -> None:
        await self._ask([("SCRIPT", "LOAD", script(name).text)])

    async def _ask(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Give the answers to commands sent together; what the server refuses is an exception among them."""
        packed = _pack(commands)
        async with self._free:
            self.check()
            connection = self._idle.pop() if self._idle else self._connection()
            try:
                async with asyncio.timeout(self._timeout + len(packed) / SLOWEST):
                    await connection.send_packed_command(packed)
                    answers = [await _answer(connection) for _ in commands]
            except BaseException:
                # What is still to come on it would be taken for the answer to something else.
                await connection.disconnect(nowait=True)
                raise
            if self._pid is None:
                await connection.disconnect(nowait=True)
            else:
                self._idle.append(connection)
            return answers

    def _connection(self) -> Connection:
        connection: Connection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        return connection

    async def patiently(self, work: Callable[[int], Awaitable[T]]) -> T:
        """Do something that is given the number of the try, until it is done or patience ends.

        Raises `StoreError` in place of every error of redis-py.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + self._patience
        pause, tried = FIRST_PAUSE, 0
        while True:
            self.check()
            try:
                return await work(tried)
            except (RedisError, OSError) as error:
                self.check()
                if not _passes(error):
                    raise self._as_ours(error) from error
                # Tried twice at least: it may be this process that was away, not the server.
                if tried and loop.time() + pause > until:
                    raise StoreError(f"{self._where} could not be asked for {self._patience:.1f} s: {error}") from error
                if not isinstance(error, ResponseError) or _read_only(error):
                    # The others will have been cut off too; or are to a server that is no longer the one to write to.
                    await self._hang_up()
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - no secret
            pause = min(pause * 2, LONGEST_PAUSE)
            tried += 1

    def _as_ours(self, error: Exception) -> StoreError:
        if isinstance(error, OutOfMemoryError) or _said(error, "OOM"):
            return StoreFull(f"{self._where} has no memory left: {error}; what was acknowledged before is kept")
        if "No space left" in str(error):
            return StoreFull(f"{self._where} has no room on its disk: {error}; what was acknowledged before is kept")
        if _read_only(error):
            return StoreReadOnly(f"{self._where} may not be written: {error}")
        return StoreError(f"{self._where}: {error}")


def _pack(commands: list[tuple[bytes | str | int, ...]]) -> bytes:
    """Write commands as the protocol has them; redis-py's own packing takes as long as the rest of an append."""
    parts: list[bytes] = []
    for words in commands:
        parts.append(b"*%d\r\n" % len(words))
        for word in words:
            data = word if type(word) is bytes else str(word).encode()
            if len(data) > LARGEST:
                raise StoreError(f"{len(data)} bytes are more than Redis keeps in one value ({LARGEST})")
            parts += (b"$%d\r\n" % len(data), data, b"\r\n")
    return b"".join(parts)


async def _answer(connection: Connection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error


def _where(pool: redis.asyncio.ConnectionPool) -> str:
    """Name the server, without what the address may hold of passwords."""
    known = pool.connection_kwargs
    if "path" in known:
        return f"Redis at {known['path']}"
    return f"Redis at {known.get('host', 'localhost')}:{known.get('port', 6379)}"


def _said(error: Exception, word: str) -> bool:
    """Say whether an answer is of this kind; redis-py has no class for it, or it comes from within a script."""
    return str(error).startswith(word) or f"-{word} " in str(error)


def _read_only(error: Exception) -> bool:
    return isinstance(error, ReadOnlyError) or _said(error, "READONLY")


def _passes(error: Exception) -> bool:
    """Say whether what failed may work a little later."""
    if isinstance(error, (AuthenticationError, AuthorizationError)):
        return False
    passing = (ConnectionError, TimeoutError, OSError, NoScriptError, TryAgainError, ClusterDownError)
    return (
        isinstance(error, passing)
        or _read_only(error)
        or any(_said(error, word) for word in ("BUSY", "LOADING", "MASTERDOWN", "UNKILLABLE"))
    )
