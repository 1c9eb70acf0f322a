"""`agentrunner threads`."""

import time
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from agentrunner.cli.common import clean, console, run
from agentrunner.cli.location import Location, looking_at, shown
from agentrunner.types import ANY_SCOPE, ThreadSummary


def threads(
    location: Location,
    archived: Annotated[bool, typer.Option("--archived", help="Archived threads too.")] = False,
    limit: Annotated[int, typer.Option(help="How many threads at most.", min=1, max=9_999)] = 50,
) -> None:
    """List the threads of a store, the most recently updated first."""
    found = run(_read(location, archived, limit))
    out = console()
    if not found:
        out.print(f"no threads in {clean(shown(location))}" + ("" if archived else " (archived ones: --archived)"))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("thread", "name", "agent"):
        table.add_column(name, overflow="fold")
    table.add_column("runs", justify="right")
    table.add_column("running")
    table.add_column("updated", no_wrap=True)
    now = time.time()
    for thread in found[:limit]:
        table.add_row(
            Text(clean(thread.thread_id)),
            Text(clean(thread.name or "")),
            Text(clean(thread.agent_id or "")),
            str(thread.runs),
            "yes" if thread.running else "",
            ago(thread.updated_at / 1000, now) + (", archived" if thread.archived else ""),
        )
    out.print(table)
    if len(found) > limit:
        out.print(f"there are more than {limit}: --limit")


async def _read(location: str, archived: bool, limit: int) -> list[ThreadSummary]:
    """Give one thread more than asked for, if there is one."""
    async with looking_at(location) as store:
        return await store.threads(limit + 1, None, archived, None, ANY_SCOPE)


def ago(then: float, now: float) -> str:
    """Give a time as people say it."""
    seconds = now - then
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size * 30 and size == 86_400:
            return time.strftime("%Y-%m-%d", time.localtime(then))
        if seconds >= size:
            return f"{int(seconds // size)} {name} ago"
    return "just now"
