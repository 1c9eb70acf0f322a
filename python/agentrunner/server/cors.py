"""Cross-origin requests: the original's rules (docs/spec/http.md §4.10), and what is refused without them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.responses import Response

from agentrunner.server.responses import ApiError

if TYPE_CHECKING:
    from starlette.datastructures import MutableHeaders
    from starlette.requests import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Cors:
    """Which origins may use the server from a browser. As it is made without options: all, without credentials."""

    origin: str | Sequence[str] | Callable[[str], str | None] | None = None
    """One origin, several, or a function that gives the origin to allow; `None`: any."""
    credentials: bool = False
    allow_methods: Sequence[str] = ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS")
    allow_headers: Sequence[str] = ("*",)
    expose_headers: Sequence[str] = ()
    max_age: int | None = None
    """Seconds a browser may remember the answer to a preflight."""

    def allowed(self, origin: str | None) -> str | None:
        """Give the value of `Access-Control-Allow-Origin` for a request of this origin; `None`: no such header."""
        found = self._found(origin)
        # Browsers refuse the wildcard together with credentials.
        return origin if self.credentials and found == "*" else found or None

    def _found(self, origin: str | None) -> str | None:
        if self.origin is None or isinstance(self.origin, str):
            return self.origin or "*"
        if origin is None:
            return None
        if callable(self.origin):
            return self.origin(origin)
        # An empty list allows nobody.
        return origin if origin in self.origin else None

    def write(self, headers: MutableHeaders, origin: str | None) -> None:
        """Add what a browser wants to see on every answer."""
        allowed = self.allowed(origin)
        if allowed is None:
            return
        headers["Access-Control-Allow-Origin"] = allowed
        if self.credentials:
            headers["Access-Control-Allow-Credentials"] = "true"
        if self.expose_headers:
            headers["Access-Control-Expose-Headers"] = ", ".join(self.expose_headers)
        if allowed != "*":
            headers.add_vary_header("Origin")

    def preflight(self, origin: str | None) -> Response:
        """Answer an `OPTIONS` request."""
        response = Response(status_code=204)
        self.write(response.headers, origin)
        response.headers["Access-Control-Allow-Methods"] = ", ".join(self.allow_methods)
        response.headers["Access-Control-Allow-Headers"] = ", ".join(self.allow_headers)
        if self.max_age is not None:
            response.headers["Access-Control-Max-Age"] = str(self.max_age)
        response.headers.add_vary_header("Access-Control-Request-Headers, Access-Control-Request-Method")
        return response


def refuse_cross_site(request: Request, cors: Cors | None) -> None:
    """Refuse what another site's page sends without the preflight that CORS would have stopped."""
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    # Every current browser says where a request comes from; what says nothing is no browser.
    if request.headers.get("sec-fetch-site", "none") in ("same-origin", "none"):
        return
    allowed = cors.allowed(request.headers.get("origin")) if cors is not None else None
    if allowed is not None and allowed in ("*", request.headers.get("origin")):
        return
    message = "The request comes from another origin; allow it with the option `cors`"
    raise ApiError(403, {"error": "Cross-origin request refused", "message": message})
