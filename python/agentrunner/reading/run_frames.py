"""Read the frames that start or end runs, without parsing the others."""

from __future__ import annotations

from typing import Any

from agentrunner._codec import decode


def split_frames(data: bytes) -> list[bytes]:
    """Return the frames in some bytes, each with the empty line at its end."""
    return [frame + b"\n\n" for frame in data.split(b"\n\n") if frame]


def data_start(frame: bytes) -> int:
    """Return the index at which a frame's event begins."""
    return frame.index(b"data: ") + 6


def read_event(frame: bytes) -> dict[str, Any]:
    """Return a frame's event."""
    event: dict[str, Any] = decode(frame[data_start(frame) :])
    return event


def read_run_event(frame: bytes) -> dict[str, Any] | None:
    """Return the event of a frame that starts or ends a run; `None` for any other."""
    # Parse few frames only. A message's text may contain these characters too, so the event's type decides.
    if b'"RUN_' not in frame:
        return None
    event = read_event(frame)
    return event if event["type"].startswith("RUN_") else None


def find_last_finish(data: bytes) -> dict[str, Any] | None:
    """Return the event of the last RUN_FINISHED in some frames; `None` if there is none."""
    end = len(data)
    while (start := data.rfind(b'"RUN_FINISHED"', 0, end)) >= 0:
        before = data.rfind(b"\n\n", 0, start)
        begin = before + 2 if before >= 0 else 0
        event = read_event(data[begin : data.index(b"\n\n", start)])
        if event["type"] == "RUN_FINISHED":
            return event
        end = begin
    return None


def has_interrupts(event: dict[str, Any]) -> bool:
    """Return whether a RUN_FINISHED has interrupts."""
    outcome = event.get("outcome")
    if not isinstance(outcome, dict) or outcome.get("type") != "interrupt":
        return False
    # An older version or another program may have stored anything else here.
    interrupts = outcome.get("interrupts")
    return isinstance(interrupts, list) and bool(interrupts) and all(isinstance(each, dict) for each in interrupts)
