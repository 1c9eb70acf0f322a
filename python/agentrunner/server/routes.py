"""What a path means: CopilotKit's routes, matched by their last segments (docs/spec/http.md §4.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import unquote_to_bytes


@dataclass(frozen=True, slots=True)
class Route:
    """What a request asks for."""

    name: str
    """As in a single-route envelope, `agent/run` for one."""
    agent_id: str = ""
    thread_id: str = ""


Pattern: TypeAlias = tuple[tuple[str, ...], str]

_PATTERNS: list[Pattern] = [
    (("info",), "info"),
    (("inspector-metadata",), "inspector/metadata"),
    (("inspector-learning",), "inspector/learning"),
    (("transcribe",), "transcribe"),
    (("agent", "{agent}", "run"), "agent/run"),
    (("agent", "{agent}", "suggest"), "agent/suggest"),
    (("agent", "{agent}", "connect"), "agent/connect"),
    (("agent", "{agent}", "stop", "{thread}"), "agent/stop"),
    (("threads", "subscribe"), "threads/subscribe"),
    (("threads", "{thread}", "messages"), "threads/messages"),
    (("threads", "{thread}", "events"), "threads/events"),
    (("threads", "{thread}", "state"), "threads/state"),
    (("threads", "{thread}", "archive"), "threads/archive"),
    (("threads", "clear"), "threads/clear"),
    (("threads", "{thread}"), "threads/update"),
    (("threads",), "threads/list"),
]

METHODS: dict[str, tuple[str, ...]] = {
    "info": ("GET",),
    "inspector/metadata": ("GET",),
    "inspector/learning": ("GET",),
    "threads/list": ("GET",),
    "threads/messages": ("GET",),
    "threads/events": ("GET",),
    "threads/state": ("GET",),
    "threads/update": ("PATCH", "DELETE"),
}
"""Which HTTP methods a route takes; `POST` where nothing is said."""


def methods_of(route: Route) -> tuple[str, ...]:
    """Give the HTTP methods a route takes."""
    return METHODS.get(route.name, ("POST",))


def within(path: str, base_path: str | None) -> str | None:
    """Give what follows the base path; `None` outside it. Without a base path all of it: routes are suffixes."""
    base = (base_path or "").rstrip("/")
    if not path.startswith(base) or path[len(base) : len(base) + 1] not in ("", "/"):
        return None
    return path[len(base) :]


def match(path: str) -> Route | None:
    """Give the route whose pattern the path's last segments fit, the first in the table's order."""
    segments = [segment for segment in path.split("/") if segment]
    for pattern, name in _PATTERNS:
        tail = segments[-len(pattern) :]
        if len(tail) == len(pattern) and all(
            part.startswith("{") or part == segment for part, segment in zip(pattern, tail, strict=True)
        ):
            ids = {part: decoded(segment) for part, segment in zip(pattern, tail, strict=True) if part.startswith("{")}
            if None in ids.values():
                return None
            return Route(name, ids.get("{agent}") or "", ids.get("{thread}") or "")
    return None


def decoded(segment: str) -> str | None:
    """Give a percent-encoded segment as text; `None` for what is no UTF-8 or a broken escape."""
    at = segment.find("%")
    while at >= 0:
        if len(segment) < at + 3 or not all(digit in "0123456789abcdefABCDEF" for digit in segment[at + 1 : at + 3]):
            return None
        at = segment.find("%", at + 3)
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        return None
