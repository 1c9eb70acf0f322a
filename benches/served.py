"""The server over sockets, compared with a Starlette app that only forwards."""

import asyncio
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import uvloop

from benches.common import ANCHORS, Row, in_turn_async, progress, run_input

MIB = 1 << 20
MARK = b"~"
"""A byte that each content event has once; being one byte, no transfer can split it."""
STAMP = re.compile(rb'"(\d+)~"')


class Reader(asyncio.Protocol):
    """Posts a request and reads the response to its end, counting events."""

    def __init__(self, request: bytes, *, stamps: bool = False) -> None:
        self.events = 0
        self.bytes = 0
        self.delays: list[int] | None = [] if stamps else None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._request = request

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns() if self.delays is not None else 0
        self.bytes += len(data)
        self.events += data.count(MARK)
        if self.delays is not None:
            self.delays += [now - int(stamp) for stamp in STAMP.findall(data)]
        if self.bytes > 500 and not self.begun.done():
            self.begun.set_result(None)
        if data.endswith(b"0\r\n\r\n"):
            self._end()

    def connection_lost(self, error: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        for future in (self.begun, self.done):
            if not future.done():
                future.set_result(None)
        self.transport.close()


class Served:
    """A server process."""

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, ANCHORS / "served.py", *command], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self._runs = 0

    def peak(self) -> int:
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise LookupError

    async def post(self, path: str, body: dict[str, object], *, stamps: bool = False) -> Reader:
        data = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n\r\n"
        )
        loop = asyncio.get_running_loop()
        request = head.encode() + data
        _, reader = await loop.create_connection(lambda: Reader(request, stamps=stamps), "127.0.0.1", self.port)
        return reader

    def input(self, thread: str | None = None, **props: object) -> dict[str, object]:
        self._runs += 1
        name = f"{self._runs}"
        return run_input(thread or f"thread-{name}", f"run-{name}") | {
            "forwardedProps": props,
            "protocolVersion": "1.0",
        }

    async def run(self, thread: str | None = None, *, stamps: bool = False, **props: object) -> Reader:
        return await self.post("/agent/default/run", self.input(thread, **props), stamps=stamps)

    async def connect(self, thread: str, *, stamps: bool = False) -> Reader:
        return await self.post("/agent/default/connect", self.input(thread), stamps=stamps)

    def __enter__(self) -> "Served":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()


async def wait_for_end(*readers: Reader, events: int) -> None:
    for reader in readers:
        await reader.done
        assert reader.events == events, (reader.events, events)


async def burst(server: Served, **props: object) -> float:
    began = time.perf_counter()
    await wait_for_end(await server.run(count=10_000, **props), events=10_000)
    return 10_000 / (time.perf_counter() - began)


async def fifty(server: Served) -> float:
    began = time.perf_counter()
    readers = [await server.run(count=4_000) for _ in range(50)]
    await wait_for_end(*readers, events=4_000)
    return 50 * 4_000 / (time.perf_counter() - began)


async def hundred_on_one(server: Served) -> float:
    """Return the deliveries per second of one run to 100 clients that connected before it."""
    first = await server.run(gated=True, count=100_000)
    thread = f"thread-{server._runs}"
    await first.begun
    readers = [first, *[await server.connect(thread) for _ in range(99)]]
    for reader in readers:
        await reader.begun
    began = time.perf_counter()
    await (await server.post("/agent/opener/run", server.input())).done
    await wait_for_end(*readers, events=100_000)
    return 100 * 100_000 / (time.perf_counter() - began)


async def hundred_bare(server: Served) -> float:
    """Return the same when nothing is shared: each client has its own stream."""
    began = time.perf_counter()
    readers = [await server.run(count=2_000) for _ in range(100)]
    await wait_for_end(*readers, events=2_000)
    return 100 * 2_000 / (time.perf_counter() - began)


async def measure_delays(server: Served, *, shared: bool) -> tuple[float, float]:
    """Return the delays, p50 and p99 in milliseconds, of 200 events/s to 200 clients."""
    count = 600
    if shared:
        first = await server.run(gated=True, count=count, rate=200, stamps=True)
        thread = f"thread-{server._runs}"
        await first.begun
        readers = [first, *[await server.connect(thread, stamps=True) for _ in range(199)]]
        for reader in readers:
            await reader.begun
        await (await server.post("/agent/opener/run", server.input())).done
    else:
        readers = [await server.run(count=count, rate=200, stamps=True) for _ in range(200)]
    await wait_for_end(*readers, events=count)
    delays = sorted(delay / 1e6 for reader in readers for delay in reader.delays or ())
    return statistics.median(delays), delays[len(delays) * 99 // 100]


async def connects(server: Served, thread: str, at_once: int) -> float:
    began = time.perf_counter()
    readers = [await server.connect(thread) for _ in range(at_once)]
    for reader in readers:
        await reader.done
    assert min(reader.bytes for reader in readers) > 3 * MIB
    return (time.perf_counter() - began) * 1000


def rows() -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        yield from _rows(Path(folder) / "threads.db", runner.run)


def _rows(path: Path, run: Callable[[Awaitable[object]], object]) -> Iterator[Row]:
    with Served("ours", str(path)) as ours, Served("bare") as bare:
        progress("served: a burst of 10,000 events to one client")
        rate = run(
            in_turn_async(
                {"ours": lambda: burst(ours), "bare": lambda: burst(bare), "joined": lambda: burst(bare, join=50)}
            )
        )
        yield _rate("burst of 10,000 events to one client", rate, "one record at a time", "bare", 100_000)
        yield _rate("burst of 10,000 events to one client", rate, "50 records joined", "joined", None)
        progress("served: 50 runs at once")
        rate = run(in_turn_async({"ours": lambda: fifty(ours), "bare": lambda: fifty(bare)}, rounds=3))
        yield _rate("50 runs at once, events in all", rate, "one record at a time", "bare", 100_000)
        progress("served: 100 clients on one run")
        sides = {"ours": lambda: hundred_on_one(ours), "bare": lambda: hundred_bare(bare)}
        rate = run(in_turn_async(sides, rounds=3))
        yield _rate("one unpaced run to 100 clients, deliveries", rate, "one stream per client", "bare", 500_000)
        progress("served: 200 clients at 200 events/s")
        delays = run(measure_delays(ours, shared=True))
        baseline = run(measure_delays(bare, shared=False))
        yield Row(
            "200 events/s to 200 clients, delay p50, p99",
            f"{delays[0]:.1f} ms, {delays[1]:.1f} ms",
            f"Starlette, one stream per client: {baseline[0]:.1f} ms, {baseline[1]:.1f} ms",
            f"{delays[0] / baseline[0]:.2f}x",
            "<= 5 ms, <= 25 ms",
            delays[0] <= 5 and delays[1] <= 25,
        )
        progress("served: connect to 1,000 runs")
        run(_fill(ours))
        one = run(in_turn_async({"ours": lambda: connects(ours, "long", 1)}))["ours"]
        yield Row("connect to 1,000 runs (3.6 MB) to the last byte", f"{one:.1f} ms", "-", "-", "<= 30 ms", one <= 30)
        twenty = run(in_turn_async({"ours": lambda: connects(ours, "long", 20)}, rounds=3))["ours"]
        yield Row("20 such connects at once", f"{twenty:.0f} ms", "-", "-", "<= 500 ms", twenty <= 500)
        peak, baseline_peak = ours.peak() / MIB, bare.peak() / MIB
        yield Row(
            "peak memory of the server after all this",
            f"{peak:.0f} MiB",
            f"Starlette: {baseline_peak:.0f} MiB",
            f"{peak / baseline_peak:.2f}x",
            "<= 100 MiB",
            peak <= 100,
        )


async def _fill(server: Served) -> None:
    """Make a thread of 1,000 runs of 3.6 kB, which compact to one delta each."""
    for _ in range(1000):
        await (await server.run("long", count=235)).done


def _rate(case: str, rate: dict[str, float], baseline: str, name: str, target: int | None) -> Row:
    return Row(
        case,
        f"{rate['ours']:,.0f}/s",
        f"Starlette, {baseline}: {rate[name]:,.0f}/s",
        f"{rate['ours'] / rate[name]:.1f}x",
        f">= {target:,}/s" if target is not None else "-",
        target is None or rate["ours"] >= target,
    )
