"""`agentrunner doctor`: check a store, and repair it."""

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from agentrunner.cli.store_location import Location, is_file, open_existing, open_read_only, store_from_location
from agentrunner.cli.terminal import clean, console, run, shorten
from agentrunner.runner import AgentRunner
from agentrunner.stores import StoreReport
from agentrunner.stores.sqlite_files import describe_missing_log

LISTED_PROBLEMS = 5
"""Most runs or threads listed by id for one kind of problem."""
INTEGRITY_CHARACTERS = 300
"""Most characters shown of the store's own integrity report."""


def doctor(
    location: Location,
    fix: Annotated[bool, typer.Option("--fix", help="Repair what can be repaired.")] = False,
) -> None:
    """Check a whole store; the exit code is 1 if it has problems."""
    report, report_after = run(_examine(location, fix))
    out = console()
    out.print(_table(report, is_file(location)))
    if report_after is not None:
        out.print("\nafter the repair:", style="bold")
        out.print(_table(report_after, is_file(location)))
    latest = report_after or report
    if latest.is_sound:
        out.print("\nno problems found")
        return
    if latest.can_be_fixed and not fix:
        out.print("\nproblems found; --fix repairs what can be repaired")
    else:
        out.print("\nproblems found that --fix cannot repair")
    raise typer.Exit(1)


async def _examine(location: str, fix: bool) -> tuple[StoreReport, StoreReport | None]:
    """Return the report, and a second one if something was repaired."""
    async with open_read_only(location) as store:
        report = await store.inspect(fix=False)
    if not (fix and report.can_be_fixed):
        return report, None
    async with open_existing(location) as store:
        await store.inspect(fix=True)
    if report.dead:
        # Opening a runner on the store ends the runs of processes that are gone.
        async with AgentRunner(store_from_location(location)):
            pass
    async with open_read_only(location) as store:
        return report, await store.inspect(fix=False)


def _table(report: StoreReport, file: bool) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(overflow="fold")
    is_intact = report.integrity == "ok"
    table.add_row(
        "integrity",
        Text("ok" if is_intact else "bad", style="green" if is_intact else "bold red"),
        "" if is_intact else Text(_damage(report, file)),
    )
    table.add_row("threads", f"{report.threads:,}", "")
    table.add_row("runs", f"{report.runs:,}", "")
    table.add_row("records", f"{report.records:,}", "")
    table.add_row(
        "foreign runs", f"{report.foreign_runs:,}", "written by another runner" if report.foreign_runs else ""
    )
    if report.missing_log is not None:
        loss = f"the file {describe_missing_log(report.missing_log)}; restore a backup, or accept the loss with --fix"
        table.add_row("missing log", Text("1", style="bold red"), Text(loss))
    for name, ids, remedy in (
        ("corrupt rows", _run_ids(report.corrupt), "cannot be read, so readers skip them; they cannot be repaired"),
        ("orphans", _run_ids(report.orphans), "their parent run is missing; --fix links them to the run before"),
        ("stuck threads", report.stuck, "marked as running, but no process runs them; --fix frees them"),
        ("dead runs", _run_ids(report.dead), "their process is gone; --fix ends them and keeps their events"),
    ):
        if not ids:
            table.add_row(name, Text("0", style="green"), "")
            continue
        more = ["…"] if len(ids) > LISTED_PROBLEMS else []
        shown_ids = ", ".join([clean(each) for each in ids[:LISTED_PROBLEMS]] + more)
        table.add_row(name, Text(f"{len(ids):,}", style="bold red"), Text(f"{remedy}: {shown_ids}"))
    return table


def _damage(report: StoreReport, file: bool) -> str:
    advice = "restore a backup" + (", or save what is left with `.recover` in the sqlite3 shell" if file else "")
    return f"{shorten(report.integrity, INTEGRITY_CHARACTERS)}\n{advice}"


def _run_ids(pairs: list[tuple[str, str]]) -> list[str]:
    return [f"{thread_id}/{run_id}" for thread_id, run_id in pairs]
