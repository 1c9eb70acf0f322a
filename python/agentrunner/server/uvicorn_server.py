"""The app on uvicorn, with what an app alone cannot do: leave in order, and cut a stalled client off."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from typing import TYPE_CHECKING, Any, Literal

import uvicorn
from starlette.middleware.trustedhost import TrustedHostMiddleware
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from agentrunner.server.sse import ABORT, LEFT

if TYPE_CHECKING:
    from starlette.applications import Starlette

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
UNSENT = 64 * 1024
"""Bytes the kernel keeps for a client beside those that are on their way: what it takes of them is seen soon."""
LAST_READS = 5
"""Seconds that readers have for what they have not read yet when all runs have ended."""


class AbortableProtocol(HttpToolsProtocol):
    """HTTP/1.1 that lets the app cut a connection: closing it would wait for a client that reads nothing."""

    stalled_seconds = 30.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection."""
        super().connection_made(transport)
        # Where it cannot be said, what a client has not read may fill megabytes of the kernel's.
        with contextlib.suppress(AttributeError, OSError):
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, UNSENT)

    def on_headers_complete(self) -> None:
        """Give the request to the app."""
        super().on_headers_complete()
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]
        scope.setdefault("extensions", {}).update(
            {ABORT: self.transport.abort, LEFT: self.transport.get_write_buffer_size}
        )

    def on_response_complete(self) -> None:
        """See to it that the client takes the end of its answer."""
        super().on_response_complete()
        self._mind_what_is_left(None)

    def _mind_what_is_left(self, before: int | None) -> None:
        """Cut off a client that takes nothing of it: it would keep it, and its descriptor, for as long as it stays."""
        left = self.transport.get_write_buffer_size()
        if left and left == before:
            self.transport.abort()
        elif left:
            self.loop.call_later(self.stalled_seconds, self._mind_what_is_left, left)


class UvicornServer(uvicorn.Server):
    """Uvicorn that ends the runs before it waits for the connections that follow them."""

    def __init__(self, config: uvicorn.Config, app: Starlette) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop: no new runs, the live ones ended or cut off, their readers told, then the connections closed."""
        ours = self._app.state.server
        ending = asyncio.ensure_future(ours.runner.drain(ours.shutdown_seconds))
        while not (ending.done() or self.force_exit):
            # A second ctrl+c waits for nothing.
            await asyncio.wait([ending], timeout=0.1)
        if ending.cancel():
            await ours.runner.drain(0)
        # Those who still read after that are cut off; uvicorn would cancel them, with a traceback each.
        cutting = asyncio.get_running_loop().call_later(0 if self.force_exit else LAST_READS, self._cut_off)
        await super().shutdown(sockets)
        cutting.cancel()
        if self.force_exit:
            await self.lifespan.shutdown()
        # Uvicorn would raise them again: the process would end by a signal, as if it had been killed.
        self._captured_signals.clear()

    def _cut_off(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def serve(
    app: Starlette, *, host: str = "127.0.0.1", port: int = 8000, log_format: Literal["text", "json"] = "text"
) -> None:
    """Serve an app until SIGINT or SIGTERM. Without `authenticate` on loopback only browsers that mean us get in."""
    asked: Any = app
    if host in LOOPBACK_HOSTS and app.state.server.authenticate is None:
        # A page of another site can make a browser take a name of its own for 127.0.0.1.
        asked = TrustedHostMiddleware(app, allowed_hosts=["localhost", "127.0.0.1", "[::1]"], www_redirect=False)
    configure_logging(log_format)

    class Connection(AbortableProtocol):
        stalled_seconds = app.state.server.limits.stalled_seconds

    config = uvicorn.Config(
        asked,
        host=host,
        port=port,
        http=Connection,
        loop="uvloop",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=LAST_READS + 2,
    )
    with contextlib.suppress(KeyboardInterrupt):
        UvicornServer(config, app).run()


def configure_logging(log_format: Literal["text", "json"]) -> None:
    """Write what is logged to stderr: lines to read, or a JSON object each."""
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        from pythonjsonlogger.json import JsonFormatter

        handler.setFormatter(JsonFormatter("{asctime}{levelname}{name}{message}", style="{"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
