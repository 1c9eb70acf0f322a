"""Uvicorn for the app: it shuts down in order and drops stalled clients."""

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

from agentrunner.server.sse import ABORT_EXTENSION, UNSENT_BYTES_EXTENSION

if TYPE_CHECKING:
    from agentrunner.server.app import AgentApp

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
KERNEL_UNSENT_BYTES = 64 * 1024
"""Bytes the kernel buffers for a client. With more, the server notices a stalled client late."""
LAST_READS_SECONDS = 5
"""Seconds that readers have to read the rest once all runs have ended."""


class AbortableProtocol(HttpToolsProtocol):
    """An HTTP/1.1 protocol that lets the app cut a connection.

    A normal close waits until the client has read everything, and a stalled client never does.
    """

    stalled_seconds = 30.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection."""
        super().connection_made(transport)
        # Systems without this option may buffer megabytes for a client that does not read.
        with contextlib.suppress(AttributeError, OSError):
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, KERNEL_UNSENT_BYTES)

    def on_headers_complete(self) -> None:
        """Pass the request to the app."""
        super().on_headers_complete()
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]
        scope.setdefault("extensions", {}).update(
            {ABORT_EXTENSION: self.transport.abort, UNSENT_BYTES_EXTENSION: self.transport.get_write_buffer_size}
        )

    def on_response_complete(self) -> None:
        """Cut the connection later if the client does not read the end of its response."""
        super().on_response_complete()
        self._abort_if_stalled(None)

    def _abort_if_stalled(self, previous: int | None) -> None:
        """Cut the connection if the client reads nothing, to free the unsent bytes."""
        unsent = self.transport.get_write_buffer_size()
        if unsent and unsent == previous:
            self.transport.abort()
        elif unsent:
            self.loop.call_later(self.stalled_seconds, self._abort_if_stalled, unsent)


class UvicornServer(uvicorn.Server):
    """A uvicorn server that ends the runs before it waits for their readers' connections."""

    def __init__(self, config: uvicorn.Config, app: AgentApp) -> None:
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Refuse new runs, end the live ones, let readers finish, and close the connections."""
        context = self._app.context
        drain_task = asyncio.ensure_future(context.runner.drain(context.shutdown_seconds))
        while not (drain_task.done() or self.force_exit):
            # A second ctrl+c sets `force_exit` and ends the wait.
            await asyncio.wait([drain_task], timeout=0.1)
        if drain_task.cancel():
            await context.runner.drain(0)
        # Cut off readers that take longer: uvicorn would cancel each of them with a traceback.
        cut_timer = asyncio.get_running_loop().call_later(
            0 if self.force_exit else LAST_READS_SECONDS, self._abort_connections
        )
        await super().shutdown(sockets)
        cut_timer.cancel()
        if self.force_exit:
            await self.lifespan.shutdown()
        # Uvicorn would raise the signals again, and the process would seem to have been killed.
        self._captured_signals.clear()

    def _abort_connections(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def serve(
    app: AgentApp, *, host: str = "127.0.0.1", port: int = 8000, log_format: Literal["text", "json"] = "text"
) -> None:
    """Serve an app until SIGINT or SIGTERM.

    On loopback and without `authenticate`, only requests to a loopback name are answered.

    Args:
        app: The app that `create_app` returned.
        host: Address to listen on.
        port: Port to listen on.
        log_format: `text` for plain log lines, or `json` for one JSON object per line.

    Example:
        serve(create_app(runner, {"default": agent}), port=8080)

    """
    guarded_app: Any = app
    if host in LOOPBACK_HOSTS and app.context.authenticate is None:
        # Without this check, another site's page could make the browser resolve its own name to 127.0.0.1.
        guarded_app = TrustedHostMiddleware(app, allowed_hosts=["localhost", "127.0.0.1", "[::1]"], www_redirect=False)
    configure_logging(log_format)

    class Connection(AbortableProtocol):
        stalled_seconds = app.context.limits.stalled_seconds

    config = uvicorn.Config(
        guarded_app,
        host=host,
        port=port,
        http=Connection,
        loop="uvloop",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=LAST_READS_SECONDS + 2,
    )
    with contextlib.suppress(KeyboardInterrupt):
        UvicornServer(config, app).run()


def configure_logging(log_format: Literal["text", "json"]) -> None:
    """Log to stderr, as plain text or as one JSON object per line."""
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        from pythonjsonlogger.json import JsonFormatter

        handler.setFormatter(JsonFormatter("{asctime}{levelname}{name}{message}", style="{"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
