"""JSON answers, and the refusals that are raised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from agentrunner._codec import dump

if TYPE_CHECKING:
    from collections.abc import Mapping


class ApiResponse(Response):
    """A JSON answer."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Write it as JSON."""
        return dump(content)


class ApiError(Exception):
    """Raised to answer with an error: its status, its JSON body, its headers."""

    def __init__(self, status: int, content: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(content.get("message") or content.get("error"))
        self.status = status
        self.content = dict(content)
        self.headers = headers

    def answer(self) -> Response:
        """Give it as a response."""
        return ApiResponse(self.content, self.status, self.headers)


def not_found() -> ApiError:
    """No such path."""
    return ApiError(404, {"error": "Not found"})


def thread_not_found() -> ApiError:
    """No such thread, or not one of the principal's: the same to whoever asks."""
    return ApiError(404, {"error": "Thread not found"})


def busy() -> ApiError:
    """Say that the thread has a run already."""
    message = "Thread already running"
    return ApiError(409, {"error": "Thread lock denied", "code": "agent_thread_locked", "message": message})


def shutting_down() -> ApiError:
    """No new runs: another process, or this one's successor, takes them."""
    return ApiError(503, {"error": "Shutting down"}, {"Retry-After": "1"})


def method_not_allowed(allowed: tuple[str, ...]) -> ApiError:
    """Not with this method."""
    return ApiError(405, {"error": "Method not allowed"}, {"Allow": ", ".join(allowed)})


def invalid_request(status: int, message: str) -> ApiError:
    """Give what a single-route endpoint answers to a bad envelope."""
    return ApiError(status, {"error": "invalid_request", "message": message})
