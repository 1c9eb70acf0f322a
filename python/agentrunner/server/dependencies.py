"""FastAPI dependencies as `authenticate`: FastAPI itself resolves their parameters."""

from __future__ import annotations

import inspect
import typing
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response

from agentrunner.server.responses import ApiError

if TYPE_CHECKING:
    from starlette.types import Message

RESULTS = "agentrunner.principals"
"""Key of the ASGI scope with the list that takes the dependency's result."""
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def is_dependency(authenticate: object) -> bool:
    """Return whether `authenticate` is `Depends(…)`, or has parameters for FastAPI."""
    if _is_fastapi(authenticate):
        return True
    try:
        parameters = inspect.signature(authenticate).parameters.values()  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    try:
        hints = typing.get_type_hints(authenticate, include_extras=True)
    except Exception:  # noqa: BLE001 - an annotation may name anything
        hints = {}
    metadata = [item for hint in hints.values() for item in getattr(hint, "__metadata__", ())]
    return any(map(_is_fastapi, [*metadata, *(parameter.default for parameter in parameters)]))


def _is_fastapi(value: object) -> bool:
    return type(value).__module__ == "fastapi.params"


class FastAPIDependency:
    """A dependency as a function of the request; FastAPI passes it the parameters it asks for."""

    def __init__(self, dependency: Any) -> None:
        from fastapi import Depends, FastAPI

        # An app of its own, because FastAPI has no public function that resolves a dependency.
        self._app = FastAPI(openapi_url=None)
        depends = dependency if _is_fastapi(dependency) else Depends(dependency)

        async def note(request: Request, principal: Any = depends) -> None:
            request.scope[RESULTS].append(principal)

        self._app.add_api_route("/{path:path}", note, methods=METHODS, status_code=204, response_model=None)

    async def __call__(self, request: Request) -> Any:
        """Return what the dependency returns. Raises `ApiError` with the dependency's own refusal."""
        results: list[Any] = []
        sent: list[Message] = []

        async def receive() -> Message:
            # The body belongs to the route that handles the request.
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {**request.scope, "path": "/", "raw_path": b"/", "root_path": "", RESULTS: results}
        await self._app(scope, receive, send)
        if results:
            return results[0]
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in sent[0]["headers"]}
        raise _Refusal(sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:]))


class _Refusal(ApiError):
    """A refusal in FastAPI's own words."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        super().__init__(status, {}, headers)
        self._body = body

    def to_response(self) -> Response:
        """Return the response to send."""
        return Response(self._body, self.status, self.headers)
