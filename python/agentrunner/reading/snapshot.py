"""What a reader gets that comes back with its messages: all there is in one snapshot, so that nothing doubles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentrunner import _core
from agentrunner._codec import decode, dump

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def snapshot_frames(
    history: Sequence[_core.Frames], known: Sequence[Mapping[str, Any]], seq: int | None
) -> _core.Frames | None:
    """Give the frames that bring a reader with the messages `known` to where the history ends; `None` if it is empty.

    Only the last frame has a cursor, `seq` or that of the history's end: a reader that gets part of it begins again.
    """
    found = _core.snapshot(history)
    if found is None:
        return None
    started, before, messages, state, following = found
    events = [started, *before, b'{"type":"MESSAGES_SNAPSHOT","messages":%s}' % _with_own(messages, known, history)]
    if state is not None:
        events.append(b'{"type":"STATE_SNAPSHOT","snapshot":%s}' % state)
    events += following
    cursor = str(seq) if seq is not None else history[-1].events()[-1].cursor
    frames = [b"data: %s\n\n" % event for event in events]
    return _core.Frames(b"".join(frames[:-1]) + b"id: %s\n" % str(cursor).encode() + frames[-1])


def _with_own(messages: bytes, known: Sequence[Mapping[str, Any]], history: Sequence[_core.Frames]) -> bytes:
    """Give the thread's messages with those only the reader has, each behind the one it stood behind."""
    thread: list[Any] = decode(messages)
    ids = {message.get("id") for message in thread}
    own: dict[str | None, list[Mapping[str, Any]]] = {}
    behind = None
    for message in known:
        if message.get("id") in ids:
            behind = message["id"]
        elif not _has_been(message, history):
            own.setdefault(behind, []).append(message)
    if not own:
        return messages
    merged = own.get(None, []).copy()
    due: list[Mapping[str, Any]] = []
    for message in thread:
        if message.get("role") != "tool":
            # Nothing comes between a tool call and its results.
            merged += due
            due = []
        merged.append(message)
        due += own.pop(message.get("id"), [])
    return dump(merged + due)


def _has_been(message: Mapping[str, Any], history: Sequence[_core.Frames]) -> bool:
    """Say whether the thread knew the message: one it has no longer was dropped, and is not brought back."""
    written = dump(message.get("id"))
    return any(written in bytes(frames) for frames in history)
