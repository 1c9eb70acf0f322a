"""`agentrunner copy`."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from agentrunner.cli.common import console, fail, run, shorten
from agentrunner.cli.copying import Refused, compare_thread, copy_thread, thread_ids
from agentrunner.cli.copying_records import compare_records, copy_records, threads_of_records
from agentrunner.cli.location import PLACE, looking_at, opened, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agentrunner.stores import Store, StoredRun

WIDTH = 300
"""Characters of a line about one thread."""


def copy(
    source: Annotated[str, typer.Argument(metavar="SRC", help=f"Where the threads are: {PLACE}.", show_default=False)],
    destination: Annotated[
        str, typer.Argument(metavar="DST", help="Where they are to be; made if it is not there.", show_default=False)
    ],
    verify_only: Annotated[bool, typer.Option("--verify-only", help="Only compare what is in both.")] = False,
) -> None:
    """Copy all threads, and records, to another store, then compare both; done again, it goes on where it was cut off.

    Of a thread with a live run, the runs before it are copied. A thread that has gone its own way at the destination is
    left alone. Exit code 1 if a thread differs in the end.
    """
    try:
        said, differing = run(_copy(source, destination, verify_only))
    except KeyboardInterrupt:
        fail("interrupted; what is copied is kept, the same command goes on from there", 130)
    out = console()
    for line in said:
        out.print(line)
    for thread_id, why in differing.items():
        out.print(shorten(f"differs: {thread_id or 'what is of no thread'}: {why}", WIDTH), soft_wrap=True)
    if differing:
        raise typer.Exit(1)


async def _copy(source: str, destination: str, verify_only: bool) -> tuple[list[str], dict[str, str]]:
    """Give what is to be said, and each thread that differs, with why."""
    async with looking_at(source) as origin, (looking_at if verify_only else opened)(destination) as target:
        threads = await thread_ids(origin)
        # What has no run, or is of no thread.
        loose = await threads_of_records(origin, threads)
        said: list[str] = []
        differing: dict[str, str] = {}
        if not verify_only:
            copied: Counter[str] = Counter()
            with _progress("copying", [*threads, *loose], copied) as (each, on_page):
                for thread_id in each:
                    try:
                        await copy_thread(origin, target, thread_id, on_page)
                        copied["records"] += await copy_records(origin, target, thread_id)
                    except Refused as refused:
                        differing[thread_id] = str(refused)
            where = f"from {shown(source)} to {shown(destination)}"
            said.append(f"copied {_counted(copied)}, {decimal(copied['bytes'])}, {where}")
        known, equal = set(threads), Counter[str]()
        unread = set()
        with _progress("comparing", [*threads, *loose], Counter()) as (each, on_page):
            for thread_id in each:
                compared = await compare_thread(origin, target, thread_id, on_page)
                records, differ = await compare_records(origin, target, thread_id)
                if compared.unread:
                    unread.add(thread_id)
                if compared.difference is None and differ:
                    compared.difference = f"{differ} of its records differ"
                if compared.difference is not None:
                    differing.setdefault(thread_id, compared.difference)
                else:
                    equal += Counter(threads=thread_id in known, runs=compared.runs, records=records)
        said.append(f"compared {len(threads):,} threads: {equal['threads']:,} with {_counted(equal)} are equal")
        said += [shorten(line, WIDTH) for line in await _left_out(origin, unread)]
    return said, differing


def _counted(found: Counter[str]) -> str:
    records = f" and {found['records']:,} records" if found["records"] else ""
    return f"{found['runs']:,} runs{records}"


async def _left_out(origin: Store, unread: set[str]) -> list[str]:
    """Name the runs that could not be copied: those that are live, and those nobody can read."""
    lines = [f"live, not copied: {claim.thread_id}/{claim.run_id}" for claim, _ in await origin.live()]
    if unread:
        corrupt = (await origin.inspect(fix=False)).corrupt
        lines += [f"cannot be read, left out: {thread}/{run}" for thread, run in corrupt if thread in unread]
    return lines


@contextmanager
def _progress(
    what: str, threads: list[str], done: Counter[str]
) -> Iterator[tuple[Iterator[str], Callable[[list[StoredRun]], None]]]:
    """Show how far it is: give the threads one by one, and what is to be told of each page."""
    err = console(stderr=True)
    columns = (
        TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("threads  {task.fields[size]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(what, total=len(threads), size="")

        def each() -> Iterator[str]:
            for thread_id in threads:
                yield thread_id
                progress.advance(task)

        def on_page(page: list[StoredRun]) -> None:
            done["runs"] += len(page)
            done["bytes"] += sum(len(run.events) + len(run.input) for run in page)
            progress.update(task, size=decimal(done["bytes"]))

        yield each(), on_page
