"""The command line: one command a file."""

import logging
from typing import Annotated

import typer

from agentrunner import __version__
from agentrunner.cli.compact import compact
from agentrunner.cli.copy import copy
from agentrunner.cli.demo import demo
from agentrunner.cli.doctor import doctor
from agentrunner.cli.prune import prune
from agentrunner.cli.serve import serve
from agentrunner.cli.show import show
from agentrunner.cli.threads import threads

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
for command in (serve, threads, show, compact, copy, prune, doctor, demo):
    app.command()(command)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"agentrunner {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Serve agents; look into stores of AG-UI threads, copy, prune, mend them; compact recordings; `demo` is a tour."""
    # What the runner logs is said by the commands in their own words.
    logging.getLogger("agentrunner").addHandler(logging.NullHandler())
