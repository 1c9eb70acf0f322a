"""Readers that connect late, in the run's process and in another one, at any cursor."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agentrunner import fold
from agentrunner.stores.urls import store_from_url
from campaigns import BACKENDS, Campaign, Context, Outcome
from support.http_clients import CutOff, cursor_of, request_json, run_input, send_request
from support.servers import Server
from support.thread_log import ThreadLog

if TYPE_CHECKING:
    from agentrunner.stores import Store

RUNS = 4
"""Runs of a thread, one after the other: all but the first have a history."""
READERS = 25
"""Readers that connect while a run is live."""
AT_ONCE = 4
"""Threads that run at the same time."""
PAUSE = 0.004
"""Average seconds between two readers."""
LOOK_AT = 10
"""A reader checks after so many frames whether what it was shown is durable."""
WINDOW = 8 << 10
"""Bytes of a run kept in memory: readers that lag behind get the rest from the journal."""


@dataclass
class Reading:
    """The frames that one reader got."""

    after: str | None
    live: int
    """The newest sequence number that any reader had seen when this one connected."""
    frames: list[bytes] = field(default_factory=list)
    not_durable: int | None = None
    """A sequence number it was shown before the store had it."""


class Thread:
    """One thread, its early reader and its late readers."""

    def __init__(self, context: Context, servers: list[Server], store: Store, name: str) -> None:
        self.name = name
        self.early: list[bytes] = []
        self.readings: list[Reading] = []
        self._random = context.random
        self._servers = servers
        self._store = store
        self._cursors: list[str] = []
        """The cursors in compacted runs that readers saw."""

    async def run(self, number: int, readers: int) -> None:
        """Start a run, let readers connect, stop it, and wait until all have read to the end."""
        async with asyncio.TaskGroup() as reading:
            begun = asyncio.Event()
            reading.create_task(self._read_early(self._servers[number % 2], number, begun))
            await begun.wait()
            for count in range(readers):
                reading.create_task(self._read(self._servers[count % 2], self._cursor()))
                await asyncio.sleep(self._random.uniform(0, 2 * PAUSE))
            _, stopped = await request_json(self._servers[0].port, "POST", f"/agent/default/stop/{self.name}", {})
            assert stopped["stopped"], stopped

    async def _read_early(self, server: Server, number: int, begun: asyncio.Event) -> None:
        body = run_input(self.name, f"{self.name}-{number}", forwardedProps={"pause": 0.002})
        async with send_request(server.port, "POST", "/agent/default/run", body) as answer:
            assert answer.status == 200, await answer.json()
            async for frame in answer.frames():
                self.early.append(frame)
                begun.set()

    def _cursor(self) -> str | None:
        """Choose where a reader begins: at the start, after a raw event or in a compacted run."""
        kind = self._random.choice(("none", "raw", "raw", "form"))
        if kind == "raw":
            return str(self._random.randint(0, len(self.early)))
        if kind == "form" and self._cursors:
            return self._random.choice(self._cursors)
        return None

    async def _read(self, server: Server, after: str | None) -> None:
        reading = Reading(after, len(self.early))
        self.readings.append(reading)
        cursor = {"last_event_id": after} if after is not None else {}
        async with send_request(
            server.port, "POST", "/agent/default/connect", run_input(self.name, "look"), **cursor
        ) as answer:
            assert answer.status == 200, (after, await answer.json())
            async for frame in answer.frames():
                reading.frames.append(frame)
                place = cursor_of(frame)
                if "." in place:
                    self._cursors.append(place)
                elif len(reading.frames) % LOOK_AT == 0:
                    page = await self._store.journal(self.name, int(place) - 1, None, 1)
                    if not len(page.frames):
                        reading.not_durable = int(place)


def check(thread: Thread, log: ThreadLog, outcome: Outcome) -> None:
    """Compare what the thread's readers received with its log."""
    if thread.early != log.frames:
        outcome.fail(f"{thread.name}: the early reader got {len(thread.early)} frames, the log has {len(log.frames)}")
    for reading in thread.readings:
        if (fault := log.fault(reading.frames, reading.after, reading.live)) is not None:
            outcome.fail(f"{thread.name}: {fault}")
        if reading.not_durable is not None:
            outcome.fail(f"{thread.name}: event {reading.not_durable} was shown before the store had it")
        outcome.count(f"connects {_kind(reading.after)}")
        outcome.count("frames read", len(reading.frames))
    # A reader of everything ends with what the early reader has, also through a compacted run.
    last = log.runs[-1].first
    whole = next((reading for reading in thread.readings if reading.after is None and reading.live >= last), None)
    if whole is not None and folded(whole.frames) != folded(thread.early):
        outcome.fail(f"{thread.name}: a late reader ends with other messages than the early one: {whole.frames[0]!r}")
    outcome.count("events", len(log.frames))


def _kind(after: str | None) -> str:
    if after is None:
        return "without a cursor"
    return "in a compacted form" if "." in after else "at a raw cursor"


def folded(frames: list[bytes]) -> tuple[object, object]:
    """Return the messages and the state that a reader of these frames has."""
    return fold(frame[frame.index(b"data: ") + 6 : -2] for frame in frames)


async def campaign(context: Context) -> Outcome:
    outcome = Outcome()
    store = store_from_url(context.location)
    options = {"live_window": WINDOW}
    servers = [Server(context.location, context.folder / f"log{n}", mutation=context.mutation, **options) for n in "12"]
    left = asyncio.Semaphore(AT_ONCE)

    async def one(number: int, readers: int) -> None:
        async with left:
            thread = Thread(context, servers, store, f"t{number}")
            try:
                for run in range(RUNS):
                    await thread.run(run, readers * (run + 1) // RUNS - readers * run // RUNS)
                check(thread, await ThreadLog.read(store, thread.name), outcome)
            except* (CutOff, AssertionError) as errors:
                outcome.fail(f"{thread.name}: {errors.exceptions[0]!r}")
            for _ in range(readers):
                context.tick()

    async with contextlib.AsyncExitStack() as stack:
        await store.open()
        stack.push_async_callback(store.aclose)
        await asyncio.gather(*(stack.enter_async_context(server) for server in servers))
        each = RUNS * READERS
        whole, rest = divmod(context.rounds, each)
        sizes = [each] * whole + [rest] * (rest > 0)
        await asyncio.gather(*(one(number, readers) for number, readers in enumerate(sizes)))
    return outcome


CAMPAIGN = Campaign(
    name="late_readers",
    promise="late readers get everything",
    bar="every connect gets exactly the events after its cursor, and ends with what the early reader has",
    backends=BACKENDS,
    small=100,
    full={"sqlite": 10_000, "redis": 10_000, "postgres": 10_000},
    run=lambda context: asyncio.run(campaign(context)),
    mutations={
        "skip_a_frame_on_reconnect": "a reader resumes right after its cursor",
        "take_a_form_for_the_run": "a cursor in a compacted run is not a cursor among the raw events",
        "deliver_before_commit": "readers see events only when they are durable",
    },
)
