"""One run of 50 events a second to 1,000 connections, of which 100 do not read."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import uvloop

from benches.common import Row, progress, run_input

READERS, IDLE = 1_000, 100
EVENTS_PER_SECOND, RUN_SECONDS = 50, 15
STALLED_SECONDS = 9
"""Seconds after which the server drops a client that does not read."""
WARM_UP_SECONDS, WINDOW_SECONDS = 4, 5
"""Seconds before, and of, the measurement; both together end before a client is dropped."""
ROUNDS = 3
STAMP = re.compile(rb'"(\d+)~')


class Measurement(NamedTuple):
    """What one round measured."""

    p50: float
    p99: float
    resident: float
    """Resident memory of the server in bytes."""
    seconds: float
    """Seconds until the server had dropped every client that does not read."""
    dropped: int
    descriptors: int
    """Descriptors that are left when all clients have gone."""
    busy: float
    """Processor seconds per second during the measurement."""


class Reader(asyncio.Protocol):
    """Posts a request and reads the response, noting each event's delay."""

    measuring = False

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.delays: list[int] = []
        self.begun = asyncio.get_running_loop().create_future()
        self.lost = asyncio.get_running_loop().create_future()
        self.over = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        if Reader.measuring:
            self.delays += [now - int(stamp) for stamp in STAMP.findall(data)]
        if not self.begun.done():
            self.begun.set_result(None)
        if data.endswith(b"0\r\n\r\n"):
            self.over = True
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set_result(None)


def request(verb: str, run: str, **props: object) -> bytes:
    agent = "opener" if run == "opener" else "default"
    body = json.dumps(
        run_input("opener" if run == "opener" else "thread", run) | {"forwardedProps": props, "protocolVersion": "1.0"}
    )
    head = f"POST /agent/{agent}/{verb} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n{body}".encode()


async def until(condition: Any) -> float:
    began = time.perf_counter()
    while not condition():
        await asyncio.sleep(0.01)
    return time.perf_counter() - began


async def measure(idle: int) -> Measurement:
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [sys.executable, "-m", "benches.anchors.idle", f"{folder}/runs.db", str(STALLED_SECONDS)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parent.parent,
        )
        proc = Path(f"/proc/{server.pid}")

        def descriptors() -> int:
            return sum(1 for _ in (proc / "fd").iterdir())

        def processor_seconds() -> float:
            ticks = (proc / "stat").read_text().rpartition(")")[2].split()[11:13]
            return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")

        try:
            assert server.stdout is not None
            port = int(server.stdout.readline())

            async def open_reader(body: bytes) -> Reader:
                _, reader = await loop.create_connection(lambda: Reader(body), "127.0.0.1", port)
                await reader.begun
                return reader

            # Connect once before counting: what the server opens at its first request stays open.
            (await open_reader(request("connect", "look"))).transport.close()
            await asyncio.sleep(0.1)
            before = descriptors()
            readers = [
                await open_reader(request("run", "run", rate=EVENTS_PER_SECOND, count=EVENTS_PER_SECOND * RUN_SECONDS))
            ]
            readers += [await open_reader(request("connect", "look")) for _ in range(READERS - IDLE - 1)]
            with contextlib.ExitStack() as sockets:
                for _ in range(idle):
                    sock = sockets.enter_context(socket.socket())
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    sock.connect(("127.0.0.1", port))
                    sock.sendall(request("connect", "look"))
                await (await open_reader(request("run", "opener"))).lost
                await asyncio.sleep(WARM_UP_SECONDS)
                Reader.measuring, worked = True, processor_seconds()
                await asyncio.sleep(WINDOW_SECONDS)
                Reader.measuring, worked = False, processor_seconds() - worked
                server.send_signal(signal.SIGUSR1)
                resident = int(await loop.run_in_executor(None, server.stdout.readline))
                connections = descriptors() - before
                seconds = await until(lambda: descriptors() - before <= len(readers))
                for reader in readers:
                    await reader.lost
                    assert reader.over
                await until(lambda: descriptors() <= before)
                delays = sorted(delay for reader in readers for delay in reader.delays)
                expected = WINDOW_SECONDS * EVENTS_PER_SECOND * len(readers)
                progress(f"  {len(delays) / expected:.2f} of the expected deliveries")
                return Measurement(
                    statistics.median(delays) / 1e6, delays[int(len(delays) * 0.99)] / 1e6, resident, seconds,
                    connections - len(readers), descriptors() - before, worked / WINDOW_SECONDS,
                )  # fmt: skip
        finally:
            server.terminate()
            server.wait()


def rows() -> Iterator[Row]:
    sides: dict[int, list[Measurement]] = {0: [], IDLE: []}
    for number in range(ROUNDS):
        for idle, measurements in sides.items():
            progress(f"idle: round {number + 1} of {ROUNDS}, {idle} of {READERS:,} do not read")
            measurements.append(uvloop.run(measure(idle)))
            progress(f"  {measurements[-1]}")
    with_them, without = sides[IDLE], sides[0]
    # The best round counts: other work on the machine can only make deliveries later.
    p99, alone = (min(one.p99 for one in side) for side in (with_them, without))
    idle, none = (statistics.median(one.resident for one in side) for side in (with_them, without))
    each = (idle - none) / IDLE
    busy, busy_alone = (statistics.median(one.busy for one in side) for side in (with_them, without))
    yield Row(
        f"{READERS:,} connections on one run at {EVENTS_PER_SECOND} events/s, {IDLE} not reading: "
        f"the others' p99, best of {ROUNDS}",
        f"{p99:,.1f} ms, {busy:.2f} of a core",
        f"without the idle ones: {alone:,.1f} ms, {busy_alone:.2f} of a core",
        f"{p99 - alone:+.1f} ms",
        "<= 20 ms apart",
        p99 - alone <= 20,
    )
    left = max(one.descriptors for one in with_them)
    yield Row(
        f"memory of a client that does not read; descriptors left when all {IDLE} are dropped",
        f"{each / 1024:,.0f} KiB; {left} descriptors",
        "-",
        "-",
        "<= 256 KiB; 0",
        each <= 256 * 1024 and left == 0 and all(one.dropped == IDLE for one in with_them),
    )
