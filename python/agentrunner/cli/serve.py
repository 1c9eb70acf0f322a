"""`agentrunner serve`: run the server."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from agentrunner.cli.store_location import LOCATION_FORMS, open_or_create, store_from_location, without_secrets
from agentrunner.cli.terminal import console, fail, report_errors, run

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
            help="A dict of agents by id, one agent (its id is then `default`), or a function annotated `-> Harness` "
            "that takes the runner.",
        ),
    ],
    db: Annotated[str, typer.Option("--db", metavar="LOCATION", help=f"Where the threads are kept: {LOCATION_FORMS}.")],
    host: Annotated[str, typer.Option(help="Listen on this address.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Listen on this port; 0 picks a free one.")] = 8000,
    mode: Annotated[
        Literal["multi-route", "single-route", "both"],
        typer.Option(help="Serve a route for each operation, a single route for all operations, or both."),
    ] = "both",
    base_path: Annotated[str, typer.Option(metavar="PATH", help="The path prefix of every route.")] = "/",
    authenticate: Annotated[
        str | None,
        typer.Option(
            "--authenticate", metavar="MODULE:NAME", help="A function that takes a request and returns its Principal."
        ),
    ] = None,
    cors: Annotated[
        bool, typer.Option("--cors", help="Allow requests from web pages of any origin, but without cookies.")
    ] = False,
    mcp_requests: Annotated[
        bool, typer.Option("--mcp-requests", help="Pass the requests of CopilotKit's MCP apps to the agents.")
    ] = False,
    inspector: Annotated[bool, typer.Option("--inspector", help="Serve a page that shows every thread.")] = False,
    on_concurrent_run: Annotated[
        Literal["reject", "supersede", "enqueue"],
        typer.Option(help="What happens to a run on a thread that is already running."),
    ] = "reject",
    max_waiting: Annotated[
        int, typer.Option(min=0, metavar="RUNS", help="How many runs may wait for one thread.")
    ] = 16,
    run_timeout: Annotated[
        float | None, typer.Option(min=0.001, metavar="SECONDS", help="End runs that take longer than this.")
    ] = None,
    silence_timeout: Annotated[
        float | None,
        typer.Option(min=0.001, metavar="SECONDS", help="End runs whose agent is silent for longer than this."),
    ] = None,
    show_agent_errors: Annotated[
        bool, typer.Option("--show-agent-errors", help="Show the text of an agent's exception to its users.")
    ] = False,
    max_state_mib: Annotated[
        int, typer.Option(min=1, metavar="MIB", help="End a run whose state is larger than this.")
    ] = 16,
    max_run_mib: Annotated[
        int, typer.Option(min=1, metavar="MIB", help="End a run whose compacted events are larger than this.")
    ] = 256,
    client_messages: Annotated[
        Literal["mark", "refuse"],
        typer.Option(help="What happens to messages that only a client claims an agent, tool or system wrote."),
    ] = "mark",
    shutdown_seconds: Annotated[
        float, typer.Option(min=0, metavar="SECONDS", help="How long live runs may take to end at shutdown.")
    ] = 10.0,
    head_seconds: Annotated[
        float, typer.Option(min=0.001, metavar="SECONDS", help="How long the head of a request may take to arrive.")
    ] = 10.0,
    max_connections: Annotated[
        int, typer.Option(min=1, help="Most open connections; with one more, the one idle longest is closed.")
    ] = 10_000,
    log_format: Annotated[Literal["text", "json"], typer.Option(help="The format of log lines.")] = "text",
    open_to_everyone: Annotated[
        bool,
        typer.Option("--open-to-everyone", help="Listen beyond this machine without authentication."),
    ] = False,
) -> None:
    """Serve agents to CopilotKit and AG-UI clients, with their threads in a store."""
    try:
        from agentrunner.server import create_app
        from agentrunner.server.uvicorn_server import LOOPBACK_HOSTS
        from agentrunner.server.uvicorn_server import serve as serve_app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "agentrunner":
            raise
        fail('the server needs more packages: pip install "agentrunner[server]"', 2)
    from agentrunner.runner import AgentRunner
    from agentrunner.types import MIB

    if authenticate is None and host not in LOOPBACK_HOSTS and not open_to_everyone:
        fail(
            f"without --authenticate, anyone who reaches {host}:{port} can read and change every thread; "
            "add --authenticate or --open-to-everyone",
            2,
        )
    target = _import(agents)
    run(_check_store_opens(db))
    with report_errors():
        runner = AgentRunner(
            store_from_location(db), on_concurrent_run=on_concurrent_run, max_waiting=max_waiting,
            run_timeout=run_timeout, client_messages=client_messages,
            silence_timeout=silence_timeout, show_agent_errors=show_agent_errors,
            max_state_bytes=max_state_mib * MIB, max_run_bytes=max_run_mib * MIB,
        )  # fmt: skip
        try:
            app = create_app(
                runner, _agents_to_serve(target, agents, runner), base_path=base_path, mode=mode, cors=cors,
                inspector=inspector, mcp_requests=mcp_requests, shutdown_seconds=shutdown_seconds,
                authenticate=_import(authenticate) if authenticate is not None else None,
            )  # fmt: skip
        except ValueError as error:
            fail(str(error), 2)
        if log_format == "text":
            url = f"http://{f'[{host}]' if ':' in host else host}:{port}{base_path}"
            names = ", ".join(app.context.agents)
            console(stderr=True).print(
                f"agents {names} at {url}, threads in {without_secrets(db)}; press ctrl+c to stop"
            )
        serve_app(
            app, host=host, port=port, log_format=log_format, head_seconds=head_seconds, max_connections=max_connections
        )


def _agents_to_serve(target: Any, name: str, runner: AgentRunner) -> Mapping[str, Agent] | Harness:
    """Return the agents that MODULE:NAME refers to, or the harness that its function makes."""
    from agentrunner.harness import Harness

    if isinstance(target, Harness):
        fail(f"{name!r} is a Harness, which already has a runner; name a function `(runner) -> Harness` instead", 2)
    if _return_annotation(target).rpartition(".")[2] == Harness.__name__:
        try:
            harness: Harness = target(runner)
        except Exception as error:  # noqa: BLE001 - the caller's function may fail in any way
            fail(f"{name!r} failed to make a Harness: {_describe(error)}", 2)
        return harness
    if isinstance(target, dict):
        return target
    if isinstance(target, type) or not _takes_arguments(getattr(target, "run", target), 1):
        is_app = _takes_arguments(target, 3)
        fail(
            f"{name!r} is {'an ASGI app' if is_app else f'no agent but {target!r}'}; name an async generator function "
            "that takes the run's input, an object with such a `run` method, a dict of agents by id, or a function "
            "`(runner) -> Harness`" + (f"; or serve the app itself: uvicorn {name}" if is_app else ""),
            2,
        )
    return {"default": target}


def _takes_arguments(function: Any, count: int) -> bool:
    """Return whether a function can be called with that many positional arguments."""
    try:
        inspect.signature(function).bind(*range(count))
    except (TypeError, ValueError):
        # It is not callable, takes other arguments, or its signature is not known.
        return False
    return True


def _return_annotation(function: Any) -> str:
    """Return the name of a function's return annotation, or `""` if it has none."""
    try:
        if sys.version_info >= (3, 14):
            import annotationlib

            annotations = annotationlib.get_annotations(function, format=annotationlib.Format.STRING)
        else:
            annotations = inspect.get_annotations(function)
    except TypeError:
        # It is not a function: a dict of agents, or an agent object.
        return ""
    annotation = annotations.get("return", "")
    return annotation if isinstance(annotation, str) else getattr(annotation, "__name__", "")


async def _check_store_opens(db: str) -> None:
    """Exit with one line if the store cannot be opened; the server would print many."""
    async with open_or_create(db):
        pass


def _import(name: str) -> Any:
    """Import what `module:name` refers to, also from the working directory."""
    module, _, attribute = name.partition(":")
    if not module or not attribute or module.startswith("."):
        fail(f"expected MODULE:NAME, not {name!r}", 2)
    sys.path.insert(0, "")
    try:
        value: Any = importlib.import_module(module)
        for part in attribute.split("."):
            value = getattr(value, part)
    except ModuleNotFoundError as error:
        fail(f"there is no module {error.name!r} (in {name!r})", 2)
    except AttributeError:
        fail(f"module {module!r} has no attribute {attribute!r}", 2)
    except Exception as error:  # noqa: BLE001 - importing the caller's module may fail in any way
        fail(f"{name!r} cannot be imported: {_describe(error)}", 2)
    return value


def _describe(error: Exception) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({frame.filename}, line {frame.lineno})"
