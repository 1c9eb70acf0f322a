"""What the harness adds to a run of 1,000 events on SQLite, compared with the runner."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

from ag_ui.core import (
    EventType,
    RunAgentInput,
    RunFinishedEvent,
    RunStartedEvent,
    TextMessageContentEvent,
    TextMessageEndEvent,
    TextMessageStartEvent,
)

from agentrunner import SqliteAgentRunner
from agentrunner.harness import Harness
from benches.common import Row, in_turn_async, progress, run_input

COUNT = 1000
BURST_RUNS = 20
"""Number of runs, one after the other, in one measurement of a burst."""
TOKEN_SECONDS = 0.001
"""Seconds between two tokens of a fast model."""


def agent(pace: float) -> Callable[[RunAgentInput], AsyncIterator[object]]:
    async def run(input: RunAgentInput) -> AsyncIterator[object]:
        ids = {"thread_id": input.thread_id, "run_id": input.run_id}
        yield RunStartedEvent(type=EventType.RUN_STARTED, **ids)
        message = f"m-{input.run_id}"
        yield TextMessageStartEvent(type=EventType.TEXT_MESSAGE_START, message_id=message, role="assistant")
        began = time.perf_counter()
        for index in range(COUNT - 4):
            if pace and (wait := began + index * pace - time.perf_counter()) > 0:
                await asyncio.sleep(wait)
            yield TextMessageContentEvent(
                type=EventType.TEXT_MESSAGE_CONTENT, message_id=message, delta=f"token number {index} "
            )
        yield TextMessageEndEvent(type=EventType.TEXT_MESSAGE_END, message_id=message)
        yield RunFinishedEvent(type=EventType.RUN_FINISHED, **ids)

    return run


async def compare(pace: float, runs: int, rounds: int) -> dict[str, float]:
    """Return the seconds from `run()` to the end of the stream, with and without the harness."""
    with tempfile.TemporaryDirectory() as folder:
        async with SqliteAgentRunner(Path(folder) / "threads.db") as runner:
            plain = agent(pace)
            async with Harness(runner, {"default": plain}) as harness:
                sides = {"alone": plain, "harness": harness.agents["default"]}
                number = 0

                def side(name: str) -> Callable[[], Awaitable[float]]:
                    async def measure() -> float:
                        nonlocal number
                        began = time.perf_counter()
                        for _ in range(runs):
                            number += 1
                            stream = await runner.run(sides[name], run_input(f"t{number}", f"r{number}", "go"))
                            async for _ in stream.frames():
                                pass
                        return (time.perf_counter() - began) / runs

                    return measure

                return await in_turn_async({name: side(name) for name in sides}, rounds)


def rows() -> Iterator[Row]:
    for name, pace, runs, rounds in (
        ("one token per millisecond", TOKEN_SECONDS, 1, 7),
        ("in a burst", 0.0, BURST_RUNS, 15),
    ):
        progress(f"harness: runs of {COUNT:,} events, {name}")
        taken = asyncio.run(compare(pace, runs, rounds))
        overhead = taken["harness"] / taken["alone"] - 1
        yield Row(
            f"harness around a run of {COUNT:,} events, {name}",
            f"{taken['harness'] * 1000:.2f} ms",
            f"the runner alone: {taken['alone'] * 1000:.2f} ms",
            f"{overhead:+.1%}",
            "<= 10 %",
            overhead <= 0.10,
        )
