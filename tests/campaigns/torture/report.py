"""The campaigns' results as JSON files, and docs/torture.md with its plot made from them."""

from __future__ import annotations

import datetime
import json
import os
import platform
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from agentrunner.stores.backends import BACKENDS
from support import backends

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from campaigns import Backend, Campaign, Outcome

from support.paths import ROOT

DOCS = ROOT / "docs"
KEPT = DOCS / "torture"
REPORT = DOCS / "torture.md"
PLOT = DOCS / "torture-recovery.svg"
POINTS = 101
"""Number of recovery times that a result keeps: the first, the last, and evenly between."""

HEAD = """\
# Torture

How the promises hold up: each campaign injects a fault many times and counts the broken promises. `make torture` runs
all campaigns and writes this page. `make test` runs each campaign with few rounds, and again with a guard dropped on
purpose, which it must notice: a test that cannot fail proves nothing. A seed repeats the faults, but not their timing.
"""


def keep(campaign: Campaign, backend: Backend, rounds: int, seed: int, outcome: Outcome, seconds: float) -> None:
    """Store a campaign's result, in place of its earlier one."""
    full = campaign.rounds_in_full(backend)
    scale = "" if rounds == full else f" --scale {rounds / full:.4g}"
    recovery = sorted(round(each, 4) for each in outcome.recovery_seconds)
    last = len(recovery) - 1
    result = {
        "campaign": campaign.name,
        "backend": backend,
        "command": f'make torture TORTURE="--seed {seed} --only {campaign.name} --backend {backend}{scale}"',
        "seed": seed,
        "rounds": rounds,
        "figures": outcome.figures,
        "failed": outcome.failed,
        "failures": outcome.failures,
        "seconds": round(seconds, 1),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "versions": versions(backend),
        "cores": os.cpu_count(),
        "recovered": len(recovery),
        "recovery_seconds": [recovery[round(last * n / (POINTS - 1))] for n in range(POINTS)]
        if last >= POINTS
        else recovery,
    }
    KEPT.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1, ensure_ascii=False)
    (KEPT / f"{campaign.name}-{backend}.json").write_text(text + "\n", encoding="utf-8")


def versions(backend: Backend) -> list[str]:
    """Return the versions of what the campaign ran on."""
    system = f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}"
    return [system, f"Python {platform.python_version()}", server(backend)]


def server(backend: Backend) -> str:
    """Return the backend's name and version."""
    (title,) = (row.title for row in BACKENDS if row.name == backend)
    return f"{title} {backends.UNDER_TEST[backend].read_version()}"


def write(known: Iterable[Campaign]) -> None:
    """Write the page and the plot from all stored results."""
    known = list(known)
    results = {
        (campaign.name, backend): json.loads(file.read_text(encoding="utf-8"))
        for campaign in known
        for backend in campaign.backends
        if (file := KEPT / f"{campaign.name}-{backend}.json").exists()
    }
    recovered = [each for each in results.values() if each["recovery_seconds"]]
    parts = [HEAD, _results(known, results), _failures(results), _recovery(recovered), _runs(results), _guards(known)]
    DOCS.mkdir(exist_ok=True)
    REPORT.write_text("\n".join(part for part in parts if part), encoding="utf-8")
    if recovered and find_spec("matplotlib"):
        from campaigns.torture import plot

        plot.draw(recovered, PLOT)


def format_figures(figures: dict[str, Any]) -> str:
    """Return the figures as one line of text."""
    return "; ".join(f"{name} {_number(value)}" for name, value in figures.items())


def _number(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return f"{value:,}" if isinstance(value, int) else f"{value:,.2f}"


def _results(known: list[Campaign], results: dict[tuple[str, str], Any]) -> str:
    rows = []
    for campaign in known:
        for backend in campaign.backends:
            # What is the same for every backend is written once.
            first = backend == campaign.backends[0]
            row = [campaign.promise, campaign.bar, campaign.name] if first else ["", "", ""]
            if each := results.get((campaign.name, backend)):
                row += [backend, _number(each["rounds"]), format_figures(each["figures"])]
                row += [_verdict(campaign, each), _number(round(each["seconds"]))]
            else:
                row += [backend, "", "", "not run", ""]
            rows.append(row)
    columns = ("promise", "bar", "campaign", "backend", "rounds", "figures", "held?", "seconds")
    return "## What held\n\n" + _table(columns, rows)


def _verdict(campaign: Campaign, each: dict[str, Any]) -> str:
    if each["failed"]:
        return f"**does not hold**: {_number(each['failed'])} failures"
    full = campaign.rounds_in_full(each["backend"])
    return "holds" if each["rounds"] >= full else f"holds, in {_number(each['rounds'])} of {_number(full)} rounds"


def _failures(results: dict[tuple[str, str], Any]) -> str:
    parts = []
    for each in results.values():
        if each["failures"]:
            parts.append(f"\n### {each['campaign']} on {each['backend']}: the first of {_number(each['failed'])}\n")
            parts += [f"- {' '.join(failure.split())}" for failure in each["failures"]]
    return "\n".join(["## What did not hold", *parts, ""]) if parts else ""


def _recovery(recovered: list[dict[str, Any]]) -> str:
    if not recovered:
        return ""
    rows = []
    for each in recovered:
        times = each["recovery_seconds"]
        row = [each["campaign"], each["backend"], _number(each["recovered"])]
        row += [f"{times[round((len(times) - 1) * part)]:.3f}" for part in (0.5, 0.99, 1)]
        rows.append(row)
    columns = ("campaign", "backend", "faults", "median", "99 %", "longest")
    return (
        "## How long it takes\n\nSeconds from a fault's end until work resumes.\n\n"
        f"![Recovery times by campaign and backend]({PLOT.name})\n\n{_table(columns, rows)}"
    )


def _runs(results: dict[tuple[str, str], Any]) -> str:
    rows = [
        [f"`{each['command']}`", each["date"], ", ".join([*each["versions"], f"{each['cores']} cores"])]
        for each in results.values()
    ]
    return "## How it was run\n\n" + _table(("command", "date", "on"), rows) if rows else ""


def _guards(known: list[Campaign]) -> str:
    rows = [[each.name, f"`{name}`", guard] for each in known for name, guard in each.mutations.items()]
    return (
        "## Guards dropped on purpose\n\nEach campaign notices them: `tests/campaigns/test_campaigns.py`.\n\n"
        + _table(("campaign", "mutation", "dropped guard"), rows)
    )


def _table(columns: Sequence[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)
