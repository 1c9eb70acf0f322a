"""Interrupts in a stream of frames: a replay shows only those that are still open.

The rules are in docs/spec/agui.md §6.4.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any, Protocol

from agentrunner._codec import dump
from agentrunner._core import Frames
from agentrunner.errors import AgentRunnerError
from agentrunner.reading.failures import get_asking_run_id
from agentrunner.reading.run_frames import data_start, has_interrupts, read_event, read_run_event, split_frames
from agentrunner.records.approvals import find_open_interrupts, is_every_interrupt_answered

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from ag_ui.core import RunAgentInput

    from agentrunner.stores import Store

logger = logging.getLogger("agentrunner")

HELD_BACK_BYTES = 16 * 1024
"""Bytes held back after an interrupt; after that many, a second reader looks for the answer."""


class FrameSource(Protocol):
    """A stream of a thread's frames, such as an `EventStream`."""

    @property
    def is_replaying(self) -> bool:
        """Whether the next frames exist already, so that reading them need not wait."""

    def pages(self) -> AsyncGenerator[Frames, None]:
        """Iterate over the frames; each page has everything that is new."""


async def hide_answered_interrupts(
    source: FrameSource, store: Store, follow: Callable[[str], Awaitable[FrameSource]]
) -> AsyncGenerator[Frames, None]:
    """Yield the frames of a source without the interrupts that have been answered since.

    A RUN_FINISHED whose interrupts are all answered loses its outcome. If the store has approvals, or the session of
    the runtime that asked, an interrupt is answered when it is decided. Otherwise a later run answers it, as clients
    see it, if that run has finished or is live; a failed run does not. `follow` opens a source of the frames after a
    cursor.
    """
    interrupt_frame: bytes | None = None
    """Frame of the last interrupt, held back until this reader knows whether it is answered."""
    held_back = bytearray()
    async with contextlib.aclosing(source.pages()) as pages:
        async for page in pages:
            data = bytes(page)
            if interrupt_frame is None and b'"interrupt"' not in data:
                passed_on = [page]
                # Popped, because a local would keep the page alive as long as the client stalls in the middle of it.
                del data, page
                yield passed_on.pop()
                continue
            del page
            ready = bytearray()
            for frame in split_frames(data):
                event = read_run_event(frame)
                if event is not None and event["type"] == "RUN_FINISHED":
                    if interrupt_frame is not None:
                        ready += replace_interrupts(interrupt_frame, []) + held_back
                        interrupt_frame, held_back = None, bytearray()
                    if has_interrupts(event):
                        interrupt_frame = frame
                        continue
                (ready if interrupt_frame is None else held_back).extend(frame)
            if interrupt_frame is not None and (not source.is_replaying or len(held_back) > HELD_BACK_BYTES):
                ready += await _hide_answered(interrupt_frame, bytes(held_back), source, store, follow) + held_back
                interrupt_frame, held_back = None, bytearray()
            if ready:
                filtered = [Frames(bytes(ready))]
                del data, ready
                yield filtered.pop()
    if interrupt_frame is not None:
        yield Frames(interrupt_frame + bytes(held_back))


async def finish_answered_run(
    pages: AsyncGenerator[Frames, None], store: Store, input: RunAgentInput
) -> AsyncGenerator[Frames, None]:
    """Yield the frames of a run with answers, and end its interrupts if it fails.

    If the run fails although every interrupt is answered, the frames of a finished run follow. A client considers its
    interrupts open until a run finishes, even if the answer has arrived, and meanwhile it starts no other run.
    """
    has_failed = False
    async with contextlib.aclosing(pages):
        async for page in pages:
            has_failed = _ends_with_error(bytes(page))
            passed_on = [page]
            del page
            yield passed_on.pop()
    if has_failed and await _is_all_answered(store, input):
        ids = {"threadId": input.thread_id, "runId": input.run_id}
        outcome = {"type": "cancelled"}
        # These are not stored: a client that connects later sees no interrupt that it would have to close.
        events = ({"type": "RUN_STARTED", **ids}, {"type": "RUN_FINISHED", **ids, "outcome": outcome})
        yield Frames(b"".join(b"data: " + dump(event) + b"\n\n" for event in events))


async def _hide_answered(
    interrupt_frame: bytes,
    held_back: bytes,
    source: FrameSource,
    store: Store,
    follow: Callable[[str], Awaitable[FrameSource]],
) -> bytes:
    """Return the frame of a RUN_FINISHED with only those of its interrupts that are open."""
    event = read_event(interrupt_frame)
    interrupts, run_id = event["outcome"]["interrupts"], get_asking_run_id(event)
    try:
        still_open = await find_open_interrupts(store, str(event.get("threadId")), run_id, interrupts)
    except AgentRunnerError:
        # The reader still gets its frames. At worst it sees an answered interrupt, and a second answer is refused.
        logger.exception("cannot read the approvals of run '%s'; its interrupts are shown", event.get("runId"))
        still_open = None
    if still_open is not None:
        return replace_interrupts(interrupt_frame, still_open)
    if source.is_replaying:
        is_answered = await _is_answered_later(interrupt_frame + held_back, follow)
    else:
        is_answered = _ends_in_live_run(held_back)
    return replace_interrupts(interrupt_frame, []) if is_answered else interrupt_frame


async def _is_answered_later(frames: bytes, follow: Callable[[str], Awaitable[FrameSource]]) -> bool:
    """Read the events after these frames, and return whether one of them is an answer."""
    is_live = _ends_in_live_run(frames)
    source = await follow(_find_last_cursor(frames))
    async with contextlib.aclosing(source.pages()) as pages:
        async for page in pages:
            for frame in split_frames(bytes(page)):
                event = read_run_event(frame)
                if event is not None:
                    if event["type"] == "RUN_FINISHED":
                        return True
                    is_live = event["type"] == "RUN_STARTED"
            if not source.is_replaying:
                break
    return is_live


async def _is_all_answered(store: Store, input: RunAgentInput) -> bool:
    interrupt_ids = {entry.interrupt_id for entry in input.resume or ()}
    try:
        return await is_every_interrupt_answered(store, input.thread_id, interrupt_ids)
    except AgentRunnerError:
        logger.exception("cannot read the approvals of thread '%s'; its interrupts stay open", input.thread_id)
        return False


def _find_last_cursor(frames: bytes) -> str:
    # Not every frame has a cursor: in a snapshot only the last one does.
    frame = next(frame for frame in reversed(split_frames(frames)) if frame.startswith(b"id: "))
    return frame[4 : frame.index(b"\n")].decode()


def replace_interrupts(frame: bytes, interrupts: list[Any]) -> bytes:
    """Return the frame of a RUN_FINISHED with these interrupts; with none, it has no outcome."""
    event = read_event(frame)
    if len(interrupts) == len(event["outcome"]["interrupts"]):
        return frame
    if interrupts:
        event["outcome"]["interrupts"] = interrupts
    else:
        del event["outcome"]
    return frame[: data_start(frame)] + dump(event) + b"\n\n"


def _ends_in_live_run(frames: bytes) -> bool:
    """Return whether the last run in the frames has no end yet."""
    types = [event["type"] for event in map(read_run_event, split_frames(frames)) if event is not None]
    return types[-1:] == ["RUN_STARTED"]


def _ends_with_error(frames: bytes) -> bool:
    if b'"RUN_ERROR"' not in frames:
        return False
    event = read_run_event(split_frames(frames)[-1])
    return event is not None and event["type"] == "RUN_ERROR"
