"""The primary lost under live runs of two processes, and its standby promoted."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from campaigns import Campaign, Outcome
from support.pair import pair
from support.replication import replication

if TYPE_CHECKING:
    from campaigns import Context
    from support.pair import Pair
    from support.replication import Replication


async def fail_over(context: Context, outcome: Outcome, servers: Replication, both: Pair, number: int) -> None:
    """Lose the primary during runs, promote its standby, and attach a new one."""
    both.start(f"t{number}-before")
    await asyncio.sleep(context.random.uniform(0.2, 2.0))
    if context.random.random() < 0.5:
        servers.primary.kill()
        outcome.count("primaries killed")
    else:
        await servers.primary.stop()
        outcome.count("primaries stopped")
    lost_at = time.monotonic()
    begun = both.start(f"t{number}-away")
    await asyncio.sleep(context.random.uniform(0, 0.5))
    await servers.promote()
    ready_at = time.monotonic()
    outcome.count("promotions")
    outcome.figures["longest without a primary, s:"] = max(
        outcome.figures["longest without a primary, s:"], round(ready_at - lost_at, 2)
    )
    # From here on, the first server that the address names may be a standby.
    await servers.attach_standby()
    await both.wait_for_starts(begun, ready_at, f"promotion {number}")


async def campaign(context: Context) -> Outcome:
    outcome = Outcome({"promotions": 0, "longest without a primary, s:": 0.0})
    is_behind = context.mutation == "standby_is_behind"
    async with replication(is_behind=is_behind) as servers:
        async with pair(context, outcome, servers.location, None if is_behind else context.mutation) as both:
            for number in range(context.rounds):
                await fail_over(context, outcome, servers, both, number)
                context.tick()
        await both.check(servers.location)
    return outcome


CAMPAIGN = Campaign(
    name="promotion",
    promise="a promoted standby costs nothing",
    bar="with synchronous replication, every run completes; 0 lost, 0 gaps, 0 doubled, 0 stuck",
    backends=("postgres",),
    small=1,
    full={"postgres": 40},
    run=lambda context: asyncio.run(campaign(context)),
    mutations={
        "stay_on_a_standby": "a session on a standby is closed",
        "standby_is_behind": "a commit waits until the standby has it",
    },
)
