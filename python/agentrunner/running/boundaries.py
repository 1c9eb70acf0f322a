"""`RUN_STARTED` and `RUN_FINISHED` for an agent that leaves them out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from agentrunner import _core
from agentrunner.errors import InvalidEvent, InvalidEventSequence

if TYPE_CHECKING:
    from agentrunner._core import Claim, Recorder


def record_start(recorder: Recorder, claim: Claim) -> None:
    """Record a `RUN_STARTED` with the ids of the run; the recorder adds its input."""
    recorder.accept(_boundary("RUN_STARTED", claim))


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


def record_finish(recorder: Recorder, claim: Claim) -> None:
    """Record a `RUN_FINISHED` for an agent that has returned without one.

    Before it, record the end of everything that the agent left open.
    """
    if recorder.recorded == 0:
        record_start(recorder, claim)
    finished = _boundary("RUN_FINISHED", claim)
    try:
        recorder.accept(finished)
    except InvalidEventSequence:
        events = _core.run_frames(recorder.compacted(), recorder.last_seq, 0).events()
        for event in _core.finalize(events, True, None):
            # The client may have to run a tool call that has no result, so the call gets an end but no result.
            if event.type not in ("RUN_FINISHED", "TOOL_CALL_RESULT"):
                recorder.accept(bytes(event))
        recorder.accept(finished)


def _boundary(kind: str, claim: Claim) -> bytes:
    return orjson.dumps({"type": kind, "threadId": claim.thread_id, "runId": claim.run_id})
