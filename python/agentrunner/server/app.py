"""The ASGI app: CopilotKit's and AG-UI's HTTP interface over a runner."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.routing import Mount

from agentrunner.server.context import AppContext
from agentrunner.server.cors import Cors
from agentrunner.server.dispatcher import Dispatcher
from agentrunner.server.headers import ForwardHeaders
from agentrunner.server.limits import Limits
from agentrunner.server.metrics import Metrics
from agentrunner.server.routes import ROUTES
from agentrunner.server.service_routes import build_service_routes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentrunner.harness import Harness
    from agentrunner.runner import AgentRunner
    from agentrunner.server.auth import Authenticate
    from agentrunner.server.context import Mode
    from agentrunner.server.transcription import Transcriber
    from agentrunner.types import Agent


class AgentApp(Starlette):
    """The ASGI app that `create_app` returns; serve it alone or mount it in another app.

    Example:
        agents = create_app(runner, {"default": agent})
        app = FastAPI(lifespan=agents.lifespan)
        app.mount("/api/copilotkit", agents)

    """

    def __init__(self, context: AppContext, *, inspector: bool) -> None:
        self.context = context
        dispatcher = Dispatcher(context)
        routes = [*build_service_routes(context, inspector=inspector), Mount("", app=dispatcher)]
        super().__init__(routes=routes, lifespan=self.lifespan)
        # An id may contain a line break, and a `Mount` matches no path with one.
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
            yield
        finally:
            await self.context.drain()


def create_app(
    runner: AgentRunner,
    agents: Mapping[str, Agent] | Harness,
    *,
    base_path: str | None = "/",
    mode: Mode = "multi-route",
    authenticate: Authenticate | None = None,
    cors: Cors | bool | None = None,
    limits: Limits | None = None,
    forward_headers: ForwardHeaders | None = None,
    transcriber: Transcriber | None = None,
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
        authenticate: Function that returns the `Principal` of a request. The principal's scope decides which threads
            the request sees. Without this function every caller sees all threads.
        cors: Origins whose pages may use the server; `True` allows all, as CopilotKit's runtime does.
        limits: Limits of requests and streams.
        forward_headers: Request headers that agents see.
        transcriber: Service that turns speech into text, for `/transcribe`.
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
    _check_options(base_path, mode, authenticate)
    harness = _find_harness(runner, agents)
    agents_by_id = _check_agents(harness.agents if harness is not None else agents)
    context = AppContext(
        runner=runner,
        harness=harness,
        agents=dict(agents_by_id),
        routes=ROUTES,
        base_path=base_path,
        mode=mode,
        authenticate=authenticate,
        cors=(Cors() if cors else None) if isinstance(cors, bool) else cors,
        limits=limits or Limits(),
        forward_headers=forward_headers or ForwardHeaders(),
        transcriber=transcriber,
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
        raise ValueError("agents must be a mapping of at least one non-empty id to an agent, or a Harness")
    invalid = [name for name, agent in agents.items() if not callable(getattr(agent, "run", agent))]
    if invalid:
        raise ValueError(f"agent {invalid[0]!r} must be a function or an object with `run`, not {agents[invalid[0]]!r}")
    return agents


def _check_options(base_path: str | None, mode: str, authenticate: object) -> None:
    """Raise `ValueError` if an option has a value that its type does not allow."""
    if mode not in ("multi-route", "single-route", "both"):
        raise ValueError(f"mode must be 'multi-route', 'single-route' or 'both', not {mode!r}")
    if authenticate is not None and not callable(authenticate):
        raise ValueError(f"authenticate must be a function, not {authenticate!r}")
    if base_path is not None and not base_path.startswith("/"):
        raise ValueError(f"base_path must start with a slash, not {base_path!r}")
