"""`agentrunner show`: show one thread."""

import os
import sys
from typing import Annotated

import typer

from agentrunner._core import Event
from agentrunner.cli.store_location import Location, open_read_only, without_secrets
from agentrunner.cli.terminal import clean, console, fail, report_errors, run, shorten
from agentrunner.cli.timeline import timeline
from agentrunner.events import compact

READ_BYTES = 1 << 20
"""Bytes read from the store at a time."""
PIPE_COLUMNS = 200
"""Columns of a `--raw` line when the output is not a terminal."""


def show(
    location: Location,
    thread: Annotated[str, typer.Argument(metavar="THREAD", help="The thread's id.", show_default=False)],
    raw: Annotated[
        bool, typer.Option("--raw", help="Print one line per event: its cursor, type and JSON, cut to the width.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the events as JSON lines, unchanged.")] = False,
) -> None:
    """Show what happened in a thread, run by run.

    For a run that is still live, the events stored so far are shown.
    """
    stored, live = run(_read_events(location, thread))
    if not stored and not live:
        fail(f"there is no thread '{thread}' in {without_secrets(location)}")
    with report_errors():
        if json:
            for event in stored + live:
                sys.stdout.buffer.write(bytes(event) + b"\n")
            sys.stdout.buffer.flush()
        elif raw:
            for line in _raw_lines(stored + live):
                typer.echo(line)
        else:
            out = console()
            out.print(timeline(stored + compact(live)))
            if live:
                out.print("this run is still live")


async def _read_events(location: str, thread_id: str) -> tuple[list[Event], list[Event]]:
    """Return the compacted events of the stored runs and the raw events of a live run."""
    stored: list[Event] = []
    live: list[Event] = []
    async with open_read_only(location) as store:
        claims = await store.live(thread_id)
        until = claims[0][0].first_seq if claims else None
        after: tuple[int, int | None] | None = (0, None)
        while after is not None:
            page = await store.history(thread_id, after, until, READ_BYTES)
            stored += page.frames.events()
            after = page.next
        while until is not None:
            seq = (live[-1].seq if live else None) or until - 1
            events = (await store.journal(thread_id, seq, None, READ_BYTES)).frames.events()
            if not events:
                break
            live += events
    return stored, live


def _raw_lines(events: list[Event]) -> list[str]:
    out = console()
    width = out.width if out.is_terminal or "COLUMNS" in os.environ else PIPE_COLUMNS
    cursor_width = max(len(event.cursor or "") for event in events)
    type_width = max(len(event.type) for event in events)
    return [
        shorten(
            f"{event.cursor or '':>{cursor_width}}  {clean(event.type):<{type_width}}  {bytes(event).decode()}", width
        )
        for event in events
    ]
