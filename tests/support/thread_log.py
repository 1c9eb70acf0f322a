"""A thread's journal, and whether a reader got what it must get."""

from __future__ import annotations

import json
from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

from agentrunner import _core
from agentrunner.reading.interrupts import replace_interrupts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agentrunner.stores import Store

PAGE = 1 << 20


class Run(NamedTuple):
    first: int
    last: int
    stored: bool
    """A run that brought no message and ended before its first event is not stored: only its live readers saw it."""


def split(data: bytes) -> list[bytes]:
    """Return the frames in some bytes, each with its final empty line."""
    return [frame + b"\n\n" for frame in data.split(b"\n\n")[:-1]]


def without_state(frame: bytes) -> bytes:
    """Return a frame of a `RUN_STARTED` without the state in its input."""
    head, _, data = frame.partition(b"data: ")
    event = json.loads(data)
    event.get("input", {}).pop("state", None)
    return b"%sdata: %s\n\n" % (head, json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode())


def is_snapshot(frame: bytes) -> bool:
    """Return whether a frame is a snapshot of the state or the messages."""
    return b'"type":"STATE_SNAPSHOT"' in frame or b'"type":"MESSAGES_SNAPSHOT"' in frame


def is_failure(frame: bytes) -> bool:
    """Return whether a frame ends a run with an error."""
    return b'"type":"RUN_ERROR"' in frame


def is_finish_of(failure: bytes, frame: bytes) -> bool:
    """Return whether a frame is the RUN_FINISHED that a replay sends instead of a RUN_ERROR."""
    return b'"type":"RUN_FINISHED"' in frame and frame.partition(b"\n")[0] == failure.partition(b"\n")[0]


class ThreadLog:
    """The raw frames of a thread without a live run, and the compacted runs made from them."""

    def __init__(self, frames: Sequence[bytes], runs: Sequence[Run]) -> None:
        self.frames = frames
        self.runs = runs
        self._before = runs[0].first - 1 if runs else 0
        """The last sequence number that a deleted thread may have used."""
        self._ends = {0, *(run.last for run in runs)}
        self._forms: dict[int, list[bytes]] = {}

    @classmethod
    async def read(cls, store: Store, thread_id: str) -> ThreadLog:
        """Read the log from a store that still has the journal of all runs.

        Raises `AssertionError` for a gap.
        """
        frames: list[bytes] = []
        runs: list[Run] = []
        stored: set[int] = set()
        reached = 0
        while page := await store.runs(thread_id, reached, PAGE):
            stored |= {run.first_seq for run in page}
            reached = page[-1].last_seq
        first = read = 0
        while len(raw := (await store.journal(thread_id, read, None, PAGE)).frames):
            frames += split(bytes(raw))
            for event in raw.events():
                assert event.seq is not None
                # Only a thread's first event may leave out numbers: those of a deleted thread.
                assert event.seq == read + 1 or not read, f"event {event.seq} of {thread_id} is behind {read}"
                first, read = first or event.seq, event.seq
                if event.type in ("RUN_FINISHED", "RUN_ERROR"):
                    runs.append(Run(first, event.seq, first in stored))
                    first = event.seq + 1
        assert first in (0, read + 1), f"the last run of {thread_id} has no end"
        return cls(frames, runs)

    def raw(self, first: int, last: int) -> Sequence[bytes]:
        """Return the raw frames from one sequence number to another."""
        return self.frames[first - 1 - self._before : last - self._before]

    def run_of(self, seq: int) -> Run:
        """Return the run that a sequence number is in."""
        return self.runs[bisect_left(self.runs, seq, key=lambda run: run.last)]

    def form(self, seq: int) -> list[bytes]:
        """Return the run that a sequence number is in, compacted up to it."""
        if seq not in self._forms:
            raw = b"".join(self.raw(self.run_of(seq).first, seq))
            self._forms[seq] = split(bytes(_core.recompact([_core.Frames(raw)], seq, 0)))
        return self._forms[seq]

    def fault(self, got: Sequence[bytes], after: str | None, live: int = 0) -> str | None:
        """Return what is wrong with the frames a reader got after a cursor, or `None`.

        A raw event is followed by the next one of its run. A frame of a compacted run is followed by that run's next
        frame, and then by the raw rest of the run. A run is followed by the next stored run, compacted as far as it
        was, or raw if it had no event yet. `live`: a sequence number of the run that was live when the reader came;
        the reader must have read to that run's end.
        """
        reading = _Reading(got)
        seq, index = _core.parse_cursor(after) if after is not None else (0, None)
        if index is not None:
            reading.take(self.form(seq)[index + 1 :], f"form {seq} from {index + 1}")
        while not reading.fault:
            if seq not in self._ends:
                first, seq = seq + 1, self.run_of(seq).last
                reading.take(self.raw(first, seq), f"raw {first} to {seq}")
            elif (cursor := reading.cursor) is None:
                return None if seq >= live else f"behind {after}: ended at {seq}, {live} was there already"
            elif seq == self._before + len(self.frames):
                reading.fault = f"too much, from {cursor} on"
            else:
                place, _, index = cursor.partition(".")
                if not self._may_follow(int(place), seq):
                    return f"behind {after}: {cursor} behind {seq}"
                if index:
                    seq = int(place)
                    reading.take(self.form(seq), f"form {seq}")
                else:
                    first, seq, _ = self.run_of(int(place))
                    reading.take(self.raw(first, seq), f"raw {first} to {seq}")
        return f"behind {after}: {reading.fault}"

    def _may_follow(self, seq: int, end: int) -> bool:
        """Return whether nothing is stored between a run's end and the run that a number is in."""
        if not end < seq <= self._before + len(self.frames):
            return False
        # A replay leaves out an earlier run that has only a RUN_ERROR.
        shown = [
            run
            for run in self.runs
            if run.stored and not (run.first == run.last and is_failure(self.frames[run.first - 1]))
        ]
        return not any(end < run.first < self.run_of(seq).first for run in shown)


class _Reading:
    """The frames that a reader got, compared one by one."""

    def __init__(self, got: Sequence[bytes]) -> None:
        self._got = got
        self._at = 0
        self.fault = ""

    @property
    def cursor(self) -> str | None:
        """The next frame's cursor; `None` at the end."""
        if self._at == len(self._got):
            return None
        frame = next((frame for frame in self._got[self._at :] if frame.startswith(b"id: ")), None)
        return frame[4 : frame.index(b"\n")].decode() if frame is not None else None

    def take(self, expected: Sequence[bytes], what: str) -> None:
        """Compare the next frames with the expected ones.

        A replay leaves out the snapshots, and the states of inputs, that later ones replace.
        """
        if self._got[self._at : self._at + len(expected)] == expected:
            self._at += len(expected)
            return
        is_replay = what.startswith("form")
        for count, mine in enumerate(expected):
            if is_failure(mine):
                # An earlier failed run ends in RUN_FINISHED, after the events that close what it left open.
                while self._at < len(self._got) and not self._got[self._at].startswith(b"id: "):
                    self._at += 1
            theirs = self._got[self._at] if self._at < len(self._got) else None
            if is_replay and mine != theirs and is_snapshot(mine):
                continue
            if theirs is None:
                self.fault = f"{what}: ended {len(expected) - count} frames early"
                return
            # An interrupt that was answered since is not sent again.
            accepted = (
                mine,
                b'"interrupt"' in mine and replace_interrupts(mine, []),
                is_replay and b'"RUN_STARTED"' in mine and without_state(mine),
            )
            if theirs not in accepted and not (is_failure(mine) and is_finish_of(mine, theirs)):
                self.fault = f"{what}: {theirs[:80]!r} instead of {mine[:80]!r}"
                return
            self._at += 1
