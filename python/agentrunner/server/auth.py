"""Authentication: the user who sent a request, and the threads that user may see."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from starlette.requests import Request

from agentrunner.server.responses import ApiError


@dataclass(frozen=True, slots=True)
class Principal:
    """The user or team that a request was authenticated as.

    Args:
        scope: Owner of the threads that the request sees and creates: the id of a user or of a team, of 1 to 1024
            bytes.

    Raises:
        ValueError: The scope is empty, too long or not a string.

    Example:
        def authenticate(request):
            user = sessions.get(request.cookies.get("session"))
            return Principal(user.id) if user else None

    """

    scope: str
    """Owner of the threads that the request sees and creates."""

    def __post_init__(self) -> None:
        # `None` would be the scope of all threads that were created without one.
        if not isinstance(self.scope, str) or not 0 < len(self.scope.encode()) <= 1024:
            raise ValueError(f"a scope must be a string of 1 to 1024 bytes, not {self.scope!r}")


Authenticate: TypeAlias = Callable[[Request], Principal | Awaitable[Principal | None] | None]
"""Function that returns the principal of a request, or `None` to answer 401.

It may be a coroutine function, and may raise `starlette.exceptions.HTTPException`. It may also be a FastAPI dependency
that returns a `Principal`: `Depends(…)`, or a function with parameters that FastAPI resolves.
"""


async def authenticate_request(request: Request, authenticate: Authenticate | None) -> Principal | None:
    """Return the principal of a request; `None` if the server does not authenticate.

    Raises `ApiError` (401) if the request has no principal.
    """
    if authenticate is None:
        return None
    principal = authenticate(request)
    if inspect.isawaitable(principal):
        principal = await principal
    if principal is None:
        raise ApiError(401, {"error": "Unauthorized"}, {"WWW-Authenticate": "Bearer"})
    if not isinstance(principal, Principal):
        # An application's own user object has no scope, so the request would see the threads of all users.
        raise TypeError(f"authenticate must return a Principal or None, not {type(principal).__name__}")
    return principal
