"""Cross-origin requests: CORS, and a guard against the pages of other sites.

The CORS rules are those of CopilotKit's runtime (docs/spec/http.md §4.10).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from starlette.responses import Response

from agentrunner._checks import check_integer
from agentrunner.server.bodies import is_json
from agentrunner.server.responses import ApiError

if TYPE_CHECKING:
    from starlette.datastructures import MutableHeaders
    from starlette.requests import Request

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
"""Methods of requests that change nothing."""
_PORTS = {"http": 80, "https": 443}


def _check_names(name: str, value: object) -> None:
    """Raise `ValueError` unless an option is a list of strings."""
    if isinstance(value, str) or not isinstance(value, Collection) or not all(isinstance(each, str) for each in value):
        raise ValueError(f"{name} must be a list of strings, not {value!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cors:
    """The origins whose pages may use the server: by default all, without credentials.

    A page whose origin is allowed but not named cannot change anything with the browser's cookies.

    Args:
        origin: One origin, several, or a function that takes the origin of a request and returns the one to allow;
            `None` allows any.
        credentials: Let browsers send cookies and HTTP authentication; the origins must then be named.
        allow_methods: Methods that a preflight allows.
        allow_headers: Request headers that a preflight allows.
        expose_headers: Response headers that pages may read.
        max_age: Seconds a browser may remember the response to a preflight.

    Raises:
        ValueError: An option is invalid, or `credentials` is set and the origins are not named.

    Example:
        create_app(runner, agents, cors=Cors(origin="https://chat.example.com", credentials=True))

    """

    origin: str | Sequence[str] | Callable[[str], str | None] | None = None
    credentials: bool = False
    allow_methods: Sequence[str] = ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS")
    allow_headers: Sequence[str] = ("*",)
    expose_headers: Sequence[str] = ()
    max_age: int | None = None

    def __post_init__(self) -> None:
        origins = [self.origin] if isinstance(self.origin, str) else self.origin
        if origins is not None and not callable(origins):
            _check_names("origin", origins)
        allows_any = origins is None or (not callable(origins) and ("*" in origins or "" in origins))
        if self.credentials and allows_any:
            raise ValueError(
                "credentials=True needs the origins that may use them, as in "
                'Cors(origin="https://chat.example.com", credentials=True): with any origin allowed, every website '
                "could act as the users who visit it"
            )
        for name in ("allow_methods", "allow_headers", "expose_headers"):
            _check_names(name, getattr(self, name))
        if self.max_age is not None:
            check_integer("max_age", self.max_age, 0)

    def admits(self, origin: str | None, *, has_credentials: bool) -> bool:
        """Return whether a page of this origin may change something."""
        allowed = self.resolve_origin(origin)
        if allowed == "*":
            return not has_credentials
        return allowed is not None and allowed == origin

    def resolve_origin(self, origin: str | None) -> str | None:
        """Return the `Access-Control-Allow-Origin` for an origin; `None` if there is none."""
        allowed = self._find_allowed(origin)
        # Browsers refuse the wildcard together with credentials.
        return None if self.credentials and allowed == "*" else allowed or None

    def _find_allowed(self, origin: str | None) -> str | None:
        if self.origin is None or isinstance(self.origin, str):
            return self.origin or "*"
        if not callable(self.origin) and "*" in self.origin:
            return "*"
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


def refuse_cross_site(request: Request, cors: Cors | Literal["outer"] | None) -> None:
    """Raise `ApiError` (403) if a page of another site sends a request that changes something.

    Browsers send some of these requests without a preflight, so CORS alone does not stop them.
    """
    if request.method in SAFE_METHODS or _is_same_origin(request):
        return
    if cors == "outer":
        # The outer app has already answered the preflight of such a request.
        if request.method != "POST" or is_json(request.headers.get("content-type", "")):
            return
    elif cors is not None and cors.admits(request.headers.get("origin"), has_credentials=_has_credentials(request)):
        return
    message = (
        "The request comes from another origin; allow it with the option `cors`, as in "
        'cors=Cors(origin="https://chat.example.com"), or with cors="outer" if the app is mounted in one that has a '
        "CORS middleware of its own"
    )
    raise ApiError(403, {"error": "Cross-origin request refused", "message": message})


def _is_same_origin(request: Request) -> bool:
    """Return whether a request comes from a page of this server, or from outside a browser."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    # Over plain HTTP, browsers leave that header out.
    origin = request.headers.get("origin")
    if origin is None:
        return True
    try:
        page, server = urlsplit(origin), urlsplit(f"//{request.headers.get('host', '')}")
        port = _PORTS[page.scheme]
        if request.url.scheme == "https" and page.scheme != "https":
            return False
        is_same = (page.hostname, page.port or port) == (server.hostname, server.port or port)
    except (KeyError, ValueError):
        # The origin is `null`, or not one of a web page.
        return False
    return is_same


def _has_credentials(request: Request) -> bool:
    """Return whether a request has a browser's credentials: cookies or HTTP authentication."""
    scheme = request.headers.get("authorization", "").partition(" ")[0].lower()
    return "cookie" in request.headers or scheme in ("basic", "digest", "negotiate", "ntlm")
