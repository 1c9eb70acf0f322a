"""The scenes of the tour."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from agentrunner._counts import format_count
from agentrunner.demo.agent import agent, make_request
from agentrunner.demo.approval import play_approval
from agentrunner.demo.screen import Reader, Row, Screen, read_stored_runs
from agentrunner.errors import InvalidEventSequence
from agentrunner.events import fold, verify
from agentrunner.runners import SqliteAgentRunner
from agentrunner.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from agentrunner.reading.stream import EventStream

THREAD = "lisbon"
LATE_READER_EVENTS = 200
"""Number of events the first reader has when the late reader comes."""
KILL_EVENTS = 150
"""Number of events the child's reader has when the child is killed."""
LOCKED_MS = 1000
"""Milliseconds a thread may stay locked after its process was killed."""


async def tour(path: Path, console: Console) -> bool:
    """Take the tour on a new SQLite file; return whether every promise was kept."""
    screen = Screen(console)
    screen.explain("A pydantic-ai agent with an offline model, one thread, one SQLite file.")
    first = await _play_readers(path, screen)
    reader, killed_at = await _play_kill(path, screen, fold(first.raw).messages)
    if not reader.events:
        return False
    async with SqliteAgentRunner(path) as runner:
        second = await _play_recovery(runner, screen, reader, killed_at)
        third = await _play_next_run(runner, screen)
        approval_rows = await play_approval(path, runner, screen)
        await _play_whole_thread(runner, screen, [first, second, third])
    rows = [first, second, third, *approval_rows]
    await _check_file(path, screen, len(rows))
    screen.show_summary(rows)
    return screen.has_kept_promises


async def _play_readers(path: Path, screen: Screen) -> Row:
    """Run the agent once, with three readers."""
    screen.start_scene("One run: two readers from the start, a third one from the middle")
    one, two, late = Reader("early reader"), Reader("early reader"), Reader("late reader")
    is_late = asyncio.Event()
    async with SqliteAgentRunner(path) as runner:
        stream = await runner.run(agent, make_request(THREAD, "run-1", [], "A day in Lisbon?"), agent_id="guide")

        async def read_late() -> None:
            await is_late.wait()
            await _read(await runner.connect(THREAD), late)

        with screen.show_readers(one, two, late):
            early = await runner.connect(THREAD)
            await asyncio.gather(_read(stream, one, is_late), _read(early, two), read_late())
        stored = await read_stored_runs(runner, THREAD)
    screen.check_promise("all three end with the same messages and state", one.folded == two.folded == late.folded)
    screen.check_promise(
        f"the late reader got {format_count(len(late.events), 'event')} instead of {len(one.events)}: "
        "the ones it missed, compacted",
        0 < len(late.events) < len(one.events),
    )
    return Row(
        "run-1", one.events, stored["run-1"], f"early {len(one.events)}, {len(two.events)}; late {len(late.events)}"
    )


async def _play_kill(path: Path, screen: Screen, history: list[dict[str, Any]]) -> tuple[Reader, float]:
    """Kill a child process in the middle of a run; return its reader and the time of the kill."""
    screen.start_scene("Another process runs the agent on the same file, and is killed in the middle")
    reader, killed_at = Reader("its reader"), time.perf_counter()
    request = make_request(THREAD, "run-2", history, "And a second day?")
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agentrunner.demo.worker", str(path),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 20,
    )  # fmt: skip
    assert child.stdin is not None  # noqa: S101 - the call above requests pipes, here and below
    assert child.stdout is not None  # noqa: S101
    try:
        child.stdin.write(json.dumps(request).encode())
        child.stdin.close()
        with screen.show_readers(reader):
            async for line in child.stdout:
                # A line without its end was cut by the kill, and no reader saw it.
                if line.endswith(b"\n"):
                    cursor, _, event = line.rstrip(b"\n").partition(b"\t")
                    reader.see(cursor.decode(), event)
                if len(reader.events) == KILL_EVENTS:
                    killed_at = time.perf_counter()
                    os.kill(child.pid, signal.SIGKILL)
        code = await child.wait()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    screen.check_promise(
        f"process {child.pid} died of SIGKILL after its reader had seen {format_count(len(reader.events), 'event')}",
        code == -9,
    )
    return reader, killed_at


async def _play_recovery(runner: SqliteAgentRunner, screen: Screen, reader: Reader, killed_at: float) -> Row:
    """Check what the killed run left behind."""
    is_free = not await runner.is_running(THREAD)
    locked_ms = (time.perf_counter() - killed_at) * 1000
    screen.start_scene("The thread is recovered here, replayed, and runs again")
    screen.check_promise(f"the thread is free {locked_ms:.0f} ms after the kill", is_free and locked_ms < LOCKED_MS)
    stored = (await read_stored_runs(runner, THREAD)).get("run-2", [])
    # The journal still has all raw events that became durable; this reads those after the first one that was seen.
    journal = Reader("journal")
    await _read(await runner.connect(THREAD, after=reader.cursors[0]), journal)
    raw = [*stored[:1], *journal.events]
    screen.check_promise(
        f"all {len(reader.events)} events that were seen are there, byte for byte",
        raw[: len(reader.events)] == reader.events,
    )
    last = json.loads(stored[-1]) if stored else {}
    screen.check_promise(
        f"the replay ends with {last.get('type')}, code {last.get('code')}",
        (last.get("type"), last.get("code")) == ("RUN_ERROR", "INTERRUPTED"),
    )
    screen.check_promise("the replay shows the same as the raw events", fold(stored) == fold(raw))
    return Row("run-2", raw, stored, f"until the kill {len(reader.events)}; replay {len(stored)}")


async def _play_next_run(runner: SqliteAgentRunner, screen: Screen) -> Row:
    """Run the agent on the recovered thread, sending all messages as clients do."""
    request = make_request(THREAD, "run-3", await runner.threads.messages(THREAD), "Please say that again.")
    reader = Reader("reader")
    with screen.show_readers(reader):
        await _read(await runner.run(agent, request, agent_id="guide"), reader)
    stored_messages = json.loads(reader.events[0])["input"]["messages"]
    screen.check_promise(
        f"of the client's {len(request['messages'])} messages, the next run stores the {len(stored_messages)} new one",
        json.loads(reader.events[-1])["type"] == "RUN_FINISHED" and stored_messages == request["messages"][-1:],
    )
    stored = (await read_stored_runs(runner, THREAD))["run-3"]
    return Row("run-3", reader.events, stored, f"early {len(reader.events)}; replay {len(stored)}")


async def _play_whole_thread(runner: SqliteAgentRunner, screen: Screen, rows: list[Row]) -> None:
    screen.start_scene("The whole thread")
    events = [event async for event in await runner.connect(THREAD)]
    raw = [event for row in rows for event in row.raw]
    screen.check_promise("compacted, its three runs replay to the same messages and state", fold(events) == fold(raw))
    try:
        verify(events)
        is_valid = True
    except InvalidEventSequence:
        is_valid = False
    screen.check_promise("the replay follows AG-UI's rules for the order of events", is_valid)


async def _check_file(path: Path, screen: Screen, count: int) -> None:
    store = SqliteStore(path, free_stuck=False)
    await store.open()
    report = await store.inspect(fix=False)
    await store.aclose()
    problems = [*report.corrupt, *report.orphans, *report.stuck, *report.dead]
    screen.check_promise(
        f"the file is sound: {format_count(report.runs, 'run')}, nothing to repair",
        report.integrity == "ok" and report.runs == count and not problems,
    )


async def _read(stream: EventStream, reader: Reader, is_late: asyncio.Event | None = None) -> None:
    """Read to the end; set `is_late` when it is time for the late reader to connect."""
    async for event in stream:
        reader.see(event.cursor, bytes(event))
        if is_late is not None and len(reader.events) == LATE_READER_EVENTS:
            is_late.set()
