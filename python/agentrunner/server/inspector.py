"""The inspector: a page that shows an app's threads, runs and events."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; "
    "frame-ancestors 'none'"
)


@cache
def _load_page() -> str:
    return files("agentrunner.server").joinpath("inspector.html").read_text("utf-8")


async def get_inspector(_: Request) -> Response:
    """Return the page. It uses the public routes, with the browser's credentials for them."""
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Cache-Control": "no-cache"}
    return HTMLResponse(_load_page(), headers=headers)
