"""Terminal output for all commands, and errors printed as one line."""

from __future__ import annotations

import asyncio
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn, TypeVar

import typer
from rich.console import Console

from agentrunner._text import escape_controls
from agentrunner.errors import AgentRunnerError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator
    from pathlib import Path
    from typing import Any

T = TypeVar("T")


def console(*, stderr: bool = False) -> Console:
    """Return a console that prints text unchanged, without markup or highlighting."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def clean(text: str) -> str:
    """Return the text with its control characters escaped, safe to print on a terminal."""
    # Texts of threads come from users and models, and must not move the cursor or colour the terminal.
    return escape_controls(text, is_one_line=False)


def shorten(text: str, limit: int) -> str:
    """Return the text on one line, cut to `limit` characters."""
    text = escape_controls(text)
    return text if len(text) <= limit else text[: max(limit - 1, 1)] + "…"


def fail(message: str, code: int = 1) -> NoReturn:
    """Print the message on one line to stderr and exit."""
    typer.echo("agentrunner: " + clean(message).replace("\n", " "), err=True)
    raise typer.Exit(code)


def require_file(path: Path) -> None:
    """Exit with an error unless the file exists."""
    if not path.is_file():
        fail(f"there is no file {path}")


@contextmanager
def report_errors() -> Iterator[None]:
    """Print an error raised inside as one line, and exit."""
    try:
        yield
    except BrokenPipeError:
        # The program that reads the output has closed the pipe. Without this, Python would fail again when it flushes
        # its buffer at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise typer.Exit(1) from None
    except (AgentRunnerError, OSError) as error:
        fail(str(error))


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine; print an error as one line and exit."""
    with report_errors():
        return asyncio.run(work)
