"""Interrupts in a replay: one that was answered since is not offered again (spec/agui.md §6.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentrunner._codec import decode, dump

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from agentrunner.stream import EventStream


async def settled(stream: EventStream, pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Give the stream's pieces, the outcome taken from each replayed interrupt that a later run has answered.

    As the clients see it, a run that finished since has answered it, or one that is live; one that failed has not.
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
        if asking and not stream.replaying:
            out += (_answered(asking) if _live_run(behind) else asking) + behind
            asking, behind = b"", bytearray()
        if out:
            yield bytes(out)
    if asking:
        yield bytes(asking + behind)


def _split(piece: bytes) -> list[bytes]:
    return [frame + b"\n\n" for frame in piece.split(b"\n\n") if frame]


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


def _live_run(frames: bytearray) -> bool:
    """Say whether the last run in the frames has no end yet."""
    kinds = [event["type"] for event in map(_lifecycle, _split(bytes(frames))) if event]
    return kinds[-1:] == ["RUN_STARTED"]
