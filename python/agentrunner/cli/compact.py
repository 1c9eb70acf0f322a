"""`agentrunner compact`: compact a recording."""

import sys
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.table import Table

from agentrunner import events
from agentrunner.cli.terminal import console, fail, report_errors, require_file
from agentrunner.errors import InvalidEvent

PROGRESS_FILE_BYTES = 8 << 20
"""Size in bytes from which reading a file shows a progress bar."""


def compact(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="The recorded events, as JSON lines; - reads stdin.", show_default=False),
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Write the compacted events to this file; - writes to stdout.")
    ] = None,
) -> None:
    """Compact recorded events, and print how much smaller they become.

    The compacted events replay to the same messages and state as the recorded ones.
    """
    with report_errors():
        if str(file) == "-":
            lines = _read_lines(sys.stdin.buffer, 0)
        else:
            require_file(file)
            with file.open("rb") as source:
                lines = _read_lines(source, file.stat().st_size)
        try:
            compacted_lines = [bytes(event) for event in events.compact(line for _, line in lines)]
        except InvalidEvent as error:
            _fail_at_invalid_line(file, lines, error)
        if out is not None:
            data = b"".join(line + b"\n" for line in compacted_lines)
            if str(out) == "-":
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            else:
                out.write_bytes(data)
    _print_sizes([line for _, line in lines], compacted_lines)


def _read_lines(source: BinaryIO, size: int) -> list[tuple[int, bytes]]:
    """Return the lines that are not blank, each with its number."""
    lines = []
    columns = TextColumn("reading"), BarColumn(), DownloadColumn()
    is_small = size < PROGRESS_FILE_BYTES
    with Progress(*columns, console=console(stderr=True), transient=True, disable=is_small) as progress:
        task = progress.add_task("reading", total=size)
        for number, line in enumerate(source, 1):
            if text := line.strip():
                lines.append((number, text))
            progress.advance(task, len(line))
    return lines


def _fail_at_invalid_line(file: Path, lines: list[tuple[int, bytes]], error: InvalidEvent) -> None:
    """Exit with the number of the invalid line, which the error about the file lacks."""
    for number, line in lines:
        try:
            events.compact([line])
        except InvalidEvent as line_error:
            fail(f"{file}, line {number}: {line_error}")
    raise error


def _print_sizes(before: list[bytes], after: list[bytes]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column("")
    for name in ("before", "after", "ratio"):
        table.add_column(name, justify="right")
    for name, old, new in (
        ("events", len(before), len(after)),
        ("bytes", sum(map(len, before)), sum(map(len, after))),
    ):
        table.add_row(name, f"{old:,}", f"{new:,}", f"{old / new:.1f} x" if new else "")
    console(stderr=True).print(table)
