"""The ASGI app: CopilotKit's and AG-UI's HTTP interface over a runner."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from types import NoneType
from typing import TYPE_CHECKING, Literal

from starlette.applications import Starlette
from starlette.routing import Mount

from agentrunner._checks import check_option_type, check_seconds
from agentrunner.runner import AgentRunner
from agentrunner.running.agent_checks import find_problem, find_shared_id
from agentrunner.server.context import AppContext
from agentrunner.server.cors import Cors
from agentrunner.server.dependencies import FastAPIDependency, is_dependency
from agentrunner.server.dispatcher import Dispatcher
from agentrunner.server.exit_signals import watch_exit_signals
from agentrunner.server.headers import ForwardHeaders
from agentrunner.server.limits import Limits
from agentrunner.server.metrics import Metrics
from agentrunner.server.routes import ROUTES
from agentrunner.server.service_routes import build_service_routes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentrunner.harness import Harness
    from agentrunner.server.auth import Authenticate
    from agentrunner.server.context import Mode
    from agentrunner.server.transcription import Transcriber
    from agentrunner.types import Agent


class AgentApp(Starlette):
    """The ASGI app that `create_app` returns; serve it alone or mount it in another app.

    FastAPI does not apply its `dependencies` to a mounted app, so pass `authenticate` to `create_app`.

    Example:
        agents = create_app(runner, {"default": agent})
        app = FastAPI(lifespan=agents.lifespan)
        app.mount("/api/copilotkit", agents)

    """

    def __init__(self, context: AppContext, *, inspector: bool) -> None:
        self.context = context
        self.watches_signals = True
        """Whether the app ends its streams on SIGINT and SIGTERM; most servers report these too late."""
        self._endings: set[asyncio.Task[None]] = set()
        dispatcher = Dispatcher(context)
        routes = [*build_service_routes(context, inspector=inspector), Mount("", app=dispatcher)]
        super().__init__(routes=routes, lifespan=self.lifespan)
        # An id may contain a line break, and `Mount` does not match paths with line breaks.
        self.router.default = dispatcher

    @contextlib.asynccontextmanager
    async def lifespan(self, app: object = None) -> AsyncIterator[None]:
        """Open the runner and the harness at startup, and close both at shutdown.

        Starlette does not run the lifespan of a mounted app: pass this method to the outer app, as in
        `FastAPI(lifespan=agents.lifespan)`.

        Args:
            app: The outer app; not used.

        """
        await self.context.runner.open()
        try:
            if self.context.harness is not None:
                await self.context.harness.open()
            with watch_exit_signals(self._end_streams) if self.watches_signals else contextlib.nullcontext():
                yield
        finally:
            for ending in self._endings:
                ending.cancel()
            await self.context.drain()

    def _end_streams(self) -> None:
        """End the streams when the server is told to exit, and at once when it is told again."""
        ending = asyncio.ensure_future(self.context.end_streams(0 if self._endings else self.context.shutdown_seconds))
        self._endings.add(ending)


def create_app(
    runner: AgentRunner,
    agents: Mapping[str, Agent] | Harness,
    *,
    base_path: str | None = "/",
    mode: Mode = "multi-route",
    authenticate: Authenticate | None = None,
    cors: Cors | bool | Literal["outer"] | None = None,
    limits: Limits | None = None,
    forward_headers: ForwardHeaders | None = None,
    transcriber: Transcriber | None = None,
    mcp_requests: bool = False,
    inspector: bool = False,
    shutdown_seconds: float = 10.0,
) -> AgentApp:
    """Create the ASGI app with the routes of CopilotKit's runtime and of AG-UI.

    Its lifespan opens the runner at startup and closes it at shutdown. A harness is opened and closed with the runner,
    and recovers the runs of processes that died. If you mount the app, pass its `lifespan` to the outer app.

    Args:
        runner: Runner that drives and stores the runs.
        agents: Agents by the id that clients use; stock clients use `default`. With a `Harness` over the same runner,
            the app serves the harness's agents, and clients see its open approvals and can decide them.
        base_path: Path prefix of every route; with `None` any prefix is accepted.
        mode: `multi-route` for one path per route, `single-route` for one endpoint that takes envelopes, or `both`.
        authenticate: Function that returns the `Principal` of a request, or a FastAPI dependency that returns one. The
            principal's scope decides which threads the request sees. Without it every caller sees all threads:
            `FastAPI(dependencies=…)` does not protect a mounted app.
        cors: Origins whose pages may use the server; `True` allows all, as CopilotKit's runtime does, but not with
            cookies. `"outer"` leaves CORS to the app in which this one is mounted: the pages that its CORS middleware
            allows may use the server.
        limits: Limits of requests and streams.
        forward_headers: Request headers that agents see.
        transcriber: Service that turns speech into text, for `/transcribe`.
        mcp_requests: Pass the requests of CopilotKit's MCP apps (`forwardedProps.__proxiedMCPRequest`) to the agents,
            without storing them. Otherwise they are refused, because an agent that does not know them would treat them
            as a turn of the thread.
        inspector: Serve a page at `/inspector` that shows threads, runs and events.
        shutdown_seconds: Seconds that live runs may take to end when the app shuts down.

    Returns:
        A Starlette app, with `lifespan` for an app that mounts it.

    Raises:
        ValueError: An agent's id, an agent or an option is invalid, or the harness has another runner.

    Example:
        runner = AgentRunner.from_url("sqlite:///threads.db")
        app = create_app(runner, {"default": my_agent}, cors=True, inspector=True)

    """
    check_option_type("runner", runner, AgentRunner)
    check_option_type("limits", limits, Limits, NoneType)
    check_option_type("forward_headers", forward_headers, ForwardHeaders, NoneType)
    for name, flag in (("inspector", inspector), ("mcp_requests", mcp_requests)):
        check_option_type(name, flag, bool)
    check_seconds("shutdown_seconds", shutdown_seconds)
    _check_options(base_path, mode, authenticate, cors, transcriber)
    harness = _find_harness(runner, agents)
    agents_by_id = _check_agents(harness.agents if harness is not None else agents)
    context = AppContext(
        runner=runner,
        harness=harness,
        agents=dict(agents_by_id),
        routes=ROUTES,
        base_path=base_path,
        mode=mode,
        authenticate=FastAPIDependency(authenticate) if is_dependency(authenticate) else authenticate,
        cors=(Cors() if cors else None) if isinstance(cors, bool) else cors,
        limits=limits or Limits(),
        forward_headers=forward_headers or ForwardHeaders(),
        transcriber=transcriber,
        mcp_requests=mcp_requests,
        metrics=Metrics(runner),
        shutdown_seconds=shutdown_seconds,
    )
    return AgentApp(context, inspector=inspector)


def _find_harness(runner: AgentRunner, agents: object) -> Harness | None:
    """Return the harness if `agents` is one. Raises `ValueError` if it has another runner."""
    if isinstance(agents, Mapping):
        return None
    # Import it here: apps without a harness start faster if they never load it.
    from agentrunner.harness import Harness

    if not isinstance(agents, Harness):
        return None
    if agents.runner is not runner:
        raise ValueError("the app and the harness have different runners; pass `harness.runner` to create_app")
    return agents


def _check_agents(agents: object) -> Mapping[str, Agent]:
    """Return the agents by id. Raises `ValueError` if one is invalid or there are none."""
    if not isinstance(agents, Mapping) or not agents or not all(isinstance(name, str) and name for name in agents):
        raise ValueError(
            "agents must be a mapping of at least one non-empty id to an agent, as in {'default': agent}, or a "
            f"Harness, not {type(agents).__name__}"
        )
    for name, agent in agents.items():
        if (problem := find_problem(agent)) is not None:
            raise ValueError(f"agent {name!r} {problem}")
    if (problem := find_shared_id(agents)) is not None:
        raise ValueError(problem)
    return agents


def _check_options(base_path: object, mode: str, authenticate: object, cors: object, transcriber: object) -> None:
    """Raise `ValueError` if an option has a value that its type does not allow."""
    if mode not in ("multi-route", "single-route", "both"):
        raise ValueError(f"mode must be 'multi-route', 'single-route' or 'both', not {mode!r}")
    if isinstance(authenticate, type) or not (
        authenticate is None or callable(authenticate) or is_dependency(authenticate)
    ):
        raise ValueError(f"authenticate must be a function, or a FastAPI dependency, not {authenticate!r}")
    if base_path is not None and not (isinstance(base_path, str) and base_path.startswith("/")):
        raise ValueError(f"base_path must start with a slash, not {base_path!r}")
    if cors != "outer":
        check_option_type("cors", cors, Cors, bool, NoneType)
    if transcriber is not None and not callable(getattr(transcriber, "transcribe", None)):
        raise ValueError(f"transcriber must be an object with `transcribe(audio)`, not {transcriber!r}")
