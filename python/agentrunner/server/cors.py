"""Cross-origin requests: CORS, and a guard against the pages of other sites.

The CORS rules are those of CopilotKit's runtime (docs/spec/http.md §4.10).
"""

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
    """The origins whose pages may use the server: by default all, without credentials.

    Args:
        origin: One origin, several, or a function that takes the origin of a request and returns the one to allow;
            `None` allows any.
        credentials: Let browsers send cookies and HTTP authentication.
        allow_methods: Methods that a preflight allows.
        allow_headers: Request headers that a preflight allows.
        expose_headers: Response headers that pages may read.
        max_age: Seconds a browser may remember the response to a preflight.

    Example:
        create_app(runner, agents, cors=Cors(origin="https://chat.example.com", credentials=True))

    """

    origin: str | Sequence[str] | Callable[[str], str | None] | None = None
    credentials: bool = False
    allow_methods: Sequence[str] = ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS")
    allow_headers: Sequence[str] = ("*",)
    expose_headers: Sequence[str] = ()
    max_age: int | None = None

    def resolve_origin(self, origin: str | None) -> str | None:
        """Return the `Access-Control-Allow-Origin` for an origin; `None` if there is none."""
        allowed = self._find_allowed(origin)
        # Browsers refuse the wildcard together with credentials.
        return origin if self.credentials and allowed == "*" else allowed or None

    def _find_allowed(self, origin: str | None) -> str | None:
        if self.origin is None or isinstance(self.origin, str):
            return self.origin or "*"
        if origin is None:
            return None
        if callable(self.origin):
            return self.origin(origin)
        # An empty list allows no origin.
        return origin if origin in self.origin else None

    def add_headers(self, headers: MutableHeaders, origin: str | None) -> None:
        """Add the CORS headers to the response to a request from this origin."""
        allowed = self.resolve_origin(origin)
        if allowed is None:
            return
        headers["Access-Control-Allow-Origin"] = allowed
        if self.credentials:
            headers["Access-Control-Allow-Credentials"] = "true"
        if self.expose_headers:
            headers["Access-Control-Expose-Headers"] = ", ".join(self.expose_headers)
        if allowed != "*":
            headers.add_vary_header("Origin")

    def answer_preflight(self, origin: str | None) -> Response:
        """Return the response to an `OPTIONS` request from this origin."""
        response = Response(status_code=204)
        self.add_headers(response.headers, origin)
        response.headers["Access-Control-Allow-Methods"] = ", ".join(self.allow_methods)
        response.headers["Access-Control-Allow-Headers"] = ", ".join(self.allow_headers)
        if self.max_age is not None:
            response.headers["Access-Control-Max-Age"] = str(self.max_age)
        response.headers.add_vary_header("Access-Control-Request-Headers, Access-Control-Request-Method")
        return response


def refuse_cross_site(request: Request, cors: Cors | None) -> None:
    """Raise `ApiError` (403) if a page of another site sends a request that changes something.

    Browsers send some of these requests without a preflight, so CORS alone does not stop them.
    """
    if request.method in ("GET", "HEAD", "OPTIONS"):
        return
    # Every current browser sends this header; a client without it is not a browser.
    if request.headers.get("sec-fetch-site", "none") in ("same-origin", "none"):
        return
    allowed = cors.resolve_origin(request.headers.get("origin")) if cors is not None else None
    if allowed is not None and allowed in ("*", request.headers.get("origin")):
        return
    message = "The request comes from another origin; allow it with the option `cors`"
    raise ApiError(403, {"error": "Cross-origin request refused", "message": message})
