"""Clients that stop reading, and what they cost other readers and the server."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import uvloop

from campaigns import BACKENDS, Campaign, Context, Outcome
from support.http_clients import request, request_json, run_input
from support.leftovers import nothing_left
from support.servers import Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

RATE, SIZE = 20, 3000
"""The run's events per second, and bytes of each."""
SMALL_BUFFER = 4096
"""Bytes of the kernel's buffers: small, so that a client that does not read soon blocks the server."""
SEND_BUFFER = 16_384
FILLS = 2.5
"""Seconds until the run has filled the buffers of a client that does not read."""
EACH = 256 * 1024
"""Bytes of memory that a stalled client may cost."""
ONCE = 3
"""How many times its length a long run may cost a server, however many clients stall in it."""
BATCHES = 3
"""Batches of clients that stall in a long run, one after the other."""
HEADROOM = 2 << 20
"""Bytes by which a server's memory fluctuates."""
STAMP = re.compile(rb'"(\d+)~')


@dataclass(frozen=True)
class Size:
    clients: int
    stalled: int
    stalled_seconds: float
    """Seconds after which the server drops a client that does not read."""
    window: float
    """Seconds that deliveries are measured, before any client is dropped."""
    lengths: tuple[int, ...]
    """Lengths of long runs, in KiB: one of some slices, and one larger than a server should hold."""
    timed: bool
    """Whether delays must meet the bar: not while other tests run at the same time."""


FULL = Size(1000, 100, 30.0, 20.0, (400, 20_000), True)
SMALL = Size(60, 15, 1.0, 0.5, (8_000,), False)


class Reader(asyncio.Protocol):
    """Posts a request and reads the response, noting each event's delivery time."""

    def __init__(self, request_bytes: bytes) -> None:
        self._request = request_bytes
        self._last = b""
        self.delays: list[int] | None = None
        """Delivery times in nanoseconds, while they are measured."""
        self.frames = 0
        self.begun = asyncio.Event()
        self.lost = asyncio.Event()
        self.over = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self.delays is not None:
            now = time.monotonic_ns()
            self.delays += [now - int(stamp) for stamp in STAMP.findall(data)]
        self.frames += (self._last + data).count(b"\n\n")
        self._last = data[-1:]
        self.begun.set()
        if data.endswith(b"0\r\n\r\n"):
            self.over = True
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set()


@dataclass
class Crowd:
    """The clients of one server."""

    server: Server
    outcome: Outcome

    async def connect(self, thread: str) -> Reader:
        """Connect a client that reads."""
        return await self.post("/agent/default/connect", run_input(thread, "look"))

    async def post(self, path: str, body: dict[str, Any]) -> Reader:
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
            await loop.sock_connect(sock, ("127.0.0.1", self.server.port))
            _, reader = await loop.create_connection(lambda: Reader(request("POST", path, body)), sock=sock.dup())
        await reader.begun.wait()
        return reader

    async def connect_stalled(self, thread: str, count: int) -> list[Reader]:
        """Connect clients that read only the beginning."""
        readers = [await self.connect(thread) for _ in range(count)]
        for reader in readers:
            reader.transport.pause_reading()
        return readers

    async def resident(self) -> int:
        return (await self.server.figures())["resident"]

    async def wait_until_settled(self) -> int:
        """Wait until the server is idle, and return its memory."""
        before, now = -1, await self.resident()
        while abs(now - before) > 1 << 16:
            await asyncio.sleep(0.2)
            before, now = now, await self.resident()
        return now

    async def left(self, connections: int, seconds: float) -> float | None:
        """Wait for at most so many connections; return the seconds, or `None` if there are more."""
        began = time.monotonic()
        while (await self.server.figures())["connections"] > connections:
            if time.monotonic() - began > seconds:
                return None
            await asyncio.sleep(0.05)
        return time.monotonic() - began


async def delays(readers: list[Reader], seconds: float) -> list[float]:
    """Return the delivery times to these clients in milliseconds, sorted."""
    for reader in readers:
        reader.delays = []
    await asyncio.sleep(seconds)
    milliseconds = sorted(delay / 1e6 for reader in readers for delay in reader.delays or ())
    for reader in readers:
        reader.delays = None
    return milliseconds


def p99(delays: list[float]) -> float:
    return delays[int(len(delays) * 0.99)]


async def beside_a_live_run(crowd: Crowd, context: Context, size: Size) -> None:
    """Measure delays and memory with all clients reading, and with some stalled."""
    outcome = crowd.outcome
    body = run_input("t", "r", forwardedProps={"rate": RATE, "size": SIZE})
    steady = [await crowd.post("/agent/ticking/run", body)]
    steady += [await crowd.connect("t") for _ in range(size.clients - size.stalled - 1)]
    with_them, without, each, dropped = [], [], [], []
    for _ in range(context.rounds):
        others = [await crowd.connect("t") for _ in range(size.stalled)]
        await asyncio.sleep(size.window / 2)
        without.append(p99(await delays(steady, size.window)))
        memory = await crowd.resident()
        began = time.monotonic()
        for reader in others:
            reader.transport.pause_reading()
        await asyncio.sleep(FILLS)
        with_them.append(p99(await delays(steady, size.window)))
        each.append((await crowd.resident() - memory) / len(others))
        if await crowd.left(len(steady), 2 * size.stalled_seconds + 4) is None:
            outcome.fail(f"stalled clients are still connected after {time.monotonic() - began:.0f} s")
        dropped.append(time.monotonic() - began)
        for reader in others:
            reader.transport.abort()
        context.tick()
    # The round least disturbed: other load on the machine only makes deliveries later.
    slower, alone = min(with_them), min(without)
    outcome.figures |= {
        "clients": size.clients, "stalled": size.stalled,
        "p99 of the other clients, ms": round(slower, 2), "p99 without stalled clients, ms": round(alone, 2),
        "KiB per stalled client": round(max(each) / 1024), "dropped after, s": round(max(dropped), 1),
    }  # fmt: skip
    if slower > (max(alone * 1.1, alone + 20) if size.timed else size.stalled_seconds * 1000):
        outcome.fail(f"the others' p99 is {slower:.1f} ms, without stalled clients {alone:.1f} ms")
    if max(each) > EACH:
        outcome.fail(f"a stalled client costs {max(each) / 1024:.0f} KiB")
    _, stopped = await request_json(crowd.server.port, "POST", "/agent/default/stop/t", {})
    assert stopped["stopped"], stopped
    for reader in steady:
        await reader.lost.wait()
    # A custom event is one frame, compacted or not: all readers get the same number.
    frames = {reader.frames for reader in steady}
    if len(frames) != 1 or not all(reader.over for reader in steady):
        outcome.fail(f"clients that read got {frames} frames; cut off: {sum(not reader.over for reader in steady)}")
    outcome.figures["events of the run"] = max(frames)


async def on_a_long_run(crowd: Crowd, kibibytes: int, count: int, patience: float) -> None:
    """Stall clients in the middle of a long run's past events, during the run and after it."""
    outcome, thread = crowd.outcome, f"long-{kibibytes}"
    props = {"kibibytes": kibibytes, "wait": True}
    first = await crowd.post("/agent/bulky/run", run_input(thread, f"{thread}-run", forwardedProps=props))
    await until(lambda: first.frames > kibibytes // 10 * 12)

    async def measure(what: str) -> None:
        memory = [await crowd.wait_until_settled()]
        readers: list[Reader] = []
        for _ in range(BATCHES):
            readers += await crowd.connect_stalled(thread, count)
            memory.append(await crowd.wait_until_settled())
        # The batch that loaded the compacted run also paid for it; the cheapest batch paid for readers only.
        each = max(0, min(after - before for before, after in itertools.pairwise(memory))) / count
        once = max(0, memory[-1] - memory[0] - BATCHES * count * each)
        for reader in readers:
            reader.transport.abort()
        for name, size in (("each stalled", each), ("once", once)):
            outcome.figures[f"KiB {name} in {what} run of {kibibytes} KiB"] = round(size / 1024)
        if each > EACH:
            outcome.fail(f"a client that stalls in {what} run of {kibibytes} KiB costs {each / 1024:.0f} KiB")
        # On a busy machine more worker threads keep memory that they have freed.
        if once > ONCE * min(patience, 2) * 1024 * kibibytes + HEADROOM:
            outcome.fail(f"{what} run of {kibibytes} KiB costs {once / 1024:.0f} KiB for those that stall in it")

    await measure("a live")
    await request_json(crowd.server.port, "POST", f"/agent/default/stop/{thread}", {})
    await first.lost.wait()
    await measure("a stored")


async def until(condition: Callable[[], Any]) -> None:
    while not condition():
        await asyncio.sleep(0.02)


async def campaign(context: Context, size: Size) -> Outcome:
    outcome = Outcome()

    @contextlib.asynccontextmanager
    async def crowd(stalled: float) -> AsyncIterator[Crowd]:
        log = context.folder / "log"
        options = {"stalled": stalled, "send_buffer": SEND_BUFFER}
        async with Server(context.location, log, mutation=context.mutation, **options) as server:
            clients = Crowd(server, outcome)
            # What the first request opens stays open.
            (await clients.connect("nobody")).transport.close()
            async with nothing_left(server, outcome):
                yield clients

    async with crowd(size.stalled_seconds) as beside:
        await beside_a_live_run(beside, context, size)
    # No client is dropped while memory is measured.
    async with crowd(60) as on:
        for kibibytes in size.lengths:
            await on_a_long_run(on, kibibytes, size.stalled, context.patience)
    return outcome


CAMPAIGN = Campaign(
    name="slow_clients",
    promise="slow readers do no harm",
    bar="the others' p99 grows by at most 10 % or 20 ms; at most 256 KiB each; dropped at the limit; "
    "the run is unaffected",
    backends=BACKENDS,
    small=1,
    full={"sqlite": 3, "redis": 3, "postgres": 3},
    run=lambda context: uvloop.run(campaign(context, FULL if context.rounds > 1 else SMALL)),
    mutations={
        "let_stalled_clients_stay": "a client that reads nothing is dropped",
        "queue_for_each_reader": "a slow reader costs a cursor, not a queue",
    },
)
