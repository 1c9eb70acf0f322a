"""Runs that grow past their limits, or past what the store takes."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from agentrunner import AgentRunner
from agentrunner.errors import ThreadAlreadyRunning
from agentrunner.running.commits import Commits
from agentrunner.stores.urls import store_from_url
from campaigns import Campaign, Outcome
from support.agents import Gate, agent_with
from support.events import text_message
from support.inputs import make_input

if TYPE_CHECKING:
    import random

    from campaigns import Context

LIMITS = {"max_state_bytes": 100_000, "max_run_bytes": 200_000}
FREE_SECONDS = 5.0
"""Seconds after which the thread of a run that has ended must be free."""


def growing_state(dice: random.Random) -> list[dict[str, Any]]:
    snapshot = {"type": "STATE_SNAPSHOT", "snapshot": {"text": "x" * dice.randrange(1000, 40_000)}}
    copies = [{"op": "copy", "from": "", "path": f"/copy{number}"} for number in range(70)]
    return [snapshot, *({"type": "STATE_DELTA", "delta": [copy]} for copy in copies)]


def growing_text(dice: random.Random) -> list[dict[str, Any]]:
    size = dice.randrange(1000, 20_000)
    return text_message("long", *["x" * size] * (LIMITS["max_run_bytes"] // size + 2))


async def play(context: Context, outcome: Outcome) -> None:
    async with AgentRunner(store_from_url(context.location), **LIMITS) as runner:  # type: ignore[arg-type]
        store = await runner.open()
        max_run_bytes = store.max_run_bytes
        for number in range(context.rounds):
            thread_id = f"t{number}"
            kind = number % 3
            before = text_message("shown", "before")
            store.max_run_bytes = max_run_bytes
            if kind == 2:
                gate = Gate([*before, *text_message("m", "x" * context.random.randrange(6000, 60_000))])
                stream = await runner.run(gate.run, make_input(thread_id, f"{thread_id}-1"))
                await gate.reached.wait()
                store.max_run_bytes = 5000
                gate.open()
            else:
                events = (growing_state, growing_text)[kind](context.random)
                stream = await runner.run(agent_with(*before, *events), make_input(thread_id, f"{thread_id}-1"))
            async for _ in stream:
                pass
            await _look(runner, outcome, thread_id, ("STATE_TOO_LARGE", "RUN_TOO_LARGE", "RUN_TOO_LARGE")[kind], kind)
            store.max_run_bytes = max_run_bytes
            await _run_again(runner, outcome, thread_id)
            context.tick()


async def _look(runner: AgentRunner, outcome: Outcome, thread_id: str, code: str, kind: int) -> None:
    events = [event.to_dict() for event in await runner.threads.events(thread_id)]
    outcome.count("runs ended")
    if not events or events[-1].get("code") != code:
        outcome.fail(f"{thread_id}: the stored run does not end with {code}")
    if kind != 2 and not any(event.get("messageId") == "shown" for event in events):
        outcome.fail(f"{thread_id}: what was shown before is lost")


async def _run_again(runner: AgentRunner, outcome: Outcome, thread_id: str) -> None:
    deadline = time.monotonic() + FREE_SECONDS
    while True:
        try:
            async for _ in runner.run(agent_with(), make_input(thread_id, f"{thread_id}-2")):
                pass
        except Exception as error:  # noqa: BLE001 - any error means that the thread is not free
            if time.monotonic() > deadline or not isinstance(error, ThreadAlreadyRunning):
                outcome.fail(f"{thread_id}: the thread is not free: {error}")
                return
            await asyncio.sleep(0.05)
        else:
            outcome.count("threads free")
            return


def run(context: Context) -> Outcome:
    outcome = Outcome({"runs ended": 0, "threads free": 0})
    if context.mutation is None:
        asyncio.run(play(context, outcome))
    else:
        # The run stays as large as it is, so the store refuses it again and again.
        with patch.object(Commits, "drop_content", lambda *_: None):
            asyncio.run(play(context, outcome))
    return outcome


CAMPAIGN = Campaign(
    name="oversized",
    promise="oversized runs",
    bar="each run ends with its typed code and keeps what was shown; each thread is free for the next run",
    backends=("sqlite", "redis", "postgres"),
    small=6,
    full={"sqlite": 300, "redis": 300, "postgres": 300},
    run=run,
    mutations={"content_is_kept": "a run that the store refuses is stored without its content"},
)
