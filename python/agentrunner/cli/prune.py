"""`agentrunner prune`: remove old runs."""

import re
import time
from typing import Annotated

import typer

from agentrunner._counts import format_count
from agentrunner.cli.store_location import Location, open_existing
from agentrunner.cli.terminal import console, fail, run

RUNS_PER_STEP = 100
"""Most runs removed in one transaction, because other writers wait for it."""
SECONDS_PER_UNIT = {"s": 1, "min": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def prune(
    location: Location,
    max_age: Annotated[
        str | None, typer.Option(metavar="AGE", help="Remove runs that ended longer ago: 90min, 12h, 30d, 8w.")
    ] = None,
    max_runs: Annotated[int | None, typer.Option(min=1, help="Keep this many of each thread's newest runs.")] = None,
) -> None:
    """Remove each thread's oldest runs.

    A thread without any remaining run is removed too. Live runs are kept.
    """
    if max_age is None and max_runs is None:
        fail("choose what to remove: --max-age, --max-runs or both", 2)
    before = int((time.time() - _parse_age(max_age)) * 1000) if max_age is not None else None
    count = run(_prune(location, max_runs, before))
    console().print(f"removed {format_count(count, 'run')}")


async def _prune(location: str, max_runs: int | None, before: int | None) -> int:
    total = 0
    async with open_existing(location) as store:
        while count := await store.prune(max_runs, before, RUNS_PER_STEP):
            total += count
    return total


def _parse_age(age: str) -> float:
    """Return an age such as `30d` in seconds."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(s|min|h|d|w)", age)
    if match is None:
        fail(f"--max-age must be a number and one of {', '.join(SECONDS_PER_UNIT)}, such as 30d, not {age!r}", 2)
    return float(match[1]) * SECONDS_PER_UNIT[match[2]]
