"""Earlier failures in a replay: only the thread's last run ends in RUN_ERROR.

A client reports each RUN_ERROR that it reads, and those of the first generation read nothing after one. So the runs
before the last end in RUN_FINISHED. Their errors stay in what is stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from agentrunner import _core
from agentrunner._codec import dump, read_cursor
from agentrunner._core import Frames
from agentrunner.errors import InvalidEvent, StoreCorrupt
from agentrunner.events import finalize
from agentrunner.reading.run_frames import (
    data_start,
    find_last_finish,
    has_interrupts,
    read_event,
    read_run_event,
    split_frames,
)

if TYPE_CHECKING:
    from agentrunner.reading.sources import Source
    from agentrunner.stores import Store, ThreadGuard
    from agentrunner.stores.types import StoredRun
    from agentrunner.types import Cursor

ASKED_BY = "agentrunner.askedBy"
"""Field of a RUN_FINISHED's `metadata`: the id of the earlier run that asked its interrupts."""
KEPT_FIELDS = ("usage", "timestamp", "metadata")
"""Fields of a RUN_ERROR that the RUN_FINISHED in its place has too."""
CLOSING_TYPES = frozenset(
    (
        "TEXT_MESSAGE_END",
        "TOOL_CALL_END",
        "REASONING_MESSAGE_END",
        "REASONING_END",
        "STEP_FINISHED",
        "SUBAGENT_FINISHED",
    )
)
"""Types of the events that close what a failed run left open, because nothing may be open at a RUN_FINISHED."""
SEARCH_PAGE_BYTES = 1 << 20
"""Approximate number of bytes that are read at once to find the interrupts before a cursor."""


class _Failure(NamedTuple):
    """A RUN_ERROR that is held back until the reader knows whether anything follows it."""

    frame: bytes
    run: list[bytes] | None
    """Frames of its run before it; `None` if they are not all on the same page."""


class EarlierFailures:
    """Sources of stored runs, in which only a RUN_ERROR that nothing follows is shown."""

    __slots__ = ("_asking", "_failure", "_guard", "_is_followed", "_knows_asking", "_sources", "_store", "_thread_id",
                 "is_done")  # fmt: skip

    is_replay = True
    has_waited = False

    def __init__(
        self,
        sources: list[Source],
        store: Store,
        thread_id: str,
        guard: ThreadGuard | None,
        *,
        is_from_start: bool,
        is_followed: bool,
    ) -> None:
        """Take the sources of the reader's stored runs, and whether a live run follows them."""
        self._sources = sources
        self._store = store
        self._thread_id = thread_id
        self._guard = guard
        self._is_followed = is_followed
        self._asking: dict[str, Any] | None = None
        """RUN_FINISHED whose interrupts a client has open, up to the last frame read."""
        self._knows_asking = is_from_start
        """Whether `_asking` is right; a reader that starts in the middle finds it when it needs it."""
        self._failure: _Failure | None = None
        self.is_done = False

    async def read(self, page_bytes: int) -> Frames:
        """Return the next frames, about `page_bytes` bytes of them, or none."""
        source = self._sources[0]
        frames = await source.read(page_bytes)
        if source.is_done:
            del self._sources[0]
        self.is_done = not self._sources
        data = bytes(frames)
        if self._failure is None and b'"RUN_ERROR"' not in data:
            self._note_interrupts(data)
            return frames
        ready = await self._replace_failures(data)
        if self.is_done and self._failure is not None:
            ready += await self._finish(self._failure) if self._is_followed else self._failure.frame
        return Frames(bytes(ready))

    def _note_interrupts(self, data: bytes) -> None:
        # Most threads have neither interrupts nor failures, and their frames are not parsed.
        if self._asking is not None or not self._knows_asking or b'"interrupt"' in data:
            finish = find_last_finish(data)
            if finish is not None:
                self._note_finish(finish)

    def _note_finish(self, event: dict[str, Any]) -> None:
        self._asking = event if has_interrupts(event) else None
        self._knows_asking = True

    async def _replace_failures(self, data: bytes) -> bytearray:
        """Return frames with each RUN_ERROR replaced, but hold back one that comes last."""
        ready = bytearray()
        run_seq = -1
        run: list[bytes] | None = None
        for frame in split_frames(data):
            if self._failure is not None:
                failure, self._failure = self._failure, None
                ready += await self._finish(failure)
            cursor = _read_cursor(frame)
            if cursor is None:
                ready += frame
                continue
            if cursor[0] != run_seq:
                run_seq, run = cursor[0], [] if cursor[1] == 0 else None
            event = read_run_event(frame)
            if event is not None and event["type"] == "RUN_ERROR":
                self._failure = _Failure(frame, run.copy() if run is not None else None)
            else:
                ready += frame
                if event is not None and event["type"] == "RUN_FINISHED":
                    self._note_finish(event)
            if run is not None:
                run.append(frame)
        return ready

    async def _finish(self, failure: _Failure) -> bytes:
        """Return the frames that end a failed run in RUN_FINISHED, in the place of its RUN_ERROR."""
        frame, frames = failure
        if frames is None or not self._knows_asking:
            run = await self._find_run(frame)
            frames = _frames_before(frame, run) if run is not None else None
            if run is None or frames is None:
                return frame
            if not self._knows_asking:
                await self._find_asking(run.first_seq)
        started = _find_open_start(frames)
        if started is None:
            # A RUN_FINISHED is allowed only in a run that has started and not ended.
            return b""
        events = [each[data_start(each) :].rstrip(b"\n") for each in frames]
        closing = [event for event in finalize(events, stop_requested=True) if event.type in CLOSING_TYPES]
        finished = dump(self._make_finish(started, read_event(frame)))
        return b"".join(b"data: %s\n\n" % bytes(event) for event in closing) + _replace_event(frame, finished)

    def _make_finish(self, started: dict[str, Any], error: dict[str, Any]) -> dict[str, Any]:
        ids = {"threadId": started.get("threadId", self._thread_id), "runId": started.get("runId", "")}
        event = {"type": "RUN_FINISHED", **ids, **{name: error[name] for name in KEPT_FIELDS if name in error}}
        if self._asking is not None:
            # A RUN_ERROR leaves a client's interrupts open, but a RUN_FINISHED without them would close them.
            metadata = event.get("metadata")
            asked_by = {ASKED_BY: get_asking_run_id(self._asking)}
            event["outcome"] = self._asking["outcome"]
            event["metadata"] = {**metadata, **asked_by} if isinstance(metadata, dict) else asked_by
        return event

    async def _find_run(self, frame: bytes) -> StoredRun | None:
        """Return the stored run that a frame ends; `None` if the store no longer has it."""
        cursor = _read_cursor(frame)
        if cursor is None:
            return None
        runs = await self._store.runs(self._thread_id, cursor[0] - 1, 1, guard=self._guard)
        return next((run for run in runs if run.last_seq == cursor[0]), None)

    async def _find_asking(self, first_seq: int) -> None:
        """Find the interrupts that are open before a run, which the reader has not read."""
        after: Cursor | None = (0, None)
        while after is not None:
            page = await self._store.history(self._thread_id, after, first_seq, SEARCH_PAGE_BYTES, guard=self._guard)
            self._note_interrupts(bytes(page.frames))
            after = page.next
        self._knows_asking = True


def get_asking_run_id(event: dict[str, Any]) -> str:
    """Return the id of the run that asked the interrupts of a RUN_FINISHED."""
    metadata = event.get("metadata")
    asked_by = metadata.get(ASKED_BY) if isinstance(metadata, dict) else None
    return str(asked_by or event.get("runId"))


def _frames_before(frame: bytes, run: StoredRun) -> list[bytes] | None:
    """Return a stored run's frames before its RUN_ERROR; `None` if it cannot be read."""
    try:
        frames = split_frames(bytes(_core.run_frames(run.events, run.last_seq, 0)))
    except (InvalidEvent, StoreCorrupt):
        return None
    cursor = _read_cursor(frame)
    if cursor is not None and cursor[1] is not None:
        # Events that could not be read are missing, so a frame's place in the list is not its index.
        return [each for each in frames if _index(each) < cursor[1]]
    last = read_run_event(frames[-1]) if frames else None
    return frames[:-1] if last is not None and last["type"] == "RUN_ERROR" else None


def _find_open_start(frames: list[bytes]) -> dict[str, Any] | None:
    """Return the RUN_STARTED of the run that is open after these frames."""
    started = None
    for event in filter(None, map(read_run_event, frames)):
        started = event if event["type"] == "RUN_STARTED" else None
    return started


def _read_cursor(frame: bytes) -> Cursor | None:
    """Return a frame's cursor; `None` if it has none."""
    return read_cursor(frame[4 : frame.index(b"\n")].decode()) if frame.startswith(b"id: ") else None


def _replace_event(frame: bytes, event: bytes) -> bytes:
    return frame[: data_start(frame)] + event + b"\n\n"


def _index(frame: bytes) -> int:
    """Return a compacted frame's index in its run."""
    cursor = _read_cursor(frame)
    return (cursor[1] if cursor is not None else None) or 0
