"""The rows of the route table, and the matching of paths (docs/spec/http.md §4.2)."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from urllib.parse import unquote_to_bytes

from starlette.responses import Response

Schema: TypeAlias = dict[str, Any]
Handler: TypeAlias = Callable[..., Awaitable[Response]]
"""Async function that takes the `AppContext` and the `ApiRequest`."""

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
"""HTTP methods that a row may have."""
PLACEHOLDERS = ("{agentId}", "{threadId}")
"""Segments of a path that match any id."""


@dataclass(frozen=True, kw_only=True)
class ApiRoute:
    """One row of the route table: a path, an HTTP method and their handler."""

    name: str
    """Name of the path in envelopes, metrics and logs; the rows of one path share it."""
    method: str
    """HTTP method that the row answers."""
    path: str
    """Last segments of the path, with `{agentId}` and `{threadId}` for the ids."""
    handler: Handler
    """Function that answers the request."""
    summary: str
    """Description of the route in one line, for `/openapi.json`."""
    body: Schema | Callable[[], Schema] | None = None
    """JSON schema of the body, or a function that builds it; `None`: no body."""
    parameters: Sequence[Schema] = ()
    """OpenAPI parameters other than the ids in the path."""
    responses: Mapping[str, Schema] | None = None
    """OpenAPI responses by status; with `None` the route is left out of `/openapi.json`."""

    def __post_init__(self) -> None:
        """Raise `TypeError` or `ValueError` for a row that could not answer a request."""
        if not inspect.iscoroutinefunction(self.handler):
            raise TypeError(f"the handler of {self.method} {self.path} must be an async function, not {self.handler!r}")
        if self.method not in METHODS:
            raise ValueError(f"the method of {self.path} must be one of {', '.join(METHODS)}, not {self.method!r}")
        for placeholder in re.findall("{.*?}", self.path):
            if placeholder not in PLACEHOLDERS:
                known = " and ".join(PLACEHOLDERS)
                raise ValueError(f"{self.method} {self.path} may have the placeholders {known}, not {placeholder}")

    @property
    def is_thread_route(self) -> bool:
        """Whether envelopes reach the route through `resource/request`, not by its name."""
        return self.name.startswith("threads/")


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """The rows of a path, and the ids in it."""

    rows: tuple[ApiRoute, ...]
    """One row for each method, at least one."""
    agent_id: str = ""
    """Id of the agent; empty if the path has none."""
    thread_id: str = ""
    """Id of the thread; empty if the path has none."""

    @property
    def name(self) -> str:
        """Name that the rows share."""
        return self.rows[0].name

    @property
    def methods(self) -> tuple[str, ...]:
        """HTTP methods that the path takes."""
        return tuple(row.method for row in self.rows)

    def find_row(self, method: str) -> ApiRoute | None:
        """Return the row of a method; `None` if the path does not take it."""
        return next((row for row in self.rows if row.method == method), None)


class RouteTable:
    """The routes of the server; if several paths match a request, the first one wins."""

    def __init__(self, rows: Iterable[ApiRoute]) -> None:
        """Take the rows. Raises `ValueError` if two have the same path and method."""
        self.rows = tuple(rows)
        paths: dict[str, list[ApiRoute]] = {}
        for row in self.rows:
            rows_of_path = paths.setdefault(row.path, [])
            if any(other.method == row.method for other in rows_of_path):
                raise ValueError(f"the route table has two rows for {row.method} {row.path}")
            rows_of_path.append(row)
        self._paths = [(split_path(path), tuple(rows_of_path)) for path, rows_of_path in paths.items()]

    @property
    def envelope_methods(self) -> tuple[str, ...]:
        """Values of `method` that a single-route envelope may have."""
        return (*(row.name for row in self.rows if not row.is_thread_route), "resource/request")

    def find(self, name: str) -> ApiRoute:
        """Return the first row with this name. Raises `KeyError`."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def match(self, path: str) -> RouteMatch | None:
        """Return the rows that the last segments of a path match; `None` for an unknown path."""
        segments = split_path(path)
        for pattern, rows in self._paths:
            tail = segments[-len(pattern) :]
            if len(tail) != len(pattern):
                continue
            pairs = list(zip(pattern, tail, strict=True))
            if any(part != segment for part, segment in pairs if not part.startswith("{")):
                continue
            ids = {part: decode_segment(segment) for part, segment in pairs if part.startswith("{")}
            if None in ids.values():
                return None
            return RouteMatch(rows, ids.get("{agentId}") or "", ids.get("{threadId}") or "")
        return None


def split_path(path: str) -> list[str]:
    """Return the segments of a path without the empty ones."""
    return [segment for segment in path.split("/") if segment]


def strip_base_path(path: str, base_path: str | None) -> str | None:
    """Return the part of a path after the base path; `None` if the path is outside it."""
    base = (base_path or "").rstrip("/")
    if not path.startswith(base) or path[len(base) : len(base) + 1] not in ("", "/"):
        return None
    return path[len(base) :]


def decode_segment(segment: str) -> str | None:
    """Return a percent-encoded segment as text; `None` for a broken escape or invalid UTF-8."""
    start = segment.find("%")
    while start >= 0:
        digits = segment[start + 1 : start + 3]
        if len(digits) < 2 or not all(digit in "0123456789abcdefABCDEF" for digit in digits):
            return None
        start = segment.find("%", start + 3)
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeDecodeError:
        return None
