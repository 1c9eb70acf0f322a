"""Lost responses of the store's server: the store retries, and each change happens once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from campaigns import Campaign, Outcome
from support.pair import pair
from support.proxy import proxy

if TYPE_CHECKING:
    from campaigns import Context

RUNS = 4
"""Minimum number of live runs at a time."""
MOST = 80
"""Maximum number of responses between two cuts."""
PATIENCE = 5.0


async def campaign(context: Context) -> Outcome:
    outcome = Outcome({"cuts": 0, "responses lost": 0})
    async with proxy(context.location) as way:
        async with pair(context, outcome, way.location, context.mutation) as both:
            for number in range(context.rounds):
                if both.live < RUNS:
                    both.start(f"t{number}")
                try:
                    async with asyncio.timeout(PATIENCE * context.patience):
                        # Let work continue between two cuts: this is not about a server that never responds.
                        await way.hand_on(context.random.randint(1, MOST))
                        if context.random.random() < 0.25:
                            way.cut()
                        else:
                            await way.lose_answers()
                except TimeoutError:
                    outcome.fail(f"cut {number}: no more requests arrive")
                    break
                outcome.count("cuts")
                context.tick()
        outcome.figures["responses lost"] = way.lost
    await both.check(context.location)
    return outcome


CAMPAIGN = Campaign(
    name="answers",
    promise="a lost response costs nothing",
    bar="every run completes; 0 lost, 0 gaps, 0 doubled, 0 stuck",
    backends=("redis", "postgres"),
    small=12,
    full={"redis": 1000, "postgres": 1000},
    run=lambda context: asyncio.run(campaign(context)),
    mutations={
        "do_twice_what_is_asked_again": "the server recognises an append that is sent a second time",
        "give_up_at_once": "requests are retried for more than 50 ms",
    },
)
