"""`agentrunner doctor`."""

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from agentrunner.cli.common import clean, console, run, shorten
from agentrunner.cli.location import Location, is_file, looking_at, store_of
from agentrunner.runner import AgentRunner
from agentrunner.stores import Report

NAMED = 5
"""How many of the runs or threads with a fault are named."""


def doctor(
    location: Location,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended.")] = False,
) -> None:
    """Look a whole store over; exit code 1 while something is wrong with it."""
    report, after = run(_examine(location, fix))
    out = console()
    out.print(_table(report, is_file(location)))
    if after is not None:
        out.print("\nafter mending:", style="bold")
        out.print(_table(after, is_file(location)))
    now = after or report
    if now.sound:
        out.print("\nnothing is wrong")
        return
    if now.mendable and not fix:
        out.print("\nsomething is wrong; --fix mends what can be mended")
    else:
        out.print("\nsomething is wrong that cannot be mended here")
    raise typer.Exit(1)


async def _examine(location: str, fix: bool) -> tuple[Report, Report | None]:
    async with looking_at(location) as store:
        report = await store.inspect(fix=False)
        if not (fix and report.mendable):
            return report, None
        await store.inspect(fix=True)
    if report.dead:
        # Opening a runner is what ends the runs of processes that are gone.
        async with AgentRunner(store_of(location)):
            pass
    async with looking_at(location) as store:
        return report, await store.inspect(fix=False)


def _table(report: Report, file: bool) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(overflow="fold")
    good = report.integrity == "ok"
    table.add_row(
        "integrity",
        Text("ok" if good else "bad", style="green" if good else "bold red"),
        ""
        if good
        else Text(
            shorten(report.integrity, 300)
            + "\nrestore a backup"
            + (", or save what is left with `.recover`" if file else "")
        ),
    )
    table.add_row("threads", f"{report.threads:,}", "")
    table.add_row("runs", f"{report.runs:,}", "")
    table.add_row("records", f"{report.records:,}", "")
    table.add_row(
        "foreign runs", f"{report.foreign_runs:,}", "written by another runner" if report.foreign_runs else ""
    )
    for name, found, remedy in (
        (
            "corrupt rows",
            [_run(*pair) for pair in report.corrupt],
            "cannot be read and are left out; nothing mends them",
        ),
        (
            "orphans",
            [_run(*pair) for pair in report.orphans],
            "their parent is missing; --fix links them to the run before",
        ),
        ("stuck threads", report.stuck, "marked as running by nobody; --fix frees them"),
        ("dead runs", [_run(*pair) for pair in report.dead], "their process is gone; --fix ends and keeps them"),
    ):
        if not found:
            table.add_row(name, Text("0", style="green"), "")
            continue
        named = ", ".join(clean(what) for what in found[:NAMED]) + (", …" if len(found) > NAMED else "")
        table.add_row(name, Text(f"{len(found):,}", style="bold red"), Text(f"{remedy}: {named}"))
    return table


def _run(thread_id: str, run_id: str) -> str:
    return f"{thread_id}/{run_id}"
