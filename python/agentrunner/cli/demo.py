"""`agentrunner demo`."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from agentrunner.cli.common import console, fail, run


def demo(
    db: Annotated[
        Path | None,
        typer.Option("--db", metavar="PATH", help="Keep the tour's file here.", show_default="a temporary one"),
    ] = None,
) -> None:
    """Take the tour: readers early and late, a killed process, its recovery, an approval, what compaction saves."""
    try:
        from agentrunner.demo.tour import tour
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pydantic_ai":
            raise
        fail('the tour needs more packages: pip install "agentrunner[demo]"', 2)
    if db is not None and db.exists():
        fail(f"{db} is there already; the tour wants a file of its own")
    with tempfile.TemporaryDirectory(prefix="agentrunner-") as folder:
        kept = run(tour(db or Path(folder) / "tour.db", console()))
    if not kept:
        raise typer.Exit(1)
