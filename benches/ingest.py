"""A burst of 100,000 events through one run on SQLite, compared with plain `sqlite3`."""

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from agentrunner import SqliteAgentRunner
from benches.common import ANCHORS, Helper, Row, in_turn, progress, run_finished, run_input, run_started

COUNT = 100_000
ONE_BY_ONE = 20_000
HEAD = b'{"type":"TEXT_MESSAGE_CONTENT","messageId":"msg-1234567890","delta":"token number '
EVENTS = [HEAD + b'%d "}' % index for index in range(COUNT)]


async def agent(run):
    yield run_started(run.thread_id, run.run_id)
    yield b'{"type":"TEXT_MESSAGE_START","messageId":"msg-1234567890","role":"assistant"}'
    for event in EVENTS:
        yield event
    yield b'{"type":"TEXT_MESSAGE_END","messageId":"msg-1234567890"}'
    yield run_finished(run.thread_id, run.run_id)


async def burst(path: Path, how: str) -> float:
    """Return the seconds from `run()` to the end of the stream, all of it durable and read."""
    async with SqliteAgentRunner(path) as runner:
        await runner.is_running("thread")
        began = time.perf_counter()
        stream = await runner.run(agent, run_input("thread", "run"))
        if how == "frames":
            async for _ in stream.frames():
                pass
        else:
            async for _ in stream:
                pass
        return time.perf_counter() - began


def ours(how: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return COUNT / asyncio.run(burst(Path(folder) / "runs.db", how))


def rows() -> Iterator[Row]:
    progress("ingest: bursts of 100,000 events")
    with Helper(sys.executable, ANCHORS / "rows.py") as helper:
        rate = in_turn(
            {
                "frames": lambda: ours("frames"),
                "events": lambda: ours("events"),
                "one": lambda: ONE_BY_ONE / helper.ask(verb="insert", count=ONE_BY_ONE, batch=1),
                "hundred": lambda: COUNT / helper.ask(verb="insert", count=COUNT, batch=100),
            }
        )
    for how, name in (("frames", "`frames()`"), ("events", "`async for`")):
        for side, baseline in (
            ("one", "`sqlite3`, one row per transaction"),
            ("hundred", "`sqlite3`, 100 rows per transaction"),
        ):
            ratio = rate[how] / rate[side]
            yield Row(
                f"durable burst of 100,000 events, read with {name}",
                f"{rate[how]:,.0f}/s",
                f"{baseline}: {rate[side]:,.0f}/s",
                f"{ratio:.1f}x",
                ">= 400,000/s and >= 5x" if side == "one" else "-",
                side != "one" or (ratio >= 5 and rate[how] >= 400_000),
            )
