"""The dispatch of requests: routing, errors, CORS, metrics and the access log."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from agentrunner.errors import RunnerClosed
from agentrunner.server.cors import Cors
from agentrunner.server.requests import read_api_request
from agentrunner.server.responses import ApiError, ApiResponse, ServerShuttingDown
from agentrunner.server.sse import OPEN_STREAMS

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import Message, Receive, Scope, Send

    from agentrunner.server.context import AppContext

logger = logging.getLogger("agentrunner.server")
access_logger = logging.getLogger("agentrunner.access")

UNMATCHED = "unmatched"
"""Route name, in metrics and logs, of a request that was refused early."""
CLIENT_CLOSED_REQUEST = 499
"""Status, in metrics and logs, of a request whose client disconnected, as in nginx."""


class Dispatcher:
    """The ASGI app for all routes of the table, with CORS, metrics and the access log."""

    def __init__(self, context: AppContext) -> None:
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        scope[OPEN_STREAMS] = self._context.open_streams
        http = Request(scope, receive)
        cors = self._context.cors if isinstance(self._context.cors, Cors) else None
        origin = http.headers.get("origin")
        status, started = 500, time.perf_counter()
        route_name = UNMATCHED
        # Quote the path: it may contain line breaks, which would forge log lines.
        path = quote(scope["path"])

        async def send_with_cors(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if cors is not None:
                    cors.add_headers(MutableHeaders(scope=message), origin)
            await send(message)

        try:
            if cors is not None and http.method == "OPTIONS":
                status = 204
                await cors.answer_preflight(origin)(scope, receive, send)
                return
            response: Response
            try:
                request = await read_api_request(self._context, http)
                route_name = request.route.name
                response = await request.route.handler(self._context, request)
            except ApiError as error:
                response = error.to_response()
            except HTTPException as error:
                response = ApiResponse({"error": error.detail}, error.status_code, error.headers)
            except ClientDisconnect:
                status = CLIENT_CLOSED_REQUEST
                return
            except RunnerClosed as error:
                # Only the log has the advice: it is for the operator, and a client just retries.
                logger.warning("a request is refused: %s %s: %s", http.method, path, error)
                response = ServerShuttingDown().to_response()
            except Exception:
                logger.exception("a request failed: %s %s", http.method, path)
                response = ApiResponse({"error": "internal_error"}, 500)
            await response(scope, receive, send_with_cors)
        finally:
            seconds = time.perf_counter() - started
            self._context.metrics.count_response(route_name, status, seconds)
            access_logger.info(
                "%s %s %d", http.method, path, status,
                extra={"method": http.method, "path": path, "status": status, "seconds": seconds, "route": route_name},
            )  # fmt: skip
