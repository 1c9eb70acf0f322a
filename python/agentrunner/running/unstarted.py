"""The recorder of a run whose process died before the run's first event."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, NamedTuple

from agentrunner._codec import decode
from agentrunner.errors import InvalidEvent, InvalidInput, StoreCorrupt
from agentrunner.running.client_messages import sort_messages
from agentrunner.running.inputs import UNLIMITED, CheckedInput, read_input, validate_input
from agentrunner.running.look_up import look_up

if TYPE_CHECKING:
    from agentrunner._core import Claim, Recorder
    from agentrunner.running.recording import RecordingLimits
    from agentrunner.stores import Store

logger = logging.getLogger("agentrunner")


class UnstartedRun(NamedTuple):
    """A run that has no event yet."""

    recorder: Recorder
    has_new_messages: bool
    """Whether the run brought messages that its thread does not have, or changed those that it has."""


async def prepare_unstarted(store: Store, limits: RecordingLimits, claim: Claim, *, refuses: bool) -> UnstartedRun:
    """Return a run as it was claimed, with only the new messages of its input.

    With `refuses`, a run with messages that the client may not send keeps none of its messages.
    """
    try:
        checked = await _read_claimed_input(claim)
        known_ids = await look_up(store, claim, checked.entries)
        sorted_input = await sort_messages(store, claim, checked, known_ids, refuses=refuses)
    except (InvalidInput, InvalidEvent, StoreCorrupt) as error:
        # Its thread must become free even if the run's messages can no longer be read.
        logger.warning(
            "thread %s: run %s died before its first event, and its messages are not kept: %s",
            claim.thread_id, claim.run_id, error,
        )  # fmt: skip
        return UnstartedRun(limits.new_empty_recorder(claim), has_new_messages=False)
    recorder = await limits.new_recorder(claim, known_ids, sorted_input.json)
    sorted_input.join(recorder)
    return UnstartedRun(recorder, sorted_input.has_new_messages)


async def _read_claimed_input(claim: Claim) -> CheckedInput:
    content = decode(claim.input.encode("utf-8", "surrogatepass"))
    return await read_input(await validate_input(content, UNLIMITED), sys.maxsize)
