"""The scenes of the tour."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from agentrunner.demo.agent import agent, request
from agentrunner.demo.approval import approval
from agentrunner.demo.screen import Reader, Row, Screen, stored_runs
from agentrunner.errors import InvalidEventSequence
from agentrunner.events import fold, verify
from agentrunner.runners import SqliteAgentRunner
from agentrunner.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from agentrunner.reading.stream import EventStream

THREAD = "lisbon"
LATE = 200
"""After how many events of the first reader the late one comes."""
KILLED = 150
"""After how many events its reader has seen the child is killed."""
FREE_WITHIN = 1000
"""Milliseconds a thread may stay locked after its process was killed."""


async def tour(path: Path, console: Console) -> bool:
    """Take the tour on a file that is not there yet. Say whether every promise was kept."""
    screen = Screen(console)
    screen.say("A pydantic-ai agent with an offline model, one thread, one SQLite file.")
    first = await _readers(path, screen)
    seen, killed_at = await _killed(path, screen, fold(first.raw).messages)
    if not seen.events:
        return False
    async with SqliteAgentRunner(path) as runner:
        second = await _recovered(runner, screen, seen, killed_at)
        third = await _again(runner, screen)
        asked = await approval(path, runner, screen)
        await _whole(runner, screen, [first, second, third])
    rows = [first, second, third, *asked]
    await _sound(path, screen, len(rows))
    screen.summary(rows)
    return screen.kept


async def _readers(path: Path, screen: Screen) -> Row:
    """Run once, with three readers."""
    screen.scene("A run, two readers from its start, one who comes in the middle")
    one, two, late = Reader("early reader"), Reader("early reader"), Reader("late reader")
    middle = asyncio.Event()
    async with SqliteAgentRunner(path) as runner:
        stream = await runner.run(agent, request(THREAD, "run-1", [], "A day in Lisbon?"), agent_id="guide")

        async def come_late() -> None:
            await middle.wait()
            await _read(await runner.connect(THREAD), late)

        with screen.reading(one, two, late):
            early = await runner.connect(THREAD)
            await asyncio.gather(_read(stream, one, middle), _read(early, two), come_late())
        stored = await stored_runs(runner, THREAD)
    screen.promise("all three end with the same messages and state", one.folded == two.folded == late.folded)
    screen.promise(
        f"the late one got {len(late.events)} events instead of {len(one.events)}: what it missed came compacted",
        0 < len(late.events) < len(one.events),
    )
    return Row(
        "run-1", one.events, stored["run-1"], f"early {len(one.events)}, {len(two.events)}; late {len(late.events)}"
    )


async def _killed(path: Path, screen: Screen, known: list[dict[str, Any]]) -> tuple[Reader, float]:
    """Let a child process run on the same file, and kill it. Give what its reader saw, and when it was killed."""
    screen.scene("Another process runs on the same file, and is killed in the middle")
    seen, killed_at = Reader("its reader"), time.perf_counter()
    asked = request(THREAD, "run-2", known, "And a second day?")
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agentrunner.demo.worker", str(path),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 20,
    )  # fmt: skip
    assert child.stdin is not None  # noqa: S101 - pipes were asked for, here and below
    assert child.stdout is not None  # noqa: S101
    try:
        child.stdin.write(json.dumps(asked).encode())
        child.stdin.close()
        with screen.reading(seen):
            async for line in child.stdout:
                # A line the kill cut short was not seen.
                if line.endswith(b"\n"):
                    cursor, _, event = line.rstrip(b"\n").partition(b"\t")
                    seen.see(cursor.decode(), event)
                if len(seen.events) == KILLED:
                    killed_at = time.perf_counter()
                    os.kill(child.pid, signal.SIGKILL)
        code = await child.wait()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    screen.promise(
        f"process {child.pid} died of SIGKILL after its reader had seen {len(seen.events)} events", code == -9
    )
    return seen, killed_at


async def _recovered(runner: SqliteAgentRunner, screen: Screen, seen: Reader, killed_at: float) -> Row:
    """Look at what is left of the killed run."""
    free = not await runner.is_running(THREAD)
    took = (time.perf_counter() - killed_at) * 1000
    screen.scene("The thread is recovered here, replayed, and runs again")
    screen.promise(f"the thread is free {took:.0f} ms after the kill", free and took < FREE_WITHIN)
    stored = (await stored_runs(runner, THREAD)).get("run-2", [])
    # The journal keeps the raw events a while: behind the first one seen, all that was ever durable.
    rest = Reader("journal")
    await _read(await runner.connect(THREAD, after=seen.cursors[0]), rest)
    raw = [*stored[:1], *rest.events]
    screen.promise(
        f"all {len(seen.events)} events that were seen are there, byte for byte", raw[: len(seen.events)] == seen.events
    )
    last = json.loads(stored[-1]) if stored else {}
    screen.promise(
        f"the replay ends with {last.get('type')}, code {last.get('code')}",
        (last.get("type"), last.get("code")) == ("RUN_ERROR", "INTERRUPTED"),
    )
    screen.promise("the replay shows the same as the raw events", fold(stored) == fold(raw))
    return Row("run-2", raw, stored, f"until the kill {len(seen.events)}; replay {len(stored)}")


async def _again(runner: SqliteAgentRunner, screen: Screen) -> Row:
    """Run on the recovered thread, as a client does that sends all the messages it has."""
    asked = request(THREAD, "run-3", await runner.threads.messages(THREAD), "Please say that again.")
    reader = Reader("reader")
    with screen.reading(reader):
        await _read(await runner.run(agent, asked, agent_id="guide"), reader)
    kept = json.loads(reader.events[0])["input"]["messages"]
    screen.promise(
        f"it runs again; of the {len(asked['messages'])} messages the client sent only the {len(kept)} new one is kept",
        json.loads(reader.events[-1])["type"] == "RUN_FINISHED" and kept == asked["messages"][-1:],
    )
    stored = (await stored_runs(runner, THREAD))["run-3"]
    return Row("run-3", reader.events, stored, f"early {len(reader.events)}; replay {len(stored)}")


async def _whole(runner: SqliteAgentRunner, screen: Screen, rows: list[Row]) -> None:
    screen.scene("The whole thread")
    events = [event async for event in await runner.connect(THREAD)]
    raw = [event for row in rows for event in row.raw]
    screen.promise("compacted, its three runs replay to the same messages and state", fold(events) == fold(raw))
    try:
        verify(events)
        accepted = True
    except InvalidEventSequence:
        accepted = False
    screen.promise("the replay follows AG-UI's rules for the order of events", accepted)


async def _sound(path: Path, screen: Screen, count: int) -> None:
    store = SqliteStore(path, free_stuck=False)
    await store.open()
    report = await store.inspect(fix=False)
    await store.aclose()
    wrong = [*report.corrupt, *report.orphans, *report.stuck, *report.dead]
    screen.promise(
        f"the file is sound: {report.runs} runs, nothing left to mend",
        report.integrity == "ok" and report.runs == count and not wrong,
    )


async def _read(stream: EventStream, reader: Reader, middle: asyncio.Event | None = None) -> None:
    """Read to the end; on the way tell the late reader when to come."""
    async for event in stream:
        reader.see(event.cursor, bytes(event))
        if middle is not None and len(reader.events) == LATE:
            middle.set()
