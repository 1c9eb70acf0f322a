"""`agentrunner vacuum`: rewrite a SQLite file without its free space."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal

from agentrunner.cli.terminal import clean, console, fail, require_file, run
from agentrunner.stores.sqlite_files import vacuum as rewrite


def vacuum(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The SQLite file.", show_default=False)],
) -> None:
    """Rewrite a SQLite file without its free space.

    Files of version 0.1.0, and those that other programs made, need this once; afterwards they give space back by
    themselves. Nothing else can write meanwhile, and the disk needs room for two more copies of the file.
    """
    if "://" in str(file):
        fail(f"{file}: this rewrites SQLite files; the servers give space back by themselves", 2)
    require_file(file)
    before, after = run(rewrite(str(file)))
    console().print(f"rewrote {clean(str(file))}: {decimal(before)} before, {decimal(after)} now", soft_wrap=True)
