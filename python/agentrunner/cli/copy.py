"""`agentrunner copy`: copy a store."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from agentrunner._counts import choose_form, format_count
from agentrunner.cli.record_copy import compare_records, copy_records, threads_with_records
from agentrunner.cli.store_location import LOCATION_FORMS, open_or_create, open_read_only, without_secrets
from agentrunner.cli.terminal import console, fail, run, shorten
from agentrunner.cli.thread_copy import CopyRefused, compare_thread, copy_thread, thread_ids
from agentrunner.errors import InvalidInput
from agentrunner.running.inputs import check_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agentrunner.stores import Store, StoredRun

LINE_CHARACTERS = 300
"""Most characters printed in a line about one thread."""
INTERRUPTED_EXIT_CODE = 130
SCOPE_BYTES = 1024
"""Most bytes of a scope, as `AgentRunner` allows by default."""


def copy(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help=f"The store to copy from: {LOCATION_FORMS}.", show_default=False)
    ],
    destination: Annotated[
        str,
        typer.Argument(metavar="DST", help="The store to copy to; created if it does not exist.", show_default=False),
    ],
    verify_only: Annotated[
        bool, typer.Option("--verify-only", help="Only compare the two stores, without copying.")
    ] = False,
    scope: Annotated[
        str | None, typer.Option(help="The scope of all copied threads; by default each keeps its own.")
    ] = None,
) -> None:
    """Copy every thread and record to another store, then compare the two stores.

    An interrupted copy can be repeated: it resumes where it stopped. A live run is not copied, but the runs before it
    are. A thread that has diverged at the destination is left unchanged. The exit code is 1 if any thread differs.
    """
    try:
        if scope is not None:
            check_scope(scope, SCOPE_BYTES)
    except InvalidInput as error:
        fail(f"--scope: {error}", 2)
    try:
        lines, differences = run(_copy(source, destination, verify_only, scope))
    except KeyboardInterrupt:
        fail("interrupted; repeat the command to resume the copy", INTERRUPTED_EXIT_CODE)
    out = console()
    for line in lines:
        out.print(line)
    for thread_id, difference in differences.items():
        name = thread_id or "the records of no thread"
        out.print(shorten(f"differs: {name}: {difference}", LINE_CHARACTERS), soft_wrap=True)
    if differences:
        raise typer.Exit(1)


async def _copy(
    source: str, destination: str, verify_only: bool, scope: str | None
) -> tuple[list[str], dict[str, str]]:
    """Return the lines to print, and the difference of each thread that differs, by id."""
    async with (
        open_read_only(source) as origin,
        (open_read_only if verify_only else open_or_create)(destination) as target,
    ):
        threads = await thread_ids(origin)
        without_runs = await threads_with_records(origin, threads)
        lines: list[str] = []
        differences: dict[str, str] = {}
        if not verify_only:
            copied: Counter[str] = Counter()
            with _progress("copying", [*threads, *without_runs], copied) as (each_thread, on_page):
                for thread_id in each_thread:
                    try:
                        await copy_thread(origin, target, thread_id, on_page, scope)
                        copied["records"] += await copy_records(origin, target, thread_id)
                    except CopyRefused as refusal:
                        differences[thread_id] = str(refusal)
            stores = f"from {without_secrets(source)} to {without_secrets(destination)}"
            lines.append(f"copied {_counts(copied)}, {decimal(copied['bytes'])}, {stores}")
        have_runs, equal = set(threads), Counter[str]()
        unread = set()
        with _progress("comparing", [*threads, *without_runs], Counter()) as (each_thread, on_page):
            for thread_id in each_thread:
                comparison = await compare_thread(origin, target, thread_id, on_page, scope)
                records, differing = await compare_records(origin, target, thread_id)
                if comparison.unread:
                    unread.add(thread_id)
                if comparison.difference is None and differing:
                    verb = choose_form(differing, "differs", "differ")
                    comparison.difference = f"{differing:,} of its records {verb}"
                if comparison.difference is not None:
                    differences.setdefault(thread_id, comparison.difference)
                else:
                    equal += Counter(threads=thread_id in have_runs, runs=comparison.runs, records=records)
        verb = choose_form(equal["threads"], "is", "are")
        compared = format_count(len(threads), "thread")
        lines.append(f"compared {compared}: {equal['threads']:,} with {_counts(equal)} {verb} equal")
        lines += [shorten(line, LINE_CHARACTERS) for line in await _skipped_runs(origin, unread)]
    return lines, differences


def _counts(counts: Counter[str]) -> str:
    records = f" and {format_count(counts['records'], 'record')}" if counts["records"] else ""
    return format_count(counts["runs"], "run") + records


async def _skipped_runs(origin: Store, unread: set[str]) -> list[str]:
    """Return a line for each run that was not copied: live runs, and runs that cannot be read."""
    lines = [f"live, not copied: {claim.thread_id}/{claim.run_id}" for claim, _ in await origin.live()]
    if unread:
        corrupt = (await origin.inspect(fix=False)).corrupt
        lines += [f"cannot be read, not copied: {thread}/{run}" for thread, run in corrupt if thread in unread]
    return lines


@contextmanager
def _progress(
    title: str, threads: list[str], counts: Counter[str]
) -> Iterator[tuple[Iterator[str], Callable[[list[StoredRun]], None]]]:
    """Show a progress bar; yield the threads and a callback for each page of runs."""
    err = console(stderr=True)
    columns = (
        TextColumn(title), BarColumn(), MofNCompleteColumn(), TextColumn("threads  {task.fields[size]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(title, total=len(threads), size="")

        def each_thread() -> Iterator[str]:
            for thread_id in threads:
                yield thread_id
                progress.advance(task)

        def on_page(page: list[StoredRun]) -> None:
            counts["runs"] += len(page)
            counts["bytes"] += sum(len(run.events) + len(run.input) for run in page)
            progress.update(task, size=decimal(counts["bytes"]))

        yield each_thread(), on_page
