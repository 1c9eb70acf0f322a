"""Inputs of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


def make_input(thread: str = "t1", run: str = "r1", messages: Sequence[Any] = (), **fields: Any) -> dict[str, Any]:
    """Return a run's input; a `str` becomes a user's message with that id and content."""
    message_dicts = [{"id": m, "role": "user", "content": m} if isinstance(m, str) else m for m in messages]
    return {
        "threadId": thread, "runId": run, "state": {}, "messages": message_dicts,
        "tools": [], "context": [], "forwardedProps": {}, **fields,
    }  # fmt: skip
