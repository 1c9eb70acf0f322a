"""The limits of requests and of the streams that answer them."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20
MAX_KEEP_ALIVE_SECONDS = (2**31 - 1) / 1000
"""Largest interval in seconds that CopilotKit's runtime allows, which is a JavaScript timer's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of the server. The runner limits nesting (128 levels) and the length of ids.

    Args:
        body_bytes: Largest request body in bytes; it carries all messages of a chat. A larger body gets 413.
        body_seconds: Seconds a body may take to arrive; a slower one gets 408.
        keep_alive_seconds: Seconds of silence after which a stream sends a comment, so that proxies keep it open;
            0: never.
        stalled_seconds: Seconds after which the server disconnects a client that reads nothing. The client may resume
            the stream.

    Raises:
        ValueError: A limit is not positive, or `keep_alive_seconds` is out of range.

    Example:
        create_app(runner, agents, limits=Limits(body_bytes=32 * 1024 * 1024, stalled_seconds=60))

    """

    body_bytes: int = 8 * MIB
    body_seconds: float = 30.0
    keep_alive_seconds: float = 15.0
    stalled_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name in ("body_bytes", "body_seconds", "stalled_seconds"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)!r}")
        if not 0 <= self.keep_alive_seconds <= MAX_KEEP_ALIVE_SECONDS:
            raise ValueError(f"keep_alive_seconds must be from 0 to 2147483.647, not {self.keep_alive_seconds!r}")
