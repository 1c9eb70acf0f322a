"""The ASGI app: CopilotKit's and AG-UI's HTTP interface over a runner."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount, Route

from agentrunner.errors import ThreadNotFound
from agentrunner.server import runs, threads
from agentrunner.server.auth import principal_of
from agentrunner.server.cors import Cors
from agentrunner.server.headers import ForwardHeaders
from agentrunner.server.info import info
from agentrunner.server.inspector import page
from agentrunner.server.limits import Limits
from agentrunner.server.metrics import Metrics
from agentrunner.server.openapi import openapi
from agentrunner.server.requests import read_api_request
from agentrunner.server.responses import ApiError, ApiResponse
from agentrunner.server.transcribe import transcribe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Message, Receive, Scope, Send

    from agentrunner.harness import Harness
    from agentrunner.runner import AgentRunner
    from agentrunner.server.auth import Authenticate
    from agentrunner.server.requests import ApiRequest
    from agentrunner.server.transcribe import Transcriber
    from agentrunner.types import Agent

logger = logging.getLogger("agentrunner.server")
access = logging.getLogger("agentrunner.access")

Mode: TypeAlias = Literal["multi-route", "single-route", "both"]

_HANDLERS = {
    "agent/run": runs.run,
    "agent/connect": runs.connect,
    "agent/stop": runs.stop,
    "agent/suggest": runs.suggest,
    "threads/list": threads.list_threads,
    "threads/messages": threads.messages,
    "threads/events": threads.events,
    "threads/state": threads.state,
    "threads/update": threads.update,
    "threads/archive": threads.archive,
    "threads/clear": threads.clear,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class Server:
    """What the handlers share."""

    runner: AgentRunner
    harness: Harness | None
    agents: Mapping[str, Agent]
    base_path: str | None
    mode: Mode
    authenticate: Authenticate | None
    cors: Cors | None
    limits: Limits
    forward_headers: ForwardHeaders
    transcriber: Transcriber | None
    metrics: Metrics
    shutdown_seconds: float

    async def sees(self, call: ApiRequest, thread_id: str) -> bool:
        """Say whether there is such a thread and the caller may see it."""
        try:
            summary = await self.runner.threads.get(thread_id)
        except ThreadNotFound:
            return False
        return call.principal is None or summary.scope == call.principal.scope

    async def drain(self) -> None:
        """Refuse new runs, give the live ones `shutdown_seconds` to end, then end the rest and close the runner.

        Their readers are told by a `RUN_ERROR` (code `INTERRUPTED`), and their streams end.
        """
        await self.runner.drain(self.shutdown_seconds)
        if self.harness is not None:
            await self.harness.aclose()
        await self.runner.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        request = Request(scope, receive)
        origin = request.headers.get("origin")
        status, began = 500, time.perf_counter()
        asked = "unmatched"
        # Quoted, lest what a client writes into its path should write lines into the log.
        path = quote(scope["path"])

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self.cors is not None:
                    self.cors.write(MutableHeaders(scope=message), origin)
            await send(message)

        try:
            if self.cors is not None and request.method == "OPTIONS":
                status = 204
                await self.cors.preflight(origin)(scope, receive, send)
                return
            try:
                call = await read_api_request(self, request)
                asked = call.route.name
                response = await self._answer(call)
            except ApiError as refusal:
                response = refusal.answer()
            except HTTPException as error:
                response = ApiResponse({"error": error.detail}, error.status_code, error.headers)
            except ClientDisconnect:
                # It left before it had said what it wants; nginx's word for that.
                status = 499
                return
            except Exception:
                logger.exception("a request failed: %s %s", request.method, path)
                response = ApiResponse({"error": "internal_error"}, 500)
            await response(scope, receive, sending)
        finally:
            seconds = time.perf_counter() - began
            self.metrics.answered(asked, status, seconds)
            access.info(
                "%s %s %d", request.method, path, status,
                extra={"method": request.method, "path": path, "status": status, "seconds": seconds,
                       "route": asked},
            )  # fmt: skip

    async def _answer(self, call: ApiRequest) -> Response:
        name = call.route.name
        if name == "info":
            return ApiResponse(await info(self.agents, transcribes=self.transcriber is not None, single=call.bridged))
        if name in ("inspector/metadata", "inspector/learning"):
            return Response(status_code=204, headers={"Cache-Control": "no-store"})
        if name == "transcribe":
            return await transcribe(self.transcriber, call.request, call.body, bridged=call.bridged)
        handler = _HANDLERS.get(name)
        if handler is None:
            # `threads/subscribe`: word of changes by websocket is the paid service's.
            raise ApiError(422, {"error": "Thread subscriptions are not available"})
        return await handler(self, call)


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
) -> Starlette:
    """Make the ASGI app: the routes of CopilotKit's runtime and of AG-UI, over a runner and its agents.

    `agents`: by the id clients use; `default` is what the stock ones ask for. Or a `Harness` over the same runner, for
    its agents: clients are shown what waits for approval, and answer it. `base_path`: what stands before the routes;
    `None`: anything may. `mode`: a route each, one route for everything, or both. `authenticate`: gives the `Principal`
    of a request, whose scope decides which threads it sees; without it everybody sees all. `cors`: `True` for the
    original's permissive set. `inspector`: serve a page that shows everything at `/inspector`.

    Its lifespan opens the runner and, when it ends, closes it: live runs get `shutdown_seconds` to end. A harness is
    started with it, which recovers the runs of processes that are gone, and closed. Mounted in another app the parent's
    lifespan is `app.router.lifespan_context`. Raises `ValueError` for an agent id or option that cannot be.
    """
    if mode not in ("multi-route", "single-route", "both"):
        raise ValueError(f"mode is 'multi-route', 'single-route' or 'both', not {mode!r}")
    harness = _harness(runner, agents)
    agents = harness.agents if harness is not None else agents
    if not isinstance(agents, Mapping) or not agents or not all(isinstance(each, str) and each for each in agents):
        raise ValueError("agents is a mapping of non-empty ids to agents, at least one, or a harness")
    useless = [name for name, agent in agents.items() if not callable(getattr(agent, "run", agent))]
    if useless:
        raise ValueError(f"agent {useless[0]!r} is no function and has no `run`: {agents[useless[0]]!r}")
    if authenticate is not None and not callable(authenticate):
        raise ValueError(f"authenticate is a function, not {authenticate!r}")
    if base_path is not None and not base_path.startswith("/"):
        raise ValueError(f"base_path starts with a slash, unlike {base_path!r}")
    server = Server(
        runner=runner,
        harness=harness,
        agents=dict(agents),
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

    @contextlib.asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        await runner.opened()
        try:
            if harness is not None:
                await harness.opened()
            yield
        finally:
            await server.drain()

    async def healthz(_: Request) -> Response:
        return ApiResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        try:
            async with asyncio.timeout(5):
                store = await runner.opened()
                await store.live("")
        except Exception:
            # Whatever it is, requests cannot be served; what it is, is for the log: anybody may ask.
            logger.exception("the store cannot be read")
            return ApiResponse({"status": "unavailable"}, 503)
        if runner.draining:
            return ApiResponse({"status": "draining"}, 503)
        return ApiResponse({"status": "ok"})

    async def measured(request: Request) -> Response:
        try:
            await principal_of(request, authenticate)
        except ApiError as refusal:
            return refusal.answer()
        return server.metrics.answer()

    async def described(_: Request) -> Response:
        return ApiResponse(openapi(server))

    routes: list[Any] = [
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/metrics", measured),
        Route("/openapi.json", described),
    ]
    if inspector:
        # Relative, so that it holds under any mount.
        routes.append(Route("/", lambda _: RedirectResponse("inspector")))
        routes.append(Route("/inspector", page))
    routes.append(Mount("", app=server))
    app = Starlette(routes=routes, lifespan=lifespan)
    # A `Mount` has no path with a line break in it, and an id may hold one.
    app.router.default = server
    app.state.server = server
    return app


def _harness(runner: AgentRunner, agents: object) -> Harness | None:
    """Give the harness, if agents are one. Raises `ValueError` if it is over another runner."""
    if isinstance(agents, Mapping):
        return None
    from agentrunner.harness import Harness

    if not isinstance(agents, Harness):
        return None
    if agents.runner is not runner:
        raise ValueError("the harness is over another runner than the app")
    return agents
