"""What is left to answer on a thread, as the approvals of a harness have it. Without a harness there are none."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

from agentrunner._codec import decode, dump
from agentrunner.errors import AgentRunnerError
from agentrunner.records.approvals import find_open_interrupts, is_every_interrupt_answered

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from ag_ui.core import RunAgentInput

    from agentrunner.runner import AgentRunner
    from agentrunner.stores import Store

logger = logging.getLogger("agentrunner.server")


async def still_open(store: Store, event: dict[str, Any]) -> list[Any] | None:
    """Give those of the interrupts a run has ended with that are to be answered still; `None` if nobody knows."""
    interrupts = [one for one in event["outcome"].get("interrupts") or () if isinstance(one, dict)]
    try:
        return await find_open_interrupts(store, f"{event.get('runId')}", interrupts)
    except AgentRunnerError:
        logger.exception("an approval cannot be read")
        return None


async def closed(
    runner: AgentRunner, pieces: AsyncGenerator[bytes, None], asked: RunAgentInput, *, legacy: bool
) -> AsyncGenerator[bytes, None]:
    """Give the pieces of a run that brought answers; behind a RUN_ERROR, if all is answered, a run that says so.

    To a client what it was asked is open until a run finishes, whatever has come of its answer, and it begins no other.
    """
    failed = False
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            failed = b'"RUN_ERROR"' in piece and _last(piece).get("type") == "RUN_ERROR"
            yield piece
            del piece
    if failed and await _all_answered(await runner.opened(), asked):
        ids = {"threadId": asked.thread_id, "runId": asked.run_id}
        outcome = {} if legacy else {"outcome": {"type": "cancelled"}}
        for event in ({"type": "RUN_STARTED", **ids}, {"type": "RUN_FINISHED", **ids, **outcome}):
            # Nothing is kept of it: a client that comes later is not asked.
            yield b"data: " + dump(event) + b"\n\n"


def _last(piece: bytes) -> dict[str, Any]:
    frame = piece[piece.rstrip().rfind(b"\n\n") + 1 :]
    event = decode(frame[frame.index(b"data: ") + 6 :])
    return event if isinstance(event, dict) else {}


async def _all_answered(store: Store, asked: RunAgentInput) -> bool:
    """Say whether what was answered had been asked, and nothing is asked any more."""
    try:
        interrupt_ids = {entry.interrupt_id for entry in asked.resume or ()}
        return await is_every_interrupt_answered(store, asked.thread_id, interrupt_ids)
    except AgentRunnerError:
        logger.exception("the approvals of a thread cannot be read")
        return False
