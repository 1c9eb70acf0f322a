"""Bursts to 1, 100 and 1,000 readers of one live run; and what a reader that waits costs."""

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from agentrunner import SqliteAgentRunner
from benches.common import Row, finished, in_turn, progress, run_input, started

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
    """Says when every reader has all of a burst: only then the next one comes."""

    def __init__(self, readers: int) -> None:
        self._readers = readers
        self._missing = readers
        self._over = asyncio.Event()

    def arrived(self) -> None:
        self._missing -= 1
        if self._missing == 0:
            self._missing = self._readers
            self._over.set()

    async def over(self) -> None:
        await self._over.wait()
        self._over.clear()


async def frames(readers: int, bursts: int) -> float:
    """Deliveries a second of `frames()`, durable on SQLite first."""
    in_step, ready = Bursts(readers), asyncio.Event()
    began = 0.0

    async def agent(run):
        nonlocal began
        yield started(run.thread_id, run.run_id)
        yield b'{"type":"TEXT_MESSAGE_START","messageId":"m","role":"assistant"}'
        await ready.wait()
        began = time.perf_counter()
        for _ in range(bursts):
            for event in EVENTS:
                yield event
            await in_step.over()
        yield b'{"type":"TEXT_MESSAGE_END","messageId":"m"}'
        yield finished(run.thread_id, run.run_id)

    async def read(stream):
        async for data in stream.frames():
            if data.endswith(LAST + b"\n\n"):
                in_step.arrived()

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
    """The same with a queue a reader, in memory: each event is put to each queue."""
    in_step = Bursts(readers)
    all_queues: list[asyncio.Queue[bytes]] = [asyncio.Queue() for _ in range(readers)]

    async def read(queue):
        while True:
            if (await queue.get()) is LAST:
                in_step.arrived()

    tasks = [asyncio.create_task(read(queue)) for queue in all_queues]
    await asyncio.sleep(0)
    began = time.perf_counter()
    for _ in range(bursts):
        for event in EVENTS:
            for queue in all_queues:
                queue.put_nowait(event)
        await in_step.over()
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
        many = readers == READERS[-1]
        yield Row(
            f"bursts of {BURST:,} events to {readers:,} reader{'s' if readers > 1 else ''}, durable",
            f"{rate['ours'] / 1e6:,.2f} M deliveries/s",
            f"`asyncio.Queue` a reader, in memory: {rate['queue'] / 1e6:,.2f} M/s",
            f"{rate['ours'] / rate['queue']:.1f}x",
            ">= 20 M/s" if many else "-",
            not many or rate["ours"] >= 20e6,
        )
    progress("fanout: 10,000 readers that wait")
    size = in_turn({how: lambda how=how: _waiting(how) for how in ("stream", "queue", "bare")})
    ours, queue = size["stream"] - size["bare"], size["queue"] - size["bare"]
    yield Row(
        f"memory of a reader that waits, of 10,000 (with its task {size['stream']:,.0f} B)",
        f"{ours:,.0f} B",
        f"`asyncio.Queue`: {queue:,.0f} B (with its task {size['queue']:,.0f} B)",
        f"{ours / queue:.2f}x",
        "<= 2,048 B",
        ours <= 2048,
    )


def _waiting(how: str) -> float:
    """Resident bytes a reader, measured in a process of its own."""
    command = [sys.executable, "-m", "benches.anchors.waiting", how]
    done = subprocess.run(command, check=True, capture_output=True, cwd=Path(__file__).parent.parent)
    return float(done.stdout)
