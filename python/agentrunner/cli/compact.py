"""`agentrunner compact`."""

import sys
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn
from rich.table import Table

from agentrunner import events
from agentrunner.cli.common import console, fail, reported, require
from agentrunner.errors import InvalidEvent

LONG = 8 << 20
"""Bytes from which on a progress bar is worth its place."""


def compact(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Events as JSON lines; - for stdin.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Where the shorter stream goes; - for stdout.")
    ] = None,
) -> None:
    """Compact recorded events to a shorter stream that replays to the same, and say what that saves."""
    with reported():
        if str(file) == "-":
            lines = _lines(sys.stdin.buffer, 0)
        else:
            require(file)
            with file.open("rb") as source:
                lines = _lines(source, file.stat().st_size)
        try:
            shorter = [bytes(event) for event in events.compact(line for _, line in lines)]
        except InvalidEvent as error:
            _blame(file, lines, error)
        if out is not None:
            data = b"".join(line + b"\n" for line in shorter)
            if str(out) == "-":
                sys.stdout.buffer.write(data)
                sys.stdout.buffer.flush()
            else:
                out.write_bytes(data)
    _report([line for _, line in lines], shorter)


def _lines(source: BinaryIO, size: int) -> list[tuple[int, bytes]]:
    """Give each line that is not blank, with its number."""
    lines = []
    columns = TextColumn("reading"), BarColumn(), DownloadColumn()
    with Progress(*columns, console=console(stderr=True), transient=True, disable=size < LONG) as progress:
        task = progress.add_task("reading", total=size)
        for number, line in enumerate(source, 1):
            if text := line.strip():
                lines.append((number, text))
            progress.advance(task, len(line))
    return lines


def _blame(file: Path, lines: list[tuple[int, bytes]], error: InvalidEvent) -> None:
    """Name the line that is refused, which the error over all of them does not."""
    for number, line in lines:
        try:
            events.compact([line])
        except InvalidEvent as found:
            fail(f"{file}, line {number}: {found}")
    raise error


def _report(before: list[bytes], after: list[bytes]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column("")
    for name in ("before", "after", "ratio"):
        table.add_column(name, justify="right")
    for name, longer, shorter in (
        ("events", len(before), len(after)),
        ("bytes", sum(map(len, before)), sum(map(len, after))),
    ):
        table.add_row(name, f"{longer:,}", f"{shorter:,}", f"{longer / shorter:.1f} x" if shorter else "")
    console(stderr=True).print(table)
