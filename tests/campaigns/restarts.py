"""The store's server killed and restarted under live runs of two processes, which resume."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from campaigns import Campaign, Outcome
from support.databases import database
from support.pair import pair

if TYPE_CHECKING:
    from campaigns import Context
    from support.databases import Database
    from support.pair import Pair


async def restart(context: Context, outcome: Outcome, server: Database, both: Pair, number: int) -> None:
    """Kill the server during runs and restart it; runs requested meanwhile begin then."""
    both.start(f"t{number}-before")
    await asyncio.sleep(context.random.uniform(0.2, 2.0))
    server.kill()
    killed_at = time.monotonic()
    begun = both.start(f"t{number}-away")
    await asyncio.sleep(context.random.uniform(0, 0.5))
    await server.start()
    ready_at = time.monotonic()
    outcome.count("restarts")
    outcome.figures["longest without a server, s:"] = max(
        outcome.figures["longest without a server, s:"], round(ready_at - killed_at, 2)
    )
    await both.wait_for_starts(begun, ready_at, f"restart {number}")


async def campaign(context: Context) -> Outcome:
    outcome = Outcome({"restarts": 0, "longest without a server, s:": 0.0})
    forgetful = context.mutation == "server_keeps_nothing"
    options = {"keeps": False} if forgetful else {}
    async with database(context.backend, **options) as server:
        async with pair(context, outcome, server.location, None if forgetful else context.mutation) as both:
            for number in range(context.rounds):
                await restart(context, outcome, server, both, number)
                context.tick()
        await both.check(server.location)
    return outcome


CAMPAIGN = Campaign(
    name="restarts",
    promise="a server's restart costs nothing",
    bar="every run completes; 0 lost, 0 gaps, 0 doubled, 0 stuck",
    backends=("redis", "postgres"),
    small=2,
    full={"redis": 40, "postgres": 40},
    run=lambda context: asyncio.run(campaign(context)),
    mutations={
        "give_up_at_once": "requests are retried for more than 50 ms",
        "server_keeps_nothing": "the server writes to its disk",
    },
)
