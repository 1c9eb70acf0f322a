"""One run of 50 events a second to 1,000 connections, 100 of which do not read; clients and server a process each."""

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
RATE, SECONDS = 50, 15
STALLED = 9
WARM, WINDOW = 4, 5
"""Seconds: until all is in its stride, and then that deliveries are measured, all of them before any client is cut."""
ROUNDS = 3
STAMP = re.compile(rb'"(\d+)~')


class Measured(NamedTuple):
    p50: float
    p99: float
    resident: float
    """Of the server, in bytes."""
    seconds: float
    """Until it had let all the idle ones go; of those that stalled."""
    dropped: int
    descriptors: int
    """That are left when all clients have gone."""
    busy: float
    """Processor seconds a second, while deliveries were measured."""


class Reader(asyncio.Protocol):
    """Posts a request and reads the answer, noting how long each event was on its way."""

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


async def measure(idle: int) -> Measured:
    loop = asyncio.get_running_loop()
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [sys.executable, "-m", "benches.anchors.idle", f"{folder}/runs.db", str(STALLED)],
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

            async def connected(asked: bytes) -> Reader:
                _, reader = await loop.create_connection(lambda: Reader(asked), "127.0.0.1", port)
                await reader.begun
                return reader

            # One that is there and gone: what is opened at the first request stays open.
            (await connected(request("connect", "look"))).transport.close()
            await asyncio.sleep(0.1)
            before = descriptors()
            readers = [await connected(request("run", "run", rate=RATE, count=RATE * SECONDS))]
            readers += [await connected(request("connect", "look")) for _ in range(READERS - IDLE - 1)]
            with contextlib.ExitStack() as sockets:
                for _ in range(idle):
                    sock = sockets.enter_context(socket.socket())
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    sock.connect(("127.0.0.1", port))
                    sock.sendall(request("connect", "look"))
                await (await connected(request("run", "opener"))).lost
                await asyncio.sleep(WARM)
                Reader.measuring, worked = True, processor_seconds()
                await asyncio.sleep(WINDOW)
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
                progress(f"  {len(delays) / (WINDOW * RATE * len(readers)):.2f} of the deliveries in their time")
                return Measured(
                    statistics.median(delays) / 1e6, delays[int(len(delays) * 0.99)] / 1e6, resident, seconds,
                    connections - len(readers), descriptors() - before, worked / WINDOW,
                )  # fmt: skip
        finally:
            server.terminate()
            server.wait()


def rows() -> Iterator[Row]:
    sides: dict[int, list[Measured]] = {0: [], IDLE: []}
    for number in range(ROUNDS):
        for idle, found in sides.items():
            progress(f"idle: round {number + 1} of {ROUNDS}, {idle} of {READERS:,} do not read")
            found.append(uvloop.run(measure(idle)))
            progress(f"  {found[-1]}")
    with_them, without = sides[IDLE], sides[0]
    # Of the round least disturbed: whatever else runs on the machine only makes them later.
    p99, alone = (min(one.p99 for one in found) for found in (with_them, without))
    idle, none = (statistics.median(one.resident for one in found) for found in (with_them, without))
    each = (idle - none) / IDLE
    busy, bored = (statistics.median(one.busy for one in found) for found in (with_them, without))
    yield Row(
        f"{READERS:,} connections on one run at {RATE} events/s, {IDLE} not reading: the others' p99, best of {ROUNDS}",
        f"{p99:,.1f} ms, {busy:.2f} of a core",
        f"without the idle ones: {alone:,.1f} ms, {bored:.2f} of a core",
        f"{p99 - alone:+.1f} ms",
        "<= 20 ms apart",
        p99 - alone <= 20,
    )
    left = max(one.descriptors for one in with_them)
    yield Row(
        f"memory of one that does not read; left of all {IDLE} when they are dropped",
        f"{each / 1024:,.0f} KiB; {left} descriptors",
        "-",
        "-",
        "<= 256 KiB; 0",
        each <= 256 * 1024 and left == 0 and all(one.dropped == IDLE for one in with_them),
    )
