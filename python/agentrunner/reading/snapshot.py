"""One snapshot for a reader that reconnects with messages but without a cursor.

It replaces the messages that the reader has, so that none appears twice.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from agentrunner import _core
from agentrunner._codec import decode, dump
from agentrunner.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SURROGATE = re.compile("[\ud800-\udfff]")


def snapshot_frames(
    history: Sequence[_core.Frames], known: Sequence[Mapping[str, Any]], seq: int | None
) -> _core.Frames | None:
    """Return the frames that bring a reader up to date, or `None` if the history is empty.

    `known` are the reader's messages. Only the last frame has a cursor: `seq`, or the end of the history. So a reader
    that received only some of the frames has no cursor and starts again.
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
    """Return the thread's messages merged with those that only the reader has.

    Each of the reader's own messages stays after the message that it followed. Raises `InvalidInput` if one of them
    cannot be written as JSON.
    """
    thread_messages: list[Any] = decode(messages)
    thread_ids = {message.get("id") for message in thread_messages}
    # If an agent has removed a message from the thread, the message must not come back.
    dropped_ids = _core.find_ids(history, {text for text in map(_text_id, known) if text is not None} - thread_ids)
    readers_own: dict[str | None, list[Mapping[str, Any]]] = {}
    previous_id = None
    for message in known:
        if message.get("id") in thread_ids:
            previous_id = message["id"]
        elif message.get("id") not in dropped_ids:
            readers_own.setdefault(previous_id, []).append(message)
    if not readers_own:
        return messages
    merged = readers_own.get(None, []).copy()
    waiting: list[Mapping[str, Any]] = []
    for message in thread_messages:
        if message.get("role") != "tool":
            # A model's provider refuses messages between a tool call and its results.
            merged += waiting
            waiting = []
        merged.append(message)
        waiting += readers_own.pop(message.get("id"), [])
    try:
        return dump(merged + waiting)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"a message of known cannot be written as JSON: {error}") from error


def _text_id(message: Mapping[str, Any]) -> str | None:
    """Return a message's id; `None` if it has no id that is valid text."""
    message_id = message.get("id")
    return message_id if isinstance(message_id, str) and _SURROGATE.search(message_id) is None else None
