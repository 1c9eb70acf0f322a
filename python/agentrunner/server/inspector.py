"""The inspector: one page that shows an app's threads, runs and events.

Its styles and scripts are files in `inspector/`. This module joins them, so that the browser needs one request.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from starlette.requests import Request
    from starlette.responses import Response


CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:; "
    "frame-ancestors 'none'"
)

STYLES = (
    "base.css",
    "layout.css",
    "thread_list.css",
    "conversation.css",
    "run_panel.css",
    "json_tree.css",
    "dialogs.css",
    "narrow.css",
)
"""Style sheets in their order on the page; later rules win."""

SCRIPTS = (
    "dom.js",
    "server.js",
    "json_patch.js",
    "fold.js",
    "thread.js",
    "following.js",
    "navigation.js",
    "virtual_list.js",
    "thread_list.js",
    "page.js",
    "conversation.js",
    "questions.js",
    "json_tree.js",
    "events.js",
    "run_panel.js",
    "replay.js",
    "keys.js",
    "actions.js",
    "start.js",
)
"""Scripts in their order on the page.

They share one scope, so a script that runs while the page loads comes after the scripts it uses.
"""


@cache
def load_page() -> str:
    """Return the page, with its styles and scripts inlined."""
    folder = files("agentrunner.server").joinpath("inspector")
    page = folder.joinpath("page.html").read_text("utf-8")
    styles = _join(folder.joinpath("styles"), STYLES)
    scripts = _join(folder.joinpath("scripts"), SCRIPTS)
    return page.replace("{{ styles }}", styles).replace("{{ scripts }}", scripts)


async def get_inspector(_: Request) -> Response:
    """Return the page, which calls the public routes with the browser's own credentials."""
    headers = {"Content-Security-Policy": CONTENT_SECURITY_POLICY, "Cache-Control": "no-cache"}
    return HTMLResponse(load_page(), headers=headers)


def _join(folder: Traversable, names: tuple[str, ...]) -> str:
    return "\n".join(folder.joinpath(name).read_text("utf-8") for name in names)
