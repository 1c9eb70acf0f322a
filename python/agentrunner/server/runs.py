"""Run, connect, stop, suggest: what a client does with an agent (docs/spec/http.md §4.4 to 4.6)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import ValidationError

from agentrunner import _core
from agentrunner.errors import (
    AgentRunnerError,
    CursorAhead,
    CursorExpired,
    InvalidCursor,
    InvalidInput,
    RunAlreadyExists,
    RunnerClosed,
    StoreError,
    ThreadAlreadyRunning,
    ThreadNotFound,
)
from agentrunner.runners import InMemoryAgentRunner
from agentrunner.server import interrupt_answers
from agentrunner.server.approved import closed, still_open
from agentrunner.server.envelope import load_object
from agentrunner.server.responses import ApiError, ApiResponse, busy, shutting_down, thread_not_found
from agentrunner.server.settled import settled
from agentrunner.server.sse import EventStreamResponse

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine, Iterator

    from ag_ui.core import RunAgentInput
    from starlette.responses import Response

    from agentrunner.reading.stream import EventStream
    from agentrunner.server.app import Server
    from agentrunner.server.requests import ApiRequest
    from agentrunner.types import Agent

logger = logging.getLogger("agentrunner.server")

LOOK_EVERY = 0.25
"""Seconds between looks whether a client that waits for its turn is there still."""


async def run(server: Server, call: ApiRequest) -> Response:
    """Start a run and stream it. The run goes on whether or not the client stays."""
    agent = _agent(server, call)
    asked, _ = _input(call)
    starting = interrupt_answers.start(
        server.runner, _for_one_run(agent), asked,
        agent_id=call.route.agent_id, scope=call.scope, headers=call.headers,
    )  # fmt: skip
    with _refusing("Failed to run agent"):
        pieces = await _opened(server, call, starting, legacy=_is_legacy(asked))
    if asked.resume:
        pieces = closed(server.runner, pieces, asked, legacy=_is_legacy(asked))
    return EventStreamResponse(pieces, server.limits)


async def connect(server: Server, call: ApiRequest) -> Response:
    """Stream a thread: from the start, from behind a cursor, or for a client that has its messages."""
    _agent(server, call)
    asked, given = _input(call)
    thread_id = asked.thread_id
    cursor = call.request.headers.get("last-event-id") or given.get("lastSeenEventId")
    if cursor is not None and not isinstance(cursor, str):
        raise _invalid_input("lastSeenEventId must be a string or null", ("lastSeenEventId",))
    cursor = cursor or None
    known = given["messages"] if cursor is None else None
    if known:
        with _refusing("Failed to connect"):
            # What no run would take is not sent back either.
            _core.check_input(call.body, len(call.body))
    if call.principal is not None and not await server.sees(call, thread_id):
        if cursor is not None:
            raise thread_not_found()
        # A client connects to a thread before its first run: that one has no events yet, and another's has none here.
        return EventStreamResponse(_nothing(), server.limits)
    with _refusing("Failed to connect"):
        try:
            stream = await server.runner.connect(thread_id, after=cursor, known=known or None)
        except CursorAhead:
            if await server.sees(call, thread_id):
                raise
            raise ThreadNotFound from None
    pieces = stream.frames(legacy=_is_legacy(asked))
    following = partial(server.runner.connect, thread_id)
    known_open = partial(still_open, await server.runner.opened())
    return EventStreamResponse(settled(stream, pieces, following, known_open), server.limits)


async def stop(server: Server, call: ApiRequest) -> Response:
    """Stop a thread's live run; with a `runId` only that one."""
    run_id = _stop_scope(call.body)
    _agent(server, call)
    thread_id = call.route.thread_id
    if call.principal is not None and not await server.sees(call, thread_id):
        raise thread_not_found()
    with _refusing("Failed to stop agent"):
        stopped = await interrupt_answers.stop(server.runner, thread_id, run_id)
    if stopped:
        interrupt = {"type": "RUN_ERROR", "message": "Run stopped by user", "code": "STOPPED"}
        return ApiResponse({"stopped": True, "interrupt": interrupt})
    if run_id is None:
        return ApiResponse({"stopped": False, "message": f"No active run for thread '{thread_id}'."})
    return ApiResponse({"stopped": False, "message": f"Run '{run_id}' is not the active run for thread '{thread_id}'."})


async def suggest(server: Server, call: ApiRequest) -> Response:
    """Run an agent without keeping anything. The run ends with the request."""
    agent = _agent(server, call)
    asked, _ = _input(call)
    if server.runner.draining:
        raise shutting_down()
    pieces = _unkept(_for_one_run(agent), asked, call)
    with _refusing("Failed to run agent"):
        await anext(pieces)
    return EventStreamResponse(pieces, server.limits)


async def _unkept(agent: Agent, input: RunAgentInput, call: ApiRequest) -> AsyncGenerator[bytes, None]:
    async with InMemoryAgentRunner() as runner:
        stream = await runner.run(agent, input, agent_id=call.route.agent_id, scope=call.scope, headers=call.headers)
        # Nothing refused the run: the answer may begin.
        yield b""
        try:
            async for piece in stream.frames(legacy=_is_legacy(input)):
                yield piece
        finally:
            await runner.stop(input.thread_id)


def _agent(server: Server, call: ApiRequest) -> Agent:
    agent = server.agents.get(call.route.agent_id)
    if agent is None:
        message = f"Agent '{call.route.agent_id}' does not exist"
        raise ApiError(404, {"error": "Agent not found", "message": message})
    return agent


def _for_one_run(agent: Agent) -> Agent:
    """Give the agent's clone, where it has such a thing: `ag-ui-langgraph`'s keep a run's state on themselves."""
    clone = getattr(agent, "clone", None)
    if clone is None:
        return agent
    cloned: Agent = clone()
    return cloned


def _input(call: ApiRequest) -> tuple[RunAgentInput, dict[str, Any]]:
    """Read a `RunAgentInput`; give it with the object it was read from."""
    from ag_ui.core import RunAgentInput

    try:
        given = orjson.loads(call.body)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, {"error": "Invalid request body", "details": str(error)}) from None
    if not isinstance(given, dict):
        raise _invalid_input("a RunAgentInput is expected", ())
    try:
        return RunAgentInput.model_validate(given), given
    except ValidationError as error:
        issues = [
            {"code": issue["type"], "path": issue["loc"], "message": issue["msg"]}
            for issue in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        raise _invalid(issues) from None


def _invalid_input(message: str, path: tuple[str, ...]) -> ApiError:
    return _invalid([{"code": "invalid", "path": path, "message": message}])


def _invalid(issues: list[dict[str, Any]]) -> ApiError:
    # A string, as the original's clients expect it.
    details = orjson.dumps(issues, option=orjson.OPT_INDENT_2).decode()
    return ApiError(400, {"error": "Invalid request body", "details": details})


def _is_legacy(input: RunAgentInput) -> bool:
    """Say whether the client is older than AG-UI 1.0: it says no version, and drops all behind what it cannot read."""
    return not input.protocol_version


def _stop_scope(body: bytes) -> str | None:
    """Read which run is to be stopped; a misspelt key must not stop the thread."""
    given = load_object(body)
    if given is None or given.keys() - {"runId"}:
        raise ApiError(400, {"error": "Invalid stop request"})
    run_id = given.get("runId")
    if "runId" in given and not (isinstance(run_id, str) and run_id.strip()):
        raise ApiError(400, {"error": "Invalid runId"})
    return run_id


async def _opened(
    server: Server, call: ApiRequest, starting: Coroutine[Any, Any, EventStream], *, legacy: bool
) -> AsyncGenerator[bytes, None]:
    """Give a run's pieces once it has begun; if it waits long for its turn, the rest of the wait is in the stream."""
    begun = asyncio.ensure_future(starting)
    patience = server.limits.keep_alive_seconds or float("inf")
    waited = 0.0
    try:
        await asyncio.wait([begun], timeout=LOOK_EVERY)
        while not begun.done() and waited < patience:
            if await call.request.is_disconnected():
                # Nobody waits for this turn any more.
                begun.cancel()
                return _nothing()
            waited += LOOK_EVERY
            await asyncio.wait([begun], timeout=LOOK_EVERY)
    except BaseException:
        begun.cancel()
        raise
    return begun.result().frames(legacy=legacy) if begun.done() else _in_turn(begun, legacy=legacy)


async def _in_turn(begun: asyncio.Future[EventStream], *, legacy: bool) -> AsyncGenerator[bytes, None]:
    try:
        stream = await begun
    except AgentRunnerError as error:
        # Its status has been sent long ago.
        event = {"type": "RUN_ERROR", "message": str(error), "code": "RUN_REFUSED"}
        yield b"data: %s\n\n" % orjson.dumps(event)
        return
    finally:
        begun.cancel()
    async for piece in stream.frames(legacy=legacy):
        yield piece


async def _nothing() -> AsyncGenerator[bytes, None]:
    return
    yield b""


@contextlib.contextmanager
def _refusing(failure: str) -> Iterator[None]:
    """Make an answer of what the runner raises."""
    try:
        yield
    except InvalidInput as error:
        raise _invalid_input(str(error), ()) from None
    except ThreadAlreadyRunning:
        raise busy() from None
    except RunAlreadyExists as error:
        raise ApiError(
            409, {"error": "Run already exists", "code": "agent_run_exists", "message": str(error)}
        ) from None
    except ThreadNotFound:
        raise thread_not_found() from None
    except InvalidCursor as error:
        raise ApiError(400, {"error": "Invalid cursor", "code": "cursor_invalid", "message": str(error)}) from None
    except CursorExpired as error:
        raise ApiError(410, {"error": "Cursor expired", "code": "cursor_expired", "message": str(error)}) from None
    except CursorAhead as error:
        raise ApiError(409, {"error": "Cursor ahead", "code": "cursor_ahead", "message": str(error)}) from None
    except RunnerClosed:
        raise shutting_down() from None
    except StoreError:
        # Where the store is and what ails it is for the log.
        logger.exception("%s", failure)
        raise ApiError(500, {"error": failure, "message": "The store cannot be read or written"}) from None
    except AgentRunnerError as error:
        raise ApiError(500, {"error": failure, "message": str(error)}) from error
