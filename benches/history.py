"""How long a start and a connect take on threads with 10 to 10,000 earlier runs."""

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import orjson

from agentrunner import SqliteAgentRunner
from benches.common import ANCHORS, Helper, Row, in_turn_async, progress, run_finished, run_input, run_started

SIZES = (10, 100, 1_000, 10_000)
TEXT = "Every event is on the disk before a reader sees it, and a late reader sees what the first one saw. " * 8


def answer(thread_id: str, run_id: str) -> list[bytes]:
    """Return 17 events, about 3.6 kB, that compaction leaves unchanged."""
    call, first, second = f"call-{run_id}", f"first-{run_id}", f"second-{run_id}"
    middle = [
        {"type": "STEP_STARTED", "stepName": "answer"},
        {"type": "TEXT_MESSAGE_START", "messageId": first, "role": "assistant"},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": first, "delta": TEXT},
        {"type": "TEXT_MESSAGE_END", "messageId": first},
        {"type": "TOOL_CALL_START", "toolCallId": call, "toolCallName": "search", "parentMessageId": first},
        {"type": "TOOL_CALL_ARGS", "toolCallId": call, "delta": '{"query":"runs"}'},
        {"type": "TOOL_CALL_END", "toolCallId": call},
        {"type": "TOOL_CALL_RESULT", "messageId": f"{call}-result", "toolCallId": call, "content": TEXT},
        {"type": "CUSTOM", "name": "usage", "value": {"tokens": 800}},
        {"type": "TEXT_MESSAGE_START", "messageId": second, "role": "assistant"},
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": second, "delta": TEXT[:300]},
        {"type": "TEXT_MESSAGE_END", "messageId": second},
        {"type": "STATE_SNAPSHOT", "snapshot": {"last": run_id}},
        {"type": "CUSTOM", "name": "done", "value": True},
        {"type": "STEP_FINISHED", "stepName": "answer"},
    ]
    return [run_started(thread_id, run_id), *map(orjson.dumps, middle), run_finished(thread_id, run_id)]


async def agent(run):
    for event in answer(run.thread_id, run.run_id):
        yield event


async def build(path: Path) -> None:
    """Make the runs, without a resume window, so that their raw events are removed at once."""
    async with SqliteAgentRunner(path, resume_window=0) as runner:

        async def fill(runs: int) -> None:
            for number in range(runs):
                run_id = f"run-{runs}-{number}"
                stream = await runner.run(agent, run_input(f"thread-{runs}", run_id, "What is it for?"))
                async for _ in stream.frames():
                    pass

        await asyncio.gather(*map(fill, SIZES))


async def start(runner: SqliteAgentRunner, runs: int) -> float:
    run_id = f"more-{time.perf_counter_ns()}"
    request = run_input(f"thread-{runs}", run_id, "And now?")
    began = time.perf_counter()
    stream = await runner.run(agent, request)
    first = await anext(aiter(stream))
    taken = time.perf_counter() - began
    assert first.type == "RUN_STARTED"
    async for _ in stream:
        pass
    return taken


async def connect(runner: SqliteAgentRunner, runs: int) -> float:
    began = time.perf_counter()
    size = 0
    async for data in (await runner.connect(f"thread-{runs}")).frames():
        size += len(data)
    taken = time.perf_counter() - began
    assert size > runs * 3_000
    return taken


async def measure(path: Path, helper: Helper) -> tuple[dict[str, float], dict[str, float]]:
    async def plain() -> float:
        return helper.ask(verb="fetch", path=str(path), thread_id="thread-1000")

    async with SqliteAgentRunner(path, resume_window=0) as runner:
        progress("history: connects")
        sides = {str(runs): lambda runs=runs: connect(runner, runs) for runs in SIZES}
        connects = await in_turn_async({**sides, "plain": plain}, 7)
        progress("history: starts")
        starts = await in_turn_async({str(runs): lambda runs=runs: start(runner, runs) for runs in SIZES}, 41)
    return starts, connects


def rows() -> Iterator[Row]:
    progress("history: making 11,110 earlier runs")
    with tempfile.TemporaryDirectory() as folder, Helper(sys.executable, ANCHORS / "rows.py") as helper:
        path = Path(folder) / "runs.db"
        asyncio.run(build(path))
        starts, connects = asyncio.run(measure(path, helper))
    for runs in SIZES[1:]:
        ratio = starts[str(runs)] / starts["10"]
        yield Row(
            f"start of a run, {runs:,} earlier runs",
            _ms(starts[str(runs)]),
            f"10 earlier runs: {_ms(starts['10'])}",
            f"{ratio:.2f}x",
            "within 30 %" if runs == 10_000 else "-",
            runs != 10_000 or 0.7 <= ratio <= 1.3,
        )
    ratio = connects["1000"] / connects["plain"]
    fetch = f"`sqlite3` fetch of the rows: {_ms(connects['plain'])}"
    yield Row(
        "connect to the last byte, 1,000 runs", _ms(connects["1000"]), fetch, f"{ratio:.1f}x", "<= 4x", ratio <= 4
    )
    for few, many, target in (("10", "100", None), ("100", "1000", None), ("1000", "10000", 11)):
        ratio = connects[many] / connects[few]
        yield Row(
            f"connect to the last byte, {int(many):,} runs",
            _ms(connects[many]),
            f"{int(few):,} runs: {_ms(connects[few])}",
            f"{ratio:.1f}x",
            f"<= {target}x" if target else "-",
            target is None or ratio <= target,
        )


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.2f} ms"
