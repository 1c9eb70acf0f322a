"""JSON responses, and the errors that handlers raise to send one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from agentrunner._codec import dump

if TYPE_CHECKING:
    from collections.abc import Mapping


BUSY_THREAD_ADVICE = (
    "The thread's run has not ended. Send the message again when it has, or stop the run first: a "
    "message sent after that waits for its end. The server can let messages wait or replace the run: set "
    "on_concurrent_run to 'enqueue' or 'supersede'."
)


class ApiResponse(Response):
    """A response with a JSON body."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the body as JSON."""
        return dump(content)


class ApiError(Exception):
    """An error response: its status, its JSON body and its headers."""

    def __init__(self, status: int, content: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(content.get("message") or content.get("error"))
        self.status = status
        self.content = dict(content)
        self.headers = headers

    def to_response(self) -> Response:
        """Return the response to send."""
        return ApiResponse(self.content, self.status, self.headers)


class UnknownPath(ApiError):
    """404: the path belongs to no route."""

    def __init__(self) -> None:
        super().__init__(404, {"error": "Not found"})


class UnknownThread(ApiError):
    """404: the thread does not exist or belongs to another user; both must look the same."""

    def __init__(self) -> None:
        super().__init__(404, {"error": "Thread not found"})


class BusyThread(ApiError):
    """409: the thread already has a live run."""

    def __init__(self) -> None:
        # CopilotKit's clients expect the first three fields.
        message = "Thread already running"
        content = {"error": "Thread lock denied", "code": "agent_thread_locked", "message": message}
        super().__init__(409, content | {"details": BUSY_THREAD_ADVICE})


class FullLine(ApiError):
    """429: too many runs wait for their thread; the client may try again later."""

    def __init__(self, message: str) -> None:
        content = {"error": "Too many runs are waiting", "code": "agent_queue_full", "message": message}
        super().__init__(429, content, {"Retry-After": "5"})


class ServerShuttingDown(ApiError):
    """503: this process starts no more runs; the client may retry with another process."""

    def __init__(self) -> None:
        super().__init__(503, {"error": "Shutting down"}, {"Retry-After": "1"})


class WrongMethod(ApiError):
    """405: the route does not take this HTTP method."""

    def __init__(self, allowed: tuple[str, ...]) -> None:
        super().__init__(405, {"error": "Method not allowed"}, {"Allow": ", ".join(allowed)})


class InvalidEnvelope(ApiError):
    """An error that clients of the single-route endpoint understand."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(status, {"error": "invalid_request", "message": message})
