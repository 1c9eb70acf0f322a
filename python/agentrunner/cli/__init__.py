"""The command line: each command is one file here and one entry in `COMMANDS`."""

import logging
from typing import Annotated

import typer

from agentrunner import __version__
from agentrunner.cli.backup import backup
from agentrunner.cli.compact import compact
from agentrunner.cli.copy import copy
from agentrunner.cli.demo import demo
from agentrunner.cli.doctor import doctor
from agentrunner.cli.prune import prune
from agentrunner.cli.serve import serve
from agentrunner.cli.show import show
from agentrunner.cli.threads import threads
from agentrunner.cli.vacuum import vacuum

COMMANDS = (serve, threads, show, compact, copy, backup, prune, vacuum, doctor, demo)
"""The commands, in the order in which `--help` lists them."""

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
for command in COMMANDS:
    app.command()(command)


def _print_version(is_set: bool) -> None:
    if is_set:
        typer.echo(f"agentrunner {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Serve AG-UI agents, and inspect, copy, back up and repair their stores."""
    # The commands report problems themselves: the runner's log lines would repeat them.
    logging.getLogger("agentrunner").addHandler(logging.NullHandler())
