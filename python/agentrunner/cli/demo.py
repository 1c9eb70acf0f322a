"""`agentrunner demo`: take a tour."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from agentrunner.cli.terminal import console, fail, run


def demo(
    db: Annotated[
        Path | None,
        typer.Option(
            "--db", metavar="PATH", help="Keep the tour's SQLite file at this path.", show_default="a temporary file"
        ),
    ] = None,
) -> None:
    """Take a tour: late readers, a killed process, recovery, an approval, compaction."""
    try:
        from agentrunner.demo.tour import tour
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pydantic_ai":
            raise
        fail('the tour needs more packages: pip install "agentrunner[demo]"', 2)
    if db is not None and db.exists():
        fail(f"{db} already exists; the tour needs a new file")
    with tempfile.TemporaryDirectory(prefix="agentrunner-") as folder:
        has_kept_promises = run(tour(db or Path(folder) / "tour.db", console()))
    if not has_kept_promises:
        raise typer.Exit(1)
