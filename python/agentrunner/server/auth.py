"""Who asks, and whose threads they see."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from starlette.requests import Request

from agentrunner.server.responses import ApiError


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever a request was authenticated as."""

    scope: str
    """Whose threads are seen and made: a user's id, or a team's. At most 1 KiB."""

    def __post_init__(self) -> None:
        # `None` would be the scope of all threads that were made without one.
        if not isinstance(self.scope, str) or not 0 < len(self.scope.encode()) <= 1024:
            raise ValueError(f"a scope is a string of 1 to 1024 bytes, not {self.scope!r}")


Authenticate: TypeAlias = Callable[[Request], Principal | Awaitable[Principal | None] | None]
"""Gives the principal of a request, or `None`: then the answer is 401. May raise `starlette.HTTPException`."""


async def principal_of(request: Request, authenticate: Authenticate | None) -> Principal | None:
    """Give who asks; `None` where the server does not ask for it. Raises `ApiError` (401)."""
    if authenticate is None:
        return None
    found = authenticate(request)
    if inspect.isawaitable(found):
        found = await found
    if found is None:
        raise ApiError(401, {"error": "Unauthorized"}, {"WWW-Authenticate": "Bearer"})
    if not isinstance(found, Principal):
        # Anything else, a user's object for one, would silently be no scope at all.
        raise TypeError(f"authenticate must give a Principal or None, not {type(found).__name__}")
    return found
