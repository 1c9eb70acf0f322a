"""JSON answers, and the refusals that are raised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from agentrunner._codec import dump

if TYPE_CHECKING:
    from collections.abc import Mapping


class Answer(Response):
    """A JSON answer."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Write it as JSON."""
        return dump(content)


class Refusal(Exception):
    """Raised to answer with an error: its status, its JSON body, its headers."""

    def __init__(self, status: int, content: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> None:
        super().__init__(content.get("message") or content.get("error"))
        self.status = status
        self.content = dict(content)
        self.headers = headers

    def answer(self) -> Response:
        """Give it as a response."""
        return Answer(self.content, self.status, self.headers)


def not_found() -> Refusal:
    """No such path."""
    return Refusal(404, {"error": "Not found"})


def thread_not_found() -> Refusal:
    """No such thread, or not one of the principal's: the same to whoever asks."""
    return Refusal(404, {"error": "Thread not found"})


def busy() -> Refusal:
    """Say that the thread has a run already."""
    message = "Thread already running"
    return Refusal(409, {"error": "Thread lock denied", "code": "agent_thread_locked", "message": message})


def shutting_down() -> Refusal:
    """No new runs: another process, or this one's successor, takes them."""
    return Refusal(503, {"error": "Shutting down"}, {"Retry-After": "1"})


def method_not_allowed(allowed: tuple[str, ...]) -> Refusal:
    """Not with this method."""
    return Refusal(405, {"error": "Method not allowed"}, {"Allow": ", ".join(allowed)})


def invalid_request(status: int, message: str) -> Refusal:
    """Give what a single-route endpoint answers to a bad envelope."""
    return Refusal(status, {"error": "invalid_request", "message": message})
