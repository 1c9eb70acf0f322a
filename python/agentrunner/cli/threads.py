"""`agentrunner threads`: list threads."""

import time
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from agentrunner._counts import format_count
from agentrunner.cli.store_location import Location, open_read_only, without_secrets
from agentrunner.cli.terminal import clean, console, run
from agentrunner.types import ANY_SCOPE, ThreadSummary

DAY_SECONDS = 86_400
RELATIVE_DAYS = 30
"""Days after which a time is shown as a date."""


def threads(
    location: Location,
    archived: Annotated[bool, typer.Option("--archived", help="Include archived threads.")] = False,
    limit: Annotated[int, typer.Option(help="List at most this many threads.", min=1, max=9_999)] = 50,
) -> None:
    """List a store's threads, the most recently updated first."""
    summaries = run(_read_summaries(location, archived, limit))
    out = console()
    if not summaries:
        hint = "" if archived else " (--archived includes archived threads)"
        out.print(f"no threads in {clean(without_secrets(location))}{hint}")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("thread", "name", "agent"):
        table.add_column(name, overflow="fold")
    table.add_column("runs", justify="right")
    table.add_column("running")
    table.add_column("updated", no_wrap=True)
    now = time.time()
    for thread in summaries[:limit]:
        table.add_row(
            Text(clean(thread.thread_id)),
            Text(clean(thread.name or "")),
            Text(clean(thread.agent_id or "")),
            str(thread.runs),
            "yes" if thread.running else "",
            format_age(thread.updated_at / 1000, now) + (", archived" if thread.archived else ""),
        )
    out.print(table)
    if len(summaries) > limit:
        out.print(f"there are more than {format_count(limit, 'thread')}; --limit shows more")


async def _read_summaries(location: str, archived: bool, limit: int) -> list[ThreadSummary]:
    """Return up to `limit` threads, and one more if the store has it."""
    async with open_read_only(location) as store:
        return await store.threads(limit + 1, None, archived, None, ANY_SCOPE)


def format_age(then: float, now: float) -> str:
    """Return how long ago a time was, such as `5 min ago`, or its date."""
    seconds = now - then
    if seconds >= RELATIVE_DAYS * DAY_SECONDS:
        return time.strftime("%Y-%m-%d", time.localtime(then))
    for unit_seconds, unit in ((DAY_SECONDS, "d"), (3_600, "h"), (60, "min")):
        if seconds >= unit_seconds:
            return f"{int(seconds // unit_seconds)} {unit} ago"
    return "just now"
