"""Clients that retry refused and cut requests, and resume from their last cursor."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from support.http_clients import CutOff, cursor_of, event_of, run_input, send_request

if TYPE_CHECKING:
    from campaigns import Outcome
    from support.thread_log import ThreadLog

PATIENCE = 30.0
"""Seconds without anything new after which a client gives up."""
PAUSE = 0.05
"""Seconds before a request is sent again."""


class GivenUp(Exception):
    """Raised when something promised has not happened in time."""


@dataclass
class Reading:
    """Everything read of a thread after a cursor, over any number of connections."""

    after: str | None
    frames: list[bytes] = field(default_factory=list)
    cuts: list[float] = field(default_factory=list)
    """When the response was cut off in its middle, by the monotonic clock."""

    @property
    def cursor(self) -> str | None:
        """The cursor to resume after."""
        return cursor_of(self.frames[-1]) if self.frames else self.after

    @property
    def end(self) -> dict[str, Any] | None:
        """The event that ended the run, if it was the last."""
        event = event_of(self.frames[-1]) if self.frames else {}
        return event if event.get("type") in ("RUN_FINISHED", "RUN_ERROR") else None

    def has(self, run: str) -> bool:
        """Return whether the run's beginning was read."""
        began = b'"runId":"%s' % run.encode()
        return any(began in frame and b"RUN_STARTED" in frame for frame in self.frames)


class Visitor:
    """A client with its own thread, at an address with any number of servers behind it."""

    def __init__(self, port: int, thread: str, outcome: Outcome) -> None:
        self.thread = thread
        self.readings: list[Reading] = []
        self._port = port
        self._outcome = outcome
        self._head: str | None = None
        """The newest cursor that this client knows."""

    async def run(self, agent: str, run: str, **fields: Any) -> Reading:
        """Start a run and read it to its end. Raises `GivenUp`."""
        reading = Reading(self._head)
        self.readings.append(reading)
        body = run_input(self.thread, run, **fields)
        since = time.monotonic()
        while not reading.frames:
            if time.monotonic() - since > PATIENCE:
                raise GivenUp(f"{self.thread}: run {run} cannot be started")
            try:
                async with send_request(self._port, "POST", f"/agent/{agent}/run", body) as answer:
                    if answer.status == 200:
                        await self._read(answer, reading)
                        continue
                    refusal = await answer.json()
            except CutOff:
                self._outcome.count("requests sent again")
                await asyncio.sleep(PAUSE)
                continue
            if refusal.get("code") == "agent_run_exists":
                # The response to an earlier attempt was lost.
                break
            if answer.status != 503 and refusal.get("code") != "agent_thread_locked":
                raise GivenUp(f"{self.thread}: run {run} is refused: {answer.status} {refusal}")
            self._outcome.count("refused for now")
            await asyncio.sleep(PAUSE)
        await self._to_the_end(reading, run)
        self._head = reading.cursor
        return reading

    async def follow(self, run: str) -> Reading:
        """Connect from the thread's beginning and read to the end of the run. Raises `GivenUp`."""
        reading = Reading(None)
        self.readings.append(reading)
        await self._to_the_end(reading, run)
        return reading

    async def _to_the_end(self, reading: Reading, run: str) -> None:
        """Connect, and reconnect, until the run has ended."""
        since, had = time.monotonic(), len(reading.frames)
        while reading.end is None or not reading.has(run):
            if len(reading.frames) > had:
                since, had = time.monotonic(), len(reading.frames)
            elif time.monotonic() - since > PATIENCE:
                raise GivenUp(f"{self.thread}: nothing comes behind {reading.cursor}")
            cursor = {"last_event_id": reading.cursor} if reading.cursor is not None else {}
            try:
                asking = send_request(
                    self._port, "POST", "/agent/default/connect", run_input(self.thread, "look"), **cursor
                )
                async with asking as answer:
                    if answer.status != 200:
                        raise GivenUp(f"{self.thread}: behind {reading.cursor}: {answer.status} {await answer.json()}")
                    await self._read(answer, reading)
            except CutOff:
                pass
            await asyncio.sleep(PAUSE)

    async def _read(self, answer: Any, reading: Reading) -> None:
        try:
            async for frame in answer.frames():
                reading.frames.append(frame)
        except CutOff:
            reading.cuts.append(time.monotonic())
            self._outcome.count("streams cut off")

    def check(self, log: ThreadLog) -> None:
        """Check that everything read is what the thread has, and that all runs ended."""
        for reading in self.readings:
            if (fault := log.fault(reading.frames, reading.after)) is not None:
                self._outcome.fail(f"{self.thread}: {fault}")
            self._outcome.count("frames compared", len(reading.frames))
