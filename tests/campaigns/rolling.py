"""Several servers behind one address, restarted in turn and killed, under load."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agentrunner.stores.urls import store_from_url
from campaigns import BACKENDS, Campaign, Context, Outcome
from support.balancer import Balancer
from support.campaign_clients import Client
from support.retrying_clients import GivenUp
from support.servers import Server

if TYPE_CHECKING:
    from support.retrying_clients import Reading

SERVERS = 3
CLIENTS = 12
OPTIONS = {"shutdown": 10.0, "lease_ttl": 10.0, "resume_window": 3600.0}
"""Seconds a server that is told to end gives its runs: far more than the longest needs."""
BETWEEN = 0.5
"""Seconds between two restarts."""
BUSY = 4
"""Connections of a server that certainly has a run."""
LEASE = 12.0
"""Seconds in which a killed server's runs must end on another: the lease and two more."""


@dataclass
class Site:
    """The servers, their address, and their history."""

    context: Context
    outcome: Outcome
    balancer: Balancer
    servers: list[Server] = field(default_factory=list)
    started: int = 0
    open: bool = True
    """Whether clients still start runs."""
    kills: bool = False
    """Whether servers may now be killed."""

    async def start(self) -> None:
        """Start one more server."""
        self.started += 1
        log = self.context.folder / f"log{self.started}"
        server = await Server(self.context.location, log, mutation=self.context.mutation, **OPTIONS).start()
        self.servers.append(server)
        self.balancer.ports.append(server.port)

    async def restart(self) -> None:
        """Tell the oldest server to end while clients use it, and start another."""
        server = await self._busy()
        if status := await server.end():
            self.outcome.fail(f"a server ended with status {status} at shutdown")
        self.balancer.ports.remove(server.port)
        await self.start()

    async def kill(self) -> None:
        """Kill the oldest server, and start another a while later."""
        server = await self._busy()
        await server.kill()
        self.balancer.ports.remove(server.port)
        await asyncio.sleep(BETWEEN)
        await self.start()

    async def _busy(self) -> Server:
        """Remove the oldest server at a moment when it has something to lose."""
        server = self.servers.pop(0)
        while (await server.figures())["connections"] < BUSY:
            await asyncio.sleep(0.01)
        return server

    async def close(self) -> None:
        for server in self.servers:
            await server.kill()


class Demanding(Client):
    """A client that accepts no run cut short, unless servers are killed."""

    def __init__(self, site: Site, thread: str) -> None:
        super().__init__(site.balancer.port, thread, site.outcome, site.context.random)
        self.acts = 0
        self.works = False
        self._site = site

    async def work(self) -> None:
        """Act until the site closes."""
        self.works = True
        try:
            while self._site.open:
                await self.act()
                self.acts += 1
        except GivenUp as error:
            self.outcome.fail(str(error))
        finally:
            self.works = False

    def note_end(self, run: str, reading: Reading) -> None:
        super().note_end(run, reading)
        if self._site.kills:
            return
        if self.ends[run] != "RUN_FINISHED":
            self.outcome.fail(f"{run}: {reading.end}, although its server had time to let it end")
        if reading.cuts:
            self.outcome.fail(f"{run}: its stream was cut off by a server that was shutting down")


async def campaign(context: Context) -> Outcome:
    outcome = Outcome()
    async with Balancer() as balancer, contextlib.AsyncExitStack() as stack:
        site = Site(context, outcome, balancer)
        stack.push_async_callback(site.close)
        for _ in range(SERVERS):
            await site.start()
        clients = [Demanding(site, f"c{number}") for number in range(CLIENTS)]
        working = [asyncio.create_task(client.work()) for client in clients]
        for _ in range(context.rounds):
            await asyncio.sleep(BETWEEN)
            await site.restart()
            outcome.count("restarts")
            context.tick()
        # What began before the last restart must end before any server is killed.
        done = [client.acts for client in clients]
        while any(client.acts == acts for client, acts in zip(clients, done, strict=True) if client.works):
            await asyncio.sleep(0.05)
        site.kills = True
        for _ in range(max(1, context.rounds // 4)):
            await asyncio.sleep(BETWEEN)
            await site.kill()
            outcome.count("kills")
        site.open = False
        await asyncio.gather(*working)
        store = store_from_url(context.location)
        await store.open()
        stack.push_async_callback(store.aclose)
        for client in clients:
            await client.check(store)
    if (slowest := max(outcome.recovery_seconds, default=0)) > LEASE:
        outcome.fail(f"a killed server's run ended on another after {slowest:.1f} s")
    return outcome


CAMPAIGN = Campaign(
    name="rolling",
    promise="many servers, one address",
    bar="a restart cuts no stream and interrupts no run; after a kill the other servers have all events shown",
    backends=BACKENDS,
    small=1,
    full={"sqlite": 20, "redis": 20, "postgres": 20},
    run=lambda context: asyncio.run(campaign(context)),
    mutations={
        "end_without_draining": "a server lets its runs end at shutdown, and their readers see the end",
        "forget_cursors": "a reader that reconnects resumes after its cursor",
    },
)
