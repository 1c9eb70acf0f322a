"""`RUN_STARTED` and `RUN_FINISHED` for an agent that leaves them out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from agentrunner import _core
from agentrunner.errors import InvalidEvent

if TYPE_CHECKING:
    from agentrunner._core import Claim


def make_start(claim: Claim) -> bytes:
    """Return a `RUN_STARTED` with the ids of the run; the recorder adds its input."""
    return _make_boundary("RUN_STARTED", claim)


def make_finish(claim: Claim) -> bytes:
    """Return a `RUN_FINISHED` with the ids of the run."""
    return _make_boundary("RUN_FINISHED", claim)


def is_start_missing(first_event: bytes) -> bool:
    """Return whether an agent's first event needs a `RUN_STARTED` before it.

    An invalid event needs none, because it fails the run when it is recorded.
    """
    try:
        events = _core.compact([first_event])
    except InvalidEvent:
        return False
    # In AG-UI, a run that fails at once may begin with its error.
    return events[0].type not in ("RUN_STARTED", "RUN_ERROR")


def _make_boundary(kind: str, claim: Claim) -> bytes:
    return orjson.dumps({"type": kind, "threadId": claim.thread_id, "runId": claim.run_id})
