"""The inspector's page."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response


POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; "
    "frame-ancestors 'none'"
)


@cache
def _html() -> str:
    return files("agentrunner.server").joinpath("inspector.html").read_text("utf-8")


async def page(_: Request) -> Response:
    """Give the page. It uses the public routes, with whatever credentials the browser has for them."""
    return HTMLResponse(_html(), headers={"Content-Security-Policy": POLICY, "Cache-Control": "no-cache"})
