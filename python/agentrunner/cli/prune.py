"""`agentrunner prune`."""

import re
import time
from typing import Annotated

import typer

from agentrunner.cli.common import console, fail, run
from agentrunner.cli.location import Location, looking_at

AT_ONCE = 100
"""Runs removed in one step: what is written meanwhile waits for it."""
SECONDS = {"s": 1, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def prune(
    location: Location,
    max_age: Annotated[
        str | None, typer.Option(metavar="AGE", help="Remove runs that ended longer ago: 90min, 12h, 30d, 8w.")
    ] = None,
    max_runs: Annotated[int | None, typer.Option(min=1, help="Keep only so many of a thread's newest runs.")] = None,
) -> None:
    """Remove the oldest runs of each thread; a thread without any is gone. Live runs stay."""
    if max_age is None and max_runs is None:
        fail("say what is to go: --max-age, --max-runs or both", 2)
    before = int((time.time() - _seconds(max_age)) * 1000) if max_age is not None else None
    removed = run(_prune(location, max_runs, before))
    console().print(f"removed {removed:,} runs")


async def _prune(location: str, max_runs: int | None, before: int | None) -> int:
    removed = 0
    async with looking_at(location) as store:
        while step := await store.prune(max_runs, before, AT_ONCE):
            removed += step
    return removed


def _seconds(age: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(s|min|h|d|w)", age)
    if found is None:
        fail(f"--max-age is a number and one of {', '.join(SECONDS)}, as in 30d, not {age!r}", 2)
    return float(found[1]) * SECONDS[found[2]]
