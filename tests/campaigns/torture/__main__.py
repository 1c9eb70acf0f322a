"""The fault campaigns in full, and the report on them: `make torture`."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from campaigns import BACKENDS, Campaign, NotRun, Outcome, campaigns, places
from campaigns.torture import report
from support import backends

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from campaigns import Backend

console = Console()


def main() -> int:
    """Run the requested campaigns; return 1 if one of them failed."""
    known = campaigns()
    options = arguments([campaign.name for campaign in known])
    unheld = 0
    # The runners' log lines about the injected faults would break the progress bar.
    logging.disable()
    try:
        for campaign in known:
            for backend in campaign.backends:
                if campaign.name not in options.only or backend not in options.backend:
                    continue
                if missing := backends.missing(backend):
                    console.print(f"{campaign.name} on {backend} is not run: {missing}", style="yellow")
                    continue
                unheld += not run(campaign, backend, options.seed, options.scale)
    except KeyboardInterrupt:
        console.print("stopped; finished campaigns are kept", style="yellow")
    report.write(known)
    console.print(f"written: docs/{report.REPORT.name}")
    return min(unheld, 1)


def arguments(names: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same faults")
    parser.add_argument("--only", type=among(names), default=names, help=f"with commas between: {', '.join(names)}")
    parser.add_argument("--backend", type=among(BACKENDS), default=BACKENDS, help=", ".join(BACKENDS))
    parser.add_argument("--scale", type=float, default=1.0, help="1: the rounds of the full campaign")
    return parser.parse_args()


def among(known: Sequence[str]) -> Callable[[str], list[str]]:
    """Return a parser of names separated by commas."""

    def read(text: str) -> list[str]:
        if unknown := [name for name in text.split(",") if name not in known]:
            raise argparse.ArgumentTypeError(f"there is no {unknown[0]!r}, only {', '.join(known)}")
        return text.split(",")

    return read


def run(campaign: Campaign, backend: Backend, seed: int, scale: float) -> bool:
    """Run a campaign, store its results, and return whether its promise held."""
    rounds = max(1, round(campaign.rounds_in_full(backend) * scale))
    began = time.monotonic()
    with Progress(
        TextColumn(f"{campaign.name} on {backend}"), BarColumn(), MofNCompleteColumn(),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=console,
    ) as progress:  # fmt: skip
        task = progress.add_task("", total=rounds)
        with places.context(campaign, backend, rounds, seed, lambda: progress.advance(task)) as context:
            try:
                outcome = campaign.run(context)
            except NotRun as error:
                console.print(f"{campaign.name} on {backend} is not run: {error}", style="yellow")
                return True
            except Exception as error:  # noqa: BLE001 - after any error the promise is not shown to hold
                console.print_exception()
                outcome = Outcome()
                outcome.fail(f"the campaign broke off: {type(error).__name__}: {error}")
        # Failures are reported without the temporary folder, which is gone by then.
        outcome.failures = [each.replace(f"{context.folder}/", "") for each in outcome.failures]
    report.keep(campaign, backend, rounds, seed, outcome, time.monotonic() - began)
    style, verdict = ("bold red", f"NOT HELD, {outcome.failed} failures") if outcome.failed else ("green", "held")
    console.print(f"  {verdict}: {report.format_figures(outcome.figures)}", style=style, markup=False)
    for failure in outcome.failures:
        console.print(f"  {failure}", markup=False)
    return not outcome.failed


if __name__ == "__main__":
    sys.exit(main())
