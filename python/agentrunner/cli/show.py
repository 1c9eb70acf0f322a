"""`agentrunner show`."""

import os
import sys
from typing import Annotated

import typer

from agentrunner._core import Event
from agentrunner.cli.common import clean, console, fail, reported, run, shorten
from agentrunner.cli.location import Location, looking_at, shown
from agentrunner.cli.timeline import timeline
from agentrunner.events import compact

PAGE = 1 << 20
PIPE_WIDTH = 200
"""Columns of a `--raw` line where there is no terminal to fit."""


def show(
    location: Location,
    thread: Annotated[str, typer.Argument(metavar="THREAD", help="The thread's id.", show_default=False)],
    raw: Annotated[bool, typer.Option("--raw", help="One line an event: cursor, type, shortened JSON.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The events as JSON lines, unchanged.")] = False,
) -> None:
    """Show what happened in a thread, run by run; of a run that is under way, what there is so far."""
    stored, live = run(_read(location, thread))
    if not stored and not live:
        fail(f"there is no thread '{thread}' in {shown(location)}")
    with reported():
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
                out.print("this run is still under way")


async def _read(location: str, thread_id: str) -> tuple[list[Event], list[Event]]:
    """Give the stored runs' compacted events, and the raw ones of a live run."""
    stored: list[Event] = []
    live: list[Event] = []
    async with looking_at(location) as store:
        claims = await store.live(thread_id)
        until = claims[0][0].first_seq if claims else None
        after: tuple[int, int | None] | None = (0, None)
        while after is not None:
            page = await store.history(thread_id, after, until, PAGE)
            stored += page.frames.events()
            after = page.next
        while until is not None:
            seq = (live[-1].seq if live else None) or until - 1
            events = (await store.journal(thread_id, seq, None, PAGE)).frames.events()
            if not events:
                break
            live += events
    return stored, live


def _raw_lines(events: list[Event]) -> list[str]:
    out = console()
    width = out.width if out.is_terminal or "COLUMNS" in os.environ else PIPE_WIDTH
    cursors = max(len(event.cursor or "") for event in events)
    types = max(len(event.type) for event in events)
    return [
        shorten(f"{event.cursor or '':>{cursors}}  {clean(event.type):<{types}}  {bytes(event).decode()}", width)
        for event in events
    ]
