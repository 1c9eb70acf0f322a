"""`RUN_STARTED` and `RUN_FINISHED` for an agent that leaves them out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from agentrunner import _core
from agentrunner.errors import InvalidEvent

if TYPE_CHECKING:
    from agentrunner._core import Claim


FIRST_TYPES = ("RUN_STARTED", "RUN_ERROR")
"""Types of events that a run may start with; in AG-UI, a run that fails at once may start with its error."""

LAST_TYPES = ("RUN_FINISHED", "RUN_ERROR")
"""Types of the events that end a run."""


def make_start(claim: Claim) -> bytes:
    """Return a `RUN_STARTED` with the ids of the run; the recorder adds its input."""
    return _make_boundary("RUN_STARTED", claim)


def make_finish(claim: Claim) -> bytes:
    """Return a `RUN_FINISHED` with the ids of the run."""
    return _make_boundary("RUN_FINISHED", claim)


def is_start_missing(first_event: bytes) -> bool:
    """Return whether an agent's first event needs a `RUN_STARTED` before it.

    An invalid event needs none, because recording it fails the run.
    """
    event_type = _read_type(first_event)
    return event_type is not None and event_type not in FIRST_TYPES


def is_run_event(first_event: bytes) -> bool:
    """Return whether a first event, valid or not, has a type that a run may start with."""
    return _read_type(first_event) in FIRST_TYPES


def is_end(event: bytes) -> bool:
    """Return whether a valid event ends its run."""
    # Most events can be recognized without being parsed.
    return b"RUN_" in event and _read_type(event) in LAST_TYPES


def _read_type(event: bytes) -> str | None:
    try:
        return _core.compact([event])[0].type
    except InvalidEvent:
        return None


def _make_boundary(kind: str, claim: Claim) -> bytes:
    return orjson.dumps({"type": kind, "threadId": claim.thread_id, "runId": claim.run_id})
