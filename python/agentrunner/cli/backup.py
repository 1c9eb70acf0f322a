"""`agentrunner backup`: copy a SQLite store into one file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from agentrunner._counts import format_count
from agentrunner.cli.store_location import Location, is_file, without_secrets
from agentrunner.cli.terminal import clean, console, fail, require_file, run
from agentrunner.stores.backends import find_backend
from agentrunner.stores.sqlite import SqliteStore
from agentrunner.stores.sqlite_files import describe_missing_log

if TYPE_CHECKING:
    from agentrunner.stores import Backup

SERVER_TOOLS = {"redis": "redis-cli BGSAVE or --rdb", "postgres": "pg_dump"}
"""Tool that backs up a server, by the name of its backend."""
INTERRUPTED_EXIT_CODE = 130


def backup(
    location: Location,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write.", show_default=False)],
    force: Annotated[bool, typer.Option("--force", help="Replace the file if it exists.")] = False,
) -> None:
    """Copy a SQLite store into one file, while servers use it.

    The copy is complete in itself, checked and on the disk before it appears under its name. To restore it, stop the
    servers, remove the store's -wal and -shm files, and put the copy in the store's place.
    """
    if not is_file(location):
        _refuse_server(location, file)
    require_file(Path(location))
    try:
        result = run(_back_up(location, file, force))
    except KeyboardInterrupt:
        fail("interrupted; nothing was written", INTERRUPTED_EXIT_CODE)
    amounts = (("thread", result.threads), ("run", result.runs), ("record", result.records))
    counts = ", ".join(format_count(number, noun) for noun, number in amounts)
    console().print(f"backed up {counts}, {decimal(result.bytes)} to {clean(str(file))}", soft_wrap=True)
    if result.missing_log is not None:
        typer.echo(f"agentrunner: {location} {describe_missing_log(result.missing_log)}", err=True)


async def _back_up(location: str, file: Path, force: bool) -> Backup:
    err = console(stderr=True)
    columns = TextColumn("copying"), BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("copying", total=None)

        def on_progress(written: int, total: int) -> None:
            progress.update(task, completed=written, total=total)

        return await SqliteStore(location).backup(file, overwrite=force, on_progress=on_progress)


def _refuse_server(location: str, file: Path) -> None:
    printable = without_secrets(location)
    try:
        backend = find_backend(location)
    except ValueError as error:
        fail(f"{printable}: {error}", 2)
    fail(
        f"{printable}: this backs up SQLite files; back up {backend.title} with {SERVER_TOOLS[backend.name]}, or copy "
        f"its threads and records to a SQLite file with `agentrunner copy URL {file}`",
        2,
    )
