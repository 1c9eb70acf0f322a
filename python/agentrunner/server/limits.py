"""The limits on requests and on the streams sent in response."""

from __future__ import annotations

from dataclasses import dataclass

from agentrunner._checks import check_integer, check_seconds
from agentrunner.running.inputs import InputLimits

MIB = 1 << 20
INPUT_COUNTS = ("messages", "message_parts", "tools", "context", "resume")
"""Options that limit the lists in a run's input."""
MAX_KEEP_ALIVE_SECONDS = (2**31 - 1) / 1000
"""Largest interval in seconds that CopilotKit's runtime allows: the limit of a JavaScript timer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Limits of the server. The runner limits nesting (128 levels) and the length of ids.

    Args:
        body_bytes: Largest request body in bytes; it carries all messages of a chat. A larger body gets 413.
        body_values: Most JSON values in a body, keys included; a body with more gets 413. The event loop is busy while
            it parses and checks them.
        messages: Most messages in a run's input. A request over this limit or one of the next four gets 413.
        message_parts: Most content parts, and tool calls, of one message.
        tools: Most tools in a run's input.
        context: Most context items in a run's input.
        resume: Most answers to interrupts in a run's input.
        body_seconds: Seconds a body may take to arrive; a slower one gets 408.
        keep_alive_seconds: Seconds of silence after which a stream sends a comment, so that proxies keep it open; 0
            sends none.
        stalled_seconds: Seconds after which the server disconnects a client that reads nothing. The client may resume
            the stream.

    Raises:
        ValueError: A limit is not positive, or `keep_alive_seconds` is out of range.

    Example:
        create_app(runner, agents, limits=Limits(body_bytes=32 * 1024 * 1024, stalled_seconds=60))

    """

    body_bytes: int = 8 * MIB
    body_values: int = 100_000
    messages: int = 10_000
    message_parts: int = 1_000
    tools: int = 1_000
    context: int = 1_000
    resume: int = 1_000
    body_seconds: float = 30.0
    keep_alive_seconds: float = 15.0
    stalled_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name in ("body_bytes", "body_values", *INPUT_COUNTS):
            check_integer(name, getattr(self, name))
        for name in ("body_seconds", "stalled_seconds"):
            check_seconds(name, getattr(self, name))
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)!r}")
        check_seconds("keep_alive_seconds", self.keep_alive_seconds)
        if not 0 <= self.keep_alive_seconds <= MAX_KEEP_ALIVE_SECONDS:
            raise ValueError(f"keep_alive_seconds must be from 0 to 2147483.647, not {self.keep_alive_seconds!r}")

    @property
    def input(self) -> InputLimits:
        """Limits of the lists in a run's input."""
        return InputLimits(**{name: getattr(self, name) for name in INPUT_COUNTS})
