"""Uvicorn for the app: it shuts down in order and drops stalled clients."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import re
import resource
import socket
import sys
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import uvicorn
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from agentrunner._checks import check_integer, check_seconds
from agentrunner.server.context import LAST_READS_SECONDS
from agentrunner.server.sse import ABORT_EXTENSION, UNSENT_BYTES_EXTENSION

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from agentrunner.server.app import AgentApp

logger = logging.getLogger("agentrunner.server")

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
_LOOPBACK_NAME = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:[0-9]+)?", re.IGNORECASE)
"""The `Host` header of a request to a loopback address."""
KERNEL_UNSENT_BYTES = 64 * 1024
"""Bytes that the kernel buffers for a client; with more, a stalled client is noticed too late."""
RESERVED_FILES = 128
"""Open files that are left for the store and for connections that are being accepted."""


class AbortableProtocol(HttpToolsProtocol):
    """An HTTP/1.1 protocol that lets the app cut a connection.

    A normal close waits until the client has read everything, and a stalled client never does.
    """

    stalled_seconds = 30.0
    head_seconds = 10.0
    max_connections = 10_000
    idle: ClassVar[dict[AbortableProtocol, None]] = {}
    """Connections without a complete request, the oldest first; each server has its own."""

    _head_timer: asyncio.TimerHandle | None = None

    def __init_subclass__(cls) -> None:
        cls.idle = {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept a connection; if there are too many, close the longest idle one."""
        super().connection_made(transport)
        self.idle[self] = None
        self._start_head_timer()
        if len(self.connections) > self.max_connections:
            # If all others are busy, that is this one.
            oldest = next(iter(self.idle))
            logger.warning("over %d connections; closing the one that has been idle longest", self.max_connections)
            oldest.transport.abort()
        # Systems without this option may buffer megabytes for a client that does not read.
        with contextlib.suppress(AttributeError, OSError):
            connection = transport.get_extra_info("socket")
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, KERNEL_UNSENT_BYTES)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget a connection."""
        self._stop_head_timer()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Limit the time that the head of another request may take."""
        super().on_message_begin()
        if self._head_timer is None:
            self._start_head_timer()

    def on_headers_complete(self) -> None:
        """Pass the request to the app."""
        self._stop_head_timer()
        super().on_headers_complete()
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]
        scope.setdefault("extensions", {}).update(
            {ABORT_EXTENSION: self.transport.abort, UNSENT_BYTES_EXTENSION: self.transport.get_write_buffer_size}
        )

    def on_message_complete(self) -> None:
        """Note the end of a request."""
        super().on_message_complete()
        if self.cycle.response_complete:
            self._stop_head_timer()
            self.idle[self] = None

    def on_response_complete(self) -> None:
        """Cut the connection later if the client does not read the end of its response."""
        super().on_response_complete()
        self._abort_if_stalled(None)
        if not self.transport.is_closing() and not self.pipeline:
            self.idle[self] = None
            if self.cycle is not None and self.cycle.more_body:
                # The rest of a refused body gets as much time as a head; uvicorn would read it forever.
                self._start_head_timer()

    def _start_head_timer(self) -> None:
        self._head_timer = self.loop.call_later(self.head_seconds, self._close_slow_sender)

    def _stop_head_timer(self) -> None:
        self.idle.pop(self, None)
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _close_slow_sender(self) -> None:
        self._head_timer = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()

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
        app.watches_signals = False

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
        # Uvicorn would raise the signals again, and the process would appear to have been killed.
        self._captured_signals.clear()

    def _abort_connections(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()


class LoopbackGuard:
    """An ASGI app that passes only requests for a loopback name to another one."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an ASGI connection."""
        # Starlette's own check does not know IPv6 addresses and capital letters in all supported versions.
        if scope["type"] == "lifespan" or _LOOPBACK_NAME.fullmatch(Headers(scope=scope).get("host", "")):
            await self.app(scope, receive, send)
        else:
            await PlainTextResponse("Invalid host header", status_code=400)(scope, receive, send)


def serve(
    app: AgentApp,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    log_format: Literal["text", "json"] = "text",
    head_seconds: float = 10.0,
    max_connections: int = 10_000,
) -> None:
    """Serve an app until SIGINT or SIGTERM.

    On loopback and without `authenticate`, only requests to a loopback name are answered.

    Args:
        app: The app that `create_app` returned.
        host: Address to listen on.
        port: Port to listen on.
        log_format: `text` for plain log lines, or `json` for one JSON object per line.
        head_seconds: Seconds that the head of a request may take to arrive; a slower connection is closed.
        max_connections: Most open connections. With one more, the connection that has been idle longest is closed.
            The process's limit of open files is raised to allow this number; if that fails, fewer connections are
            allowed.

    Raises:
        ValueError: An option is not valid.

    Example:
        serve(create_app(runner, {"default": agent}), port=8080)

    """
    check_seconds("head_seconds", head_seconds, 0.001)
    check_integer("max_connections", max_connections)
    guarded_app: ASGIApp = app
    if host in LOOPBACK_HOSTS and app.context.authenticate is None:
        # Without this check, another site's page could make the browser resolve its own name to 127.0.0.1.
        guarded_app = LoopbackGuard(app)
    configure_logging(log_format)

    config = uvicorn.Config(
        guarded_app,
        host=host,
        port=port,
        http=build_protocol(app, head_seconds, _limit_open_files(max_connections)),
        loop="uvloop",
        ws="none",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=LAST_READS_SECONDS + 2,
    )
    # Imported modules are never freed. Without this, parsing a large body makes the collector scan them all, which
    # takes longer than the parsing.
    gc.collect()
    gc.freeze()
    with contextlib.suppress(KeyboardInterrupt):
        UvicornServer(config, app).run()


def build_protocol(app: AgentApp, head_seconds: float = 10.0, max_connections: int = 10_000) -> type[AbortableProtocol]:
    """Return the protocol of one server's connections."""
    attributes = {
        "stalled_seconds": app.context.limits.stalled_seconds,
        "head_seconds": head_seconds,
        "max_connections": max_connections,
    }
    return type("Connection", (AbortableProtocol,), attributes)


def _limit_open_files(max_connections: int) -> int:
    """Raise the process's limit of open files; return how many connections it leaves room for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max_connections + RESERVED_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        max_connections = max(1, min(max_connections, soft - RESERVED_FILES))
    return max_connections


def configure_logging(log_format: Literal["text", "json"]) -> None:
    """Log to stderr, as plain text or as one JSON object per line."""
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        from pythonjsonlogger.json import JsonFormatter

        handler.setFormatter(JsonFormatter("{asctime}{levelname}{name}{message}", style="{"))
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
