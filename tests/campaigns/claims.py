"""Many processes that claim the same threads: exactly one wins each time."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from campaigns import Campaign, Outcome
from support.processes import process

if TYPE_CHECKING:
    from campaigns import Context
    from support.processes import Process

PROCESSES = 8
SIZES = (2, PROCESSES)
"""How many processes claim at once: two of them, then all."""
HOT = "hot"
"""The thread of every other round; the rounds between have a new thread each."""


class Campaigning:
    """The processes, and the outcome of their claims."""

    def __init__(self, context: Context, outcome: Outcome, processes: list[Process]) -> None:
        self.context = context
        self.outcome = outcome
        self.processes = processes
        self.milliseconds: dict[int, list[float]] = {size: [] for size in SIZES}
        self.newest_token = 0

    async def round(self, number: int, size: int) -> None:
        """Claim one thread in several processes at once, and release it in the winner."""
        thread = HOT if number % 2 else f"t{number}-{size}"
        claimants = self.context.random.sample(self.processes[:size], size)
        for n, each in enumerate(claimants):
            each.ask("claim", thread, f"r{number}-{size}-{n}")
        answers = [await each.answer() for each in claimants]
        self.milliseconds[size] += [float(answer[2]) for answer in answers]
        self.outcome.count("claims", size)
        winners = [each for each, answer in zip(claimants, answers, strict=True) if answer[0] == "won"]
        if sorted(answer[0] for answer in answers) != ["ThreadAlreadyRunning"] * (size - 1) + ["won"]:
            self.outcome.fail(f"round {number} of {size} processes on {thread}: {answers}")
        if thread == HOT:
            self.token(max(int(answer[1]) for answer in answers))
        for winner in winners:
            if (answer := await winner.request("finish")) != ["done"]:
                self.outcome.fail(
                    f"round {number} of {size} processes on {thread}: the winner could not let go: {answer}"
                )

    def token(self, token: int) -> None:
        if token <= self.newest_token:
            self.outcome.fail(f"token {token} of {HOT} is not newer than {self.newest_token}")
        self.newest_token = token

    async def race(self, size: int, count: int) -> None:
        """Claim and release one thread in all processes at full speed; two never hold it at once."""
        for n, each in enumerate(self.processes[:size]):
            each.ask("race", HOT, f"race-{size}-{n}", count)
        held = []
        for each in self.processes[:size]:
            while (answer := await each.answer())[0] == "held":
                held.append([int(word) for word in answer[1:]])
        self.outcome.count("claims", size * count)
        self.outcome.count("held in races", len(held))
        end = 0
        for token, since, until in sorted(held, key=lambda each: each[1]):
            if since < end:
                self.outcome.fail(
                    f"two processes held {HOT} at once: token {token} was issued before another was released"
                )
            self.token(token)
            end = until


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[int((len(values) - 1) * part)]


async def campaign(context: Context) -> Outcome:
    outcome = Outcome({"claims": 0, "held in races": 0})
    async with contextlib.AsyncExitStack() as stack:
        starting = [
            process("support.programs.peer", "claims", context.location, mutation=context.mutation)
            for _ in range(PROCESSES)
        ]
        processes = [await stack.enter_async_context(each) for each in starting]
        claiming = Campaigning(context, outcome, processes)
        for number in range(context.rounds):
            for size in SIZES:
                await claiming.round(number, size)
            context.tick()
        for size in SIZES:
            await claiming.race(size, max(10, context.rounds // 10))
        for each in processes:
            if await each.end():
                outcome.fail("a process ended with an error")
    for size, milliseconds in claiming.milliseconds.items():
        for part in (0.5, 0.99):
            outcome.figures[f"p{part * 100:.0f} ms, {size} processes:"] = percentile(milliseconds, part)
    return outcome


CAMPAIGN = Campaign(
    name="claims",
    promise="one winner",
    bar="exactly one winner per round, tokens only increase (and a claim's p99 ≤ 20 ms with 2 processes)",
    backends=("sqlite", "redis", "postgres"),
    small=30,
    full={"sqlite": 10_000, "redis": 10_000, "postgres": 10_000},
    run=lambda context: asyncio.run(campaign(context)),
    mutations={"claim_what_is_taken": "a claim refuses a thread that has a live run"},
)
