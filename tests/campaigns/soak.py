"""A long mixed load on two servers, one restarting: the other's resources stay flat."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

from agentrunner.stores.urls import store_from_url
from campaigns import BACKENDS, Campaign, Context, Outcome, start
from support.balancer import Balancer
from support.campaign_clients import Client
from support.http_clients import request, run_input
from support.leftovers import nothing_left
from support.retrying_clients import GivenUp, Visitor
from support.servers import Server

if TYPE_CHECKING:
    import random

    from agentrunner.stores import Store

CLIENTS = 8
ACTS = 12
"""Actions of a client on a thread before it compares and removes the thread."""
WRITERS = 1
"""Number of clients that write much."""
SAMPLES = 120
"""Number of samples of the server's figures, evenly spaced."""
RESTARTS = 15
SHOWN = 24
"""Number of samples in the report."""
MIB = 1 << 20
GROWTH = {"resident": 5 * MIB, "tasks": 30, "descriptors": 15}
"""The allowed difference between the medians of the second and the last quarter, or 5 %."""
WARM = 60
"""Seconds after which a server has all the memory it needs; a shorter soak may grow thrice as much."""
WAL = 48 * MIB
"""Maximum bytes of SQLite's log: it is checkpointed at 16 MiB."""
ARCHIVE = {"kibibytes": 8000}
ARCHIVED = 4
"""Number of runs in the slow reader's thread: more bytes than SQLite's log may have."""
HOLD = "hold_a_read_transaction"
"""The mutation that another process performs, not a server."""
SIP = 4096
"""Bytes that the slow reader takes at a time."""


async def visit(port: int, name: str, outcome: Outcome, dice: random.Random, store: Store, until: float) -> None:
    """Use, compare and remove one thread after the other."""
    writes = int(name) < WRITERS
    try:
        for number in itertools.count():
            client = Client(port, f"soak-{name}-{number}", outcome, dice)
            for _ in range(ACTS):
                await (client.say_much() if writes else client.act())
                if time.monotonic() > until:
                    return
            await client.check(store)
            await client.ask("DELETE", f"/threads/{client.visitor.thread}", {})
            outcome.count("threads compared and removed")
    except GivenUp as error:
        outcome.fail(str(error))


async def archive(server: Server, outcome: Outcome) -> None:
    """Make a long thread."""
    visitor = Visitor(server.port, "archive", outcome)
    for number in range(ARCHIVED):
        await visitor.run("bulky", f"archive-{number}", forwardedProps=ARCHIVE)


async def stay(server: Server, outcome: Outcome) -> None:
    """Read the long thread too slowly to end, but fast enough that the server keeps it."""
    loop = asyncio.get_running_loop()
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SIP)
        await loop.sock_connect(sock, ("127.0.0.1", server.port))
        await loop.sock_sendall(sock, request("POST", "/agent/default/connect", run_input("archive", "look")))
        while taken := await loop.sock_recv(sock, SIP):
            outcome.count("bytes read by the slow reader", len(taken))
            await asyncio.sleep(1)
    outcome.fail("the slow reader was dropped")


async def restart(server: Server, balancer: Balancer, outcome: Outcome, seconds: float) -> None:
    """Restart a server at intervals."""
    while True:
        await asyncio.sleep(seconds)
        await server.end()
        balancer.ports.remove(server.port)
        await server.start()
        balancer.ports.append(server.port)
        outcome.count("restarts")


async def watch(server: Server, location: str, context: Context, until: float) -> dict[str, list[int]]:
    """Sample the server's figures and the size of SQLite's log at intervals."""
    log = Path(f"{location}-wal")
    series: dict[str, list[int]] = {"resident": [], "tasks": [], "descriptors": [], "log": []}
    every = (until - time.monotonic()) / SAMPLES
    ticked, began = 0, time.monotonic()
    while time.monotonic() < until:
        await asyncio.sleep(every)
        held = await server.figures() | {"log": log.stat().st_size if log.exists() else 0}
        for what, values in series.items():
            values.append(held[what])
        while ticked < min(time.monotonic() - began, context.rounds):
            ticked += 1
            context.tick()
    return series


def judge(series: dict[str, list[int]], outcome: Outcome, seconds: float) -> None:
    """Compare the second quarter with the last."""
    for what, most in GROWTH.items():
        values = series[what]
        quarter = len(values) // 4
        second, last = statistics.median(values[quarter : 2 * quarter]), statistics.median(values[-quarter:])
        unit, name = (MIB, f"{what} MiB") if what == "resident" else (1, what)
        outcome.figures[f"{name}, second and last quarter"] = f"{second / unit:.4g} {last / unit:.4g}"
        outcome.figures[f"{name} in time"] = format_values(values, unit)
        if last - second > max(most if seconds > WARM else 3 * most, second * 0.05):
            outcome.fail(f"{what} have grown from {second} to {last}")


def judge_log(sizes: list[int], outcome: Outcome) -> None:
    """Check the size of SQLite's log."""
    outcome.figures["largest log, MiB"] = round(max(sizes) / MIB, 1)
    outcome.figures["log MiB in time"] = format_values(sizes, MIB)
    if max(sizes) > WAL:
        outcome.fail(f"SQLite's log has {max(sizes) / MIB:.0f} MiB")


def format_values(values: list[int], unit: int) -> str:
    """Format some of the values, evenly spaced."""
    return " ".join(f"{value / unit:.3g}" for value in values[:: max(1, len(values) // SHOWN)])


async def campaign(context: Context) -> Outcome:
    outcome = Outcome()
    options = {"shutdown": 10.0, "lease_ttl": 10.0}
    mutation = context.mutation if context.mutation != HOLD else None
    servers = [Server(context.location, context.folder / f"log{n}", mutation=mutation, **options) for n in "12"]
    store = store_from_url(context.location)
    async with Balancer() as balancer, contextlib.AsyncExitStack() as stack:
        for server in servers:
            await stack.enter_async_context(server)
            balancer.ports.append(server.port)
        await store.open()
        stack.push_async_callback(store.aclose)
        if context.mutation == HOLD:
            holder = start("campaigns.soak", context.location)
            stack.callback(holder.wait)
            stack.callback(holder.kill)
        steady, restarted = servers
        await archive(steady, outcome)
        async with nothing_left(steady, outcome):
            until = time.monotonic() + context.rounds
            beside = [
                asyncio.create_task(stay(steady, outcome)),
                asyncio.create_task(restart(restarted, balancer, outcome, context.rounds / RESTARTS)),
            ]
            clients = [
                asyncio.create_task(visit(balancer.port, str(number), outcome, context.random, store, until))
                for number in range(CLIENTS)
            ]
            series = await watch(steady, context.location, context, until)
            await asyncio.gather(*clients)
            for task in beside:
                task.cancel()
            for result in await asyncio.gather(*beside, return_exceptions=True):
                if isinstance(result, Exception):
                    outcome.fail(f"{result!r}")
        judge(series, outcome, context.rounds)
        if context.backend == "sqlite":
            judge_log(series["log"], outcome)
    return outcome


def hold(location: str) -> None:
    """Hold a read transaction on the file, in a process that has no other SQLite."""
    import sqlite3

    connection = sqlite3.connect(location, isolation_level=None)
    connection.execute("BEGIN")
    connection.execute("SELECT count(*) FROM live_runs").fetchall()
    time.sleep(3600)


CAMPAIGN = Campaign(
    name="soak",
    promise="memory and log stay flat",
    bar="the medians of the second and the last quarter are at most 5 % or 5 MiB apart; SQLite's log at most 48 MiB",
    backends=BACKENDS,
    small=3,
    full={"sqlite": 1800, "redis": 600, "postgres": 600},
    run=lambda context: asyncio.run(campaign(context)),
    mutations={
        "leave_a_task_with_each_stream": "the tasks of a stream end with it",
        HOLD: "no read transaction stays open while a client reads",
    },
)

if __name__ == "__main__":
    import sys

    hold(sys.argv[1])
