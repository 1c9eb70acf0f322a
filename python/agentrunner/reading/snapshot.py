"""A snapshot for a reader that reconnects with messages but without a cursor.

It replaces what the reader has, so that nothing appears twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentrunner import _core
from agentrunner._codec import decode, dump

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def snapshot_frames(
    history: Sequence[_core.Frames], known: Sequence[Mapping[str, Any]], seq: int | None
) -> _core.Frames | None:
    """Return the frames that bring a reader up to date; `None` if the history is empty.

    `known` are the reader's messages. Only the last frame has a cursor, `seq` or that of the history's end: a reader
    that received only a part of the snapshot starts again without a cursor.
    """
    snapshot = _core.snapshot(history)
    if snapshot is None:
        return None
    run_started, before, messages, state, after = snapshot
    merged = _merge_messages(messages, known, history)
    events = [run_started, *before, b'{"type":"MESSAGES_SNAPSHOT","messages":%s}' % merged]
    if state is not None:
        events.append(b'{"type":"STATE_SNAPSHOT","snapshot":%s}' % state)
    events += after
    cursor = str(seq) if seq is not None else history[-1].events()[-1].cursor
    frames = [b"data: %s\n\n" % event for event in events]
    return _core.Frames(b"".join(frames[:-1]) + b"id: %s\n" % str(cursor).encode() + frames[-1])


def _merge_messages(messages: bytes, known: Sequence[Mapping[str, Any]], history: Sequence[_core.Frames]) -> bytes:
    """Return the thread's messages, with those that only the reader has in their places.

    Each message of the reader comes after the message it followed there.
    """
    thread_messages: list[Any] = decode(messages)
    thread_ids = {message.get("id") for message in thread_messages}
    readers_own: dict[str | None, list[Mapping[str, Any]]] = {}
    previous_id = None
    for message in known:
        if message.get("id") in thread_ids:
            previous_id = message["id"]
        elif not _was_in_thread(message, history):
            readers_own.setdefault(previous_id, []).append(message)
    if not readers_own:
        return messages
    merged = readers_own.get(None, []).copy()
    waiting: list[Mapping[str, Any]] = []
    for message in thread_messages:
        if message.get("role") != "tool":
            # Model services refuse a list in which anything stands between a tool call and its results.
            merged += waiting
            waiting = []
        merged.append(message)
        waiting += readers_own.pop(message.get("id"), [])
    return dump(merged + waiting)


def _was_in_thread(message: Mapping[str, Any], history: Sequence[_core.Frames]) -> bool:
    """Return whether the thread ever had the message.

    A message that it no longer has was dropped and must stay dropped.
    """
    written_id = dump(message.get("id"))
    return any(written_id in bytes(frames) for frames in history)
