"""What the commands share: their output and their one-line errors."""

from __future__ import annotations

import asyncio
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn, TypeVar

import typer
from rich.console import Console

from agentrunner.errors import AgentRunnerError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from pathlib import Path
    from typing import Any

T = TypeVar("T")

# What is in a thread was written by others: none of it may move the cursor or colour the terminal.
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code not in (9, 10)}


def console(*, stderr: bool = False) -> Console:
    """Give a console that prints text as it is."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def clean(text: str) -> str:
    """Give the text with control characters written out, fit for a terminal."""
    return text.encode("utf-8", "replace").decode().translate(_CONTROLS)


def shorten(text: str, limit: int) -> str:
    """Give the text in one line of at most `limit` characters."""
    text = clean(text).replace("\n", "\\n").replace("\t", "\\t")
    return text if len(text) <= limit else text[: max(limit - 1, 1)] + "…"


def fail(message: str, code: int = 1) -> NoReturn:
    """Say in one line what is wrong, and leave."""
    typer.echo("agentrunner: " + clean(message).replace("\n", " "), err=True)
    raise typer.Exit(code)


def require(path: Path) -> None:
    """Leave if there is no such file."""
    if not path.is_file():
        fail(f"there is no file {path}")


@contextmanager
def reported() -> Iterator[None]:
    """Make one line of what goes wrong inside."""
    try:
        yield
    except BrokenPipeError:
        # Whoever read us has left; what is still buffered goes nowhere, quietly.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise typer.Exit(1) from None
    except (AgentRunnerError, OSError) as error:
        fail(str(error))


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work; an error becomes one line."""
    with reported():
        return asyncio.run(work)
