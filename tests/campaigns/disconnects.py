"""Clients that disconnect at any byte: runs complete, and the server frees everything."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from typing import TYPE_CHECKING

from agentrunner.stores.urls import store_from_url
from campaigns import BACKENDS, Campaign, Context, Outcome
from support.http_clients import CutOff, request, run_input, send_request
from support.leftovers import PATIENCE, nothing_left
from support.servers import Server
from support.thread_log import ThreadLog

if TYPE_CHECKING:
    from agentrunner.stores import Store

AT_ONCE = 20
TURNS = 5
"""Turns of a run, of 12 events each."""
EVENTS = 2 + TURNS * 12 + 1
ANSWER = 9000
"""About how many bytes a run's response has."""
WAYS = ("reset", "closed", "half-closed")
RESET = struct.pack("ii", 1, 0)
"""Linger for no time: closing sends a reset and discards unsent bytes."""


class Leaver:
    """A client that leaves after so many bytes of its request and of its response."""

    def __init__(self, port: int, way: str) -> None:
        self._port = port
        self._way = way

    async def post(self, data: bytes, at: int) -> None:
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, ("127.0.0.1", self._port))
            await loop.sock_sendall(sock, data[:at])
            left, came = at - len(data), b""
            while left > 0 and not came.endswith(b"0\r\n\r\n") and (came := await loop.sock_recv(sock, left)):
                left -= len(came)
            if self._way == "reset":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            elif self._way == "half-closed":
                sock.shutdown(socket.SHUT_WR)
                # It sends nothing more, but still reads.
                with contextlib.suppress(ConnectionError):
                    while await loop.sock_recv(sock, 1 << 16):
                        pass


async def leave(context: Context, server: Server, outcome: Outcome, number: int) -> None:
    """Start or join a run and leave; retry if the run did not begin, as clients do."""
    dice, thread, way = context.random, f"t{number}", WAYS[number % len(WAYS)]
    body = run_input(thread, f"{thread}-run", forwardedProps={"turns": TURNS, "pause": 0.001})
    starting = request("POST", "/agent/default/run", body)
    # From the first byte of the request to the last of the response; a third within the request.
    last = len(starting) + (ANSWER if number % 9 >= 3 else 0)
    await Leaver(server.port, way).post(starting, dice.randrange(1, last))
    outcome.count(f"{way} while starting a run")
    async with send_request(server.port, "POST", "/agent/default/run", body) as answer:
        if answer.status == 200:
            # The run did not begin: the request was incomplete.
            outcome.count("runs requested again")
        elif (await answer.json())["code"] not in ("agent_run_exists", "agent_thread_locked"):
            outcome.fail(f"{thread}: {answer.status}")
    joining = request("POST", "/agent/default/connect", run_input(thread, "look"))
    await Leaver(server.port, way).post(joining, dice.randrange(1, len(joining) + ANSWER))
    outcome.count(f"{way} while joining a run")
    context.tick()


async def read(server: Server, thread: str) -> None:
    """Run the agent for a client that stays until the end."""
    body = run_input(thread, f"{thread}-run", forwardedProps={"turns": TURNS})
    async with send_request(server.port, "POST", "/agent/default/run", body) as answer:
        assert [frame async for frame in answer.frames()]


async def look(store: Store, outcome: Outcome, threads: int) -> None:
    """Wait until all runs have ended, then read what is stored."""
    began = time.monotonic()
    while (live := await store.live()) and time.monotonic() - began < PATIENCE:
        await asyncio.sleep(0.1)
    if live:
        outcome.fail(f"{len(live)} runs have not ended")
        return
    for number in range(threads):
        log = await ThreadLog.read(store, f"t{number}")
        if len(log.runs) == 1 and len(log.frames) == EVENTS and b"RUN_FINISHED" in log.frames[-1]:
            outcome.count("runs complete")
        else:
            outcome.fail(f"t{number}: {len(log.runs)} runs, {len(log.frames)} events of {EVENTS}")


async def campaign(context: Context) -> Outcome:
    outcome = Outcome()
    store = store_from_url(context.location)
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with turns:
            try:
                await leave(context, server, outcome, number)
            except (OSError, CutOff) as error:
                outcome.fail(f"t{number}: {error!r}")

    log = context.folder / "log"
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(Server(context.location, log, mutation=context.mutation))
        await store.open()
        stack.push_async_callback(store.aclose)
        # What the first requests open, such as database connections, stays open.
        await asyncio.gather(*(read(server, f"before{number}") for number in range(AT_ONCE)))
        async with nothing_left(server, outcome):
            await asyncio.gather(*(one(number) for number in range(context.rounds)))
            await look(store, outcome, context.rounds)
    for line in log.read_text(encoding="utf-8").splitlines():
        if " ERROR " in line or "Traceback" in line:
            outcome.fail(f"the server's log: {line}")
    return outcome


CAMPAIGN = Campaign(
    name="disconnects",
    promise="disconnects do no harm",
    bar="every run completes; no task, connection or descriptor is left",
    backends=BACKENDS,
    small=45,
    full={"sqlite": 1000, "redis": 1000, "postgres": 1000},
    run=lambda context: asyncio.run(campaign(context)),
    mutations={
        "leave_a_task_with_each_stream": "the tasks of a stream end with it",
        "end_runs_with_their_clients": "a run continues even if no client reads",
    },
)
