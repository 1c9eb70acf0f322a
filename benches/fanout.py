"""Bursts to 1, 100 and 1,000 readers of one live run, and the memory of a waiting reader."""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from agentrunner import SqliteAgentRunner
from benches.common import Row, in_turn, progress, run_finished, run_input, run_started

READERS = (1, 100, 1_000)
BURST = 1_000
LAST = b'{"type":"CUSTOM","name":"burst","value":"over"}'
EVENTS = [
    *(
        b'{"type":"TEXT_MESSAGE_CONTENT","messageId":"m","delta":"token number %d "}' % index
        for index in range(BURST - 1)
    ),
    LAST,
]


class Bursts:
    """Waits until every reader has the whole burst, so that the next one may come."""

    def __init__(self, readers: int) -> None:
        self._readers = readers
        self._missing = readers
        self._over = asyncio.Event()

    def count_arrival(self) -> None:
        self._missing -= 1
        if self._missing == 0:
            self._missing = self._readers
            self._over.set()

    async def wait(self) -> None:
        await self._over.wait()
        self._over.clear()


async def frames(readers: int, bursts: int) -> float:
    """Return the deliveries per second of `frames()`, with every event durable on SQLite."""
    bursts_read, ready = Bursts(readers), asyncio.Event()
    began = 0.0

    async def agent(run):
        nonlocal began
        yield run_started(run.thread_id, run.run_id)
        yield b'{"type":"TEXT_MESSAGE_START","messageId":"m","role":"assistant"}'
        await ready.wait()
        began = time.perf_counter()
        for _ in range(bursts):
            for event in EVENTS:
                yield event
            await bursts_read.wait()
        yield b'{"type":"TEXT_MESSAGE_END","messageId":"m"}'
        yield run_finished(run.thread_id, run.run_id)

    async def read(stream):
        async for data in stream.frames():
            if data.endswith(LAST + b"\n\n"):
                bursts_read.count_arrival()

    with tempfile.TemporaryDirectory() as folder:
        async with SqliteAgentRunner(Path(folder) / "runs.db") as runner:
            streams = [await runner.run(agent, run_input("thread", "run"))]
            streams += [await runner.connect("thread") for _ in range(readers - 1)]
            tasks = [asyncio.create_task(read(stream)) for stream in streams]
            await asyncio.sleep(0.05)
            ready.set()
            await asyncio.gather(*tasks)
            return BURST * bursts * readers / (time.perf_counter() - began)


async def queues(readers: int, bursts: int) -> float:
    """Return the same with one queue per reader, in memory."""
    bursts_read = Bursts(readers)
    all_queues: list[asyncio.Queue[bytes]] = [asyncio.Queue() for _ in range(readers)]

    async def read(queue):
        while True:
            if (await queue.get()) is LAST:
                bursts_read.count_arrival()

    tasks = [asyncio.create_task(read(queue)) for queue in all_queues]
    await asyncio.sleep(0)
    began = time.perf_counter()
    for _ in range(bursts):
        for event in EVENTS:
            for queue in all_queues:
                queue.put_nowait(event)
        await bursts_read.wait()
    taken = time.perf_counter() - began
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return BURST * bursts * readers / taken


def rows() -> Iterator[Row]:
    for readers in READERS:
        progress(f"fanout: {readers:,} readers")
        rate = in_turn(
            {
                "ours": lambda readers=readers: asyncio.run(frames(readers, 20)),
                "queue": lambda readers=readers: asyncio.run(queues(readers, max(1, 100 // readers))),
            }
        )
        has_target = readers == READERS[-1]
        yield Row(
            f"bursts of {BURST:,} events to {readers:,} reader{'s' if readers > 1 else ''}, durable",
            f"{rate['ours'] / 1e6:,.2f} M deliveries/s",
            f"one `asyncio.Queue` per reader, in memory: {rate['queue'] / 1e6:,.2f} M/s",
            f"{rate['ours'] / rate['queue']:.1f}x",
            ">= 20 M/s" if has_target else "-",
            not has_target or rate["ours"] >= 20e6,
        )
    progress("fanout: 10,000 waiting readers")
    size = in_turn({how: lambda how=how: _waiting(how) for how in ("stream", "queue", "bare")})
    ours, queue = size["stream"] - size["bare"], size["queue"] - size["bare"]
    yield Row(
        f"memory of one of 10,000 waiting readers (with its task {size['stream']:,.0f} B)",
        f"{ours:,.0f} B",
        f"`asyncio.Queue`: {queue:,.0f} B (with its task {size['queue']:,.0f} B)",
        f"{ours / queue:.2f}x",
        "<= 2,048 B",
        ours <= 2048,
    )


def _waiting(how: str) -> float:
    """Return the resident bytes of one reader, measured in a separate process."""
    command = [sys.executable, "-m", "benches.anchors.waiting", how]
    done = subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parent.parent)
    return float(done.stdout)
