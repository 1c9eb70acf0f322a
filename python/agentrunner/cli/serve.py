"""`agentrunner serve`."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from agentrunner.cli.common import console, fail, reported, run
from agentrunner.cli.location import PLACE, opened, shown, store_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentrunner.harness import Harness
    from agentrunner.runner import AgentRunner
    from agentrunner.types import Agent


def serve(
    agents: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:NAME",
            help="A dict of agents by id; one agent, then called `default`; or a function of a runner, annotated "
            "`-> Harness`, that gives one.",
        ),
    ],
    db: Annotated[str, typer.Option("--db", metavar="LOCATION", help=f"Where threads are kept: {PLACE}.")],
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port to listen at; 0: any free one.")] = 8000,
    mode: Annotated[
        Literal["multi-route", "single-route", "both"], typer.Option(help="A route each, one for everything, or both.")
    ] = "both",
    base_path: Annotated[str, typer.Option(metavar="PATH", help="What stands before the routes.")] = "/",
    authenticate: Annotated[
        str | None,
        typer.Option("--authenticate", metavar="MODULE:NAME", help="A function of a request that gives its Principal."),
    ] = None,
    cors: Annotated[bool, typer.Option("--cors", help="Let pages of any origin use it.")] = False,
    inspector: Annotated[bool, typer.Option("--inspector", help="Serve a page that shows everything.")] = False,
    on_concurrent_run: Annotated[
        Literal["reject", "supersede", "enqueue"], typer.Option(help="What a run on a busy thread does.")
    ] = "reject",
    shutdown_seconds: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long runs get to end by themselves when it is to end.")
    ] = 10.0,
    log_format: Annotated[Literal["text", "json"], typer.Option(help="How log lines look.")] = "text",
    open_to_everyone: Annotated[
        bool,
        typer.Option("--open-to-everyone", help="Listen beyond this machine although nobody is asked who they are."),
    ] = False,
) -> None:
    """Serve agents to the stock CopilotKit and AG-UI clients, threads kept in a file or on a server."""
    try:
        from agentrunner.server import create_app
        from agentrunner.server.serving import LOOPBACK
        from agentrunner.server.serving import serve as serve_app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "agentrunner":
            raise
        fail('the server needs more packages: pip install "agentrunner[server]"', 2)
    from agentrunner.runner import AgentRunner

    if authenticate is None and host not in LOOPBACK and not open_to_everyone:
        fail(
            f"without --authenticate everybody who reaches {host}:{port} reads and changes every thread; "
            "give it, or say --open-to-everyone",
            2,
        )
    found = _load(agents)
    run(_reach(db))
    with reported():
        runner = AgentRunner(store_of(db), on_concurrent_run=on_concurrent_run)
        try:
            served = _served(found, agents, runner)
            app = create_app(
                runner, served, base_path=base_path, mode=mode, cors=cors, inspector=inspector,
                shutdown_seconds=shutdown_seconds,
                authenticate=_load(authenticate) if authenticate is not None else None,
            )  # fmt: skip
        except ValueError as error:
            fail(str(error), 2)
        if log_format == "text":
            url = f"http://{f'[{host}]' if ':' in host else host}:{port}{base_path}"
            named = ", ".join(app.state.server.agents)
            console(stderr=True).print(f"agents {named} at {url}, threads in {shown(db)}; ctrl+c ends it")
        serve_app(app, host=host, port=port, log_format=log_format)


def _served(found: Any, place: str, runner: AgentRunner) -> Mapping[str, Agent] | Harness:
    """Give the agents that were named, or their harness over the runner."""
    from agentrunner.harness import Harness

    if isinstance(found, Harness):
        fail(f"{place!r} is a Harness, which has its store already; name a function `(runner) -> Harness` instead", 2)
    if _returned(found).rpartition(".")[2] == Harness.__name__:
        try:
            harness: Harness = found(runner)
        except Exception as error:  # noqa: BLE001 - it may fail in any way
            fail(f"{place!r} gives no harness: {_blamed(error)}", 2)
        return harness
    return found if isinstance(found, dict) else {"default": found}


def _returned(found: Any) -> str:
    """Give the name of what a function says it returns."""
    try:
        if sys.version_info >= (3, 14):
            import annotationlib

            given = annotationlib.get_annotations(found, format=annotationlib.Format.STRING)
        else:
            given = inspect.get_annotations(found)
    except TypeError:
        # It is something else.
        return ""
    said = given.get("return", "")
    return said if isinstance(said, str) else getattr(said, "__name__", "")


async def _reach(db: str) -> None:
    """Leave in one line if the store cannot be opened, which in a starting server makes many."""
    async with opened(db):
        pass


def _load(place: str) -> Any:
    """Give what `module:name` names, with the working directory in reach."""
    module, _, name = place.partition(":")
    if not module or not name or module.startswith("."):
        fail(f"MODULE:NAME is expected, not {place!r}", 2)
    sys.path.insert(0, "")
    try:
        value: Any = importlib.import_module(module)
        for part in name.split("."):
            value = getattr(value, part)
    except ModuleNotFoundError as error:
        fail(f"there is no module {error.name!r} (in {place!r})", 2)
    except AttributeError:
        fail(f"module {module!r} has no {name!r}", 2)
    except Exception as error:  # noqa: BLE001 - a module may fail in any way
        fail(f"{place!r} cannot be imported: {_blamed(error)}", 2)
    return value


def _blamed(error: Exception) -> str:
    at = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({at.filename}, line {at.lineno})"
