"""Interrupts in a replay: one that was answered since is not offered again (docs/spec/agui.md §6.4)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from agentrunner._codec import decode, dump

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from agentrunner.reading.stream import EventStream


KEPT = 16 * 1024
"""Bytes kept back at most until it is known whether an interrupt was answered; for more it is looked ahead."""


async def settled(
    stream: EventStream,
    pieces: AsyncIterator[bytes],
    following: Callable[[str], Awaitable[EventStream]],
    still_open: Callable[[dict[str, Any]], Awaitable[list[Any] | None]],
) -> AsyncGenerator[bytes, None]:
    """Give the stream's pieces, the outcome taken from each replayed interrupt that has been answered.

    As the clients see it, a run that finished since has answered it, or one that is live; one that failed has not,
    unless it is known. `still_open`: gives those of a RUN_FINISHED's interrupts that are to be answered, where it is.
    `following`: gives the events behind a cursor.
    """
    asking = b""
    """The frame of the last interrupt, kept back with all behind it until it is known whether it was answered."""
    behind = bytearray()
    async for piece in pieces:
        if not asking and b'"interrupt"' not in piece:
            yield piece
            continue
        out = bytearray()
        for frame in _split(piece):
            event = _lifecycle(frame)
            kind = event.get("type")
            if kind == "RUN_FINISHED":
                if asking:
                    out += _answered(asking) + behind
                    asking, behind = b"", bytearray()
                if _asks(event):
                    asking = frame
                    continue
            (behind if asking else out).extend(frame)
        if asking and (not stream.replaying or len(behind) > KEPT):
            left = await still_open(_lifecycle(asking))
            if left is not None:
                asking = _left(asking, left)
            elif await _is_answered(asking + behind, following) if stream.replaying else _live_run(behind):
                asking = _answered(asking)
            out += asking + behind
            asking, behind = b"", bytearray()
        if out:
            ready = bytes(out)
            # A reader that waits holds nothing twice.
            del piece, out
            yield ready
            del ready
    if asking:
        yield bytes(asking + behind)


async def _is_answered(frames: bytes, following: Callable[[str], Awaitable[EventStream]]) -> bool:
    """Look for an answer in what comes behind these frames, without keeping it."""
    live = _live_run(frames)
    ahead = await following(_last_cursor(frames))
    async with contextlib.aclosing(ahead.frames()) as pieces:
        async for piece in pieces:
            for event in map(_lifecycle, _split(piece)):
                if event.get("type") == "RUN_FINISHED":
                    return True
                if event:
                    live = event["type"] == "RUN_STARTED"
            if not ahead.replaying:
                break
    return live


def _split(piece: bytes) -> list[bytes]:
    return [frame + b"\n\n" for frame in piece.split(b"\n\n") if frame]


def _last_cursor(frames: bytes) -> str:
    # What was put in for an older client has none.
    frame = next(frame for frame in reversed(_split(frames)) if frame.startswith(b"id: "))
    return frame[4 : frame.index(b"\n")].decode()


def _lifecycle(frame: bytes) -> dict[str, Any]:
    """Give the event of a frame that starts or ends a run; of any other an empty dict."""
    if b'"RUN_' not in frame:
        return {}
    event = decode(frame[frame.index(b"data: ") + 6 :])
    return event if isinstance(event, dict) else {}


def _asks(event: dict[str, Any]) -> bool:
    outcome = event.get("outcome")
    return isinstance(outcome, dict) and outcome.get("type") == "interrupt"


def _answered(frame: bytes) -> bytes:
    at = frame.index(b"data: ") + 6
    event = decode(frame[at:])
    del event["outcome"]
    return frame[:at] + dump(event) + b"\n\n"


def _left(frame: bytes, left: list[Any]) -> bytes:
    """Give the frame with those of its interrupts that are left."""
    at = frame.index(b"data: ") + 6
    event = decode(frame[at:])
    if not left:
        return _answered(frame)
    if len(left) == len(event["outcome"]["interrupts"]):
        return frame
    event["outcome"]["interrupts"] = left
    return frame[:at] + dump(event) + b"\n\n"


def _live_run(frames: bytes | bytearray) -> bool:
    """Say whether the last run in the frames has no end yet."""
    kinds = [event["type"] for event in map(_lifecycle, _split(bytes(frames))) if event]
    return kinds[-1:] == ["RUN_STARTED"]
