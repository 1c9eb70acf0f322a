"""A proxy that cuts a connection after the server got a request and before its response."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Proxy:
    """Passes on what clients and a server send each other."""

    def __init__(self, location: str) -> None:
        self._address = urlsplit(location)
        self._ways: set[Way] = set()
        self.lost = 0
        """The number of lost responses."""
        self._losing = False
        self._handed_on = 0
        self._changed = asyncio.Condition()
        self.location = ""

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self._address.hostname or "127.0.0.1", self._address.port
        try:
            to_server = await asyncio.open_connection(host, port)
        except OSError:
            writer.transport.abort()
            return
        way = Way(self, (reader, writer), to_server)
        way.doomed = self._losing
        self._ways.add(way)
        try:
            await way.go()
        finally:
            self._ways.discard(way)

    def cut(self) -> None:
        """Cut every connection now."""
        for way in list(self._ways):
            way.cut()

    async def lose_answers(self) -> None:
        """Cut every connection when it has passed on a request and the server begins to respond.

        Returns after the first such answer; until then also new connections are cut so.
        """
        lost = self.lost
        self._losing = True
        for way in self._ways:
            way.doomed = True
        async with self._changed:
            await self._changed.wait_for(lambda: self.lost > lost)

    async def hand_on(self, answers: int) -> None:
        """Pass on a number of responses."""
        enough = self._handed_on + answers
        async with self._changed:
            await self._changed.wait_for(lambda: self._handed_on >= enough)

    async def count_answer(self, lost: bool) -> None:
        """Count a response."""
        async with self._changed:
            self.lost += lost
            self._handed_on += not lost
            self._losing = self._losing and not lost
            self._changed.notify_all()


class Way:
    """A client's connection, and the connection to the server."""

    def __init__(
        self,
        proxy: Proxy,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        server: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self.doomed = False
        self._asked = False

    async def go(self) -> None:
        """Pass data on until either side closes."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._requests())
            group.create_task(self._answers())

    async def _requests(self) -> None:
        with contextlib.suppress(OSError):
            while data := await self._client[0].read(1 << 16):
                self._asked = self.doomed
                self._server[1].write(data)
                await self._server[1].drain()
        # The server still completes the requests it has received.
        self._server[1].close()

    async def _answers(self) -> None:
        with contextlib.suppress(OSError):
            while data := await self._server[0].read(1 << 16):
                await self._proxy.count_answer(lost=self._asked)
                if self._asked:
                    break
                self._client[1].write(data)
                await self._client[1].drain()
        self.cut()

    def cut(self) -> None:
        """Cut both connections without notice."""
        self._client[1].transport.abort()
        self._server[1].close()


@contextlib.asynccontextmanager
async def proxy(location: str) -> AsyncIterator[Proxy]:
    """Yield a proxy to a store's server; its `location` is the store's, through the proxy."""
    instance = Proxy(location)
    async with await asyncio.start_server(instance.accept, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        address = urlsplit(location)
        user, at, _ = address.netloc.rpartition("@")
        instance.location = urlunsplit(address._replace(netloc=f"{user}{at}127.0.0.1:{port}"))
        try:
            yield instance
        finally:
            listening.close()
            instance.cut()
