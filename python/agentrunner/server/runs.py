"""The handlers of run, connect, stop and suggest (docs/spec/http.md §4.4 to 4.6)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from agentrunner import _core
from agentrunner._failures import get_public_text
from agentrunner._plain import replace_surrogates
from agentrunner._protocol import read_protocol_version
from agentrunner.errors import (
    AgentRunnerError,
    CursorAhead,
    CursorExpired,
    InputTooLarge,
    InvalidCursor,
    InvalidInput,
    RunAlreadyExists,
    RunnerClosed,
    StoreError,
    ThreadAlreadyRunning,
    ThreadNotFound,
    TooManyWaiting,
)
from agentrunner.reading.interrupts import finish_answered_run, hide_answered_interrupts
from agentrunner.runners import InMemoryAgentRunner
from agentrunner.running.inputs import MAX_ISSUE_CHARS, validate_input
from agentrunner.server import interrupt_answers
from agentrunner.server.bodies import give_way, load_halves, load_json_object
from agentrunner.server.responses import ApiError, ApiResponse, BusyThread, FullLine, ServerShuttingDown, UnknownThread
from agentrunner.server.sse import EventStreamResponse, stream_nothing
from agentrunner.server.starting import stream_when_started

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence

    from ag_ui.core import RunAgentInput
    from starlette.responses import Response

    from agentrunner._core import Frames
    from agentrunner.server.context import AppContext
    from agentrunner.server.requests import ApiRequest
    from agentrunner.types import Agent, RunnerOptions

logger = logging.getLogger("agentrunner.server")

MCP_REQUEST = "__proxiedMCPRequest"
"""Property with which CopilotKit's MCP apps send a request to an MCP server."""


async def run_agent(context: AppContext, request: ApiRequest) -> Response:
    """Start a run and stream it. The run continues even if the client leaves."""
    agent = _find_agent(context, request)
    run_input = (await _read_input(context, request))[0]
    if _is_mcp_request(run_input):
        return await _stream_unstored(context, request, agent, run_input)
    # The run may wait a long time, and its input must not be in memory twice until then.
    request.drop_body()
    starting = interrupt_answers.start_run(
        context.runner, _clone_agent(agent), run_input,
        agent_id=request.agent_id, scope=request.scope, headers=request.forwarded_headers,
    )  # fmt: skip
    with _translate_errors("Failed to run agent"):
        pages = await stream_when_started(starting, request.http, context.limits)
    if run_input.resume:
        pages = finish_answered_run(pages, await context.runner.ensure_open(), run_input)
    return EventStreamResponse(pages, context.limits, legacy=_is_legacy_client(run_input))


async def connect_thread(context: AppContext, request: ApiRequest) -> Response:
    """Stream a thread from its start, after a cursor, or after the messages a client has."""
    _find_agent(context, request)
    run_input, content = await _read_input(context, request)
    thread_id = run_input.thread_id
    cursor = request.http.headers.get("last-event-id") or content.get("lastSeenEventId")
    if cursor is not None and not isinstance(cursor, str):
        raise _reject_input("lastSeenEventId must be a string or null", ("lastSeenEventId",))
    cursor = cursor or None
    known_messages = content["messages"] if cursor is None else None
    if known_messages:
        with _translate_errors("Failed to connect"):
            # The messages are sent back in a snapshot, so check them like a run's input.
            await asyncio.to_thread(_core.check_input, request.body, len(request.body))
    if request.principal is not None and not await context.can_see(request.principal, thread_id):
        if cursor is not None:
            raise UnknownThread
        # Clients connect to a thread before its first run, so a missing thread is an empty stream. Another user's
        # thread must look the same.
        return EventStreamResponse(stream_nothing(), context.limits)
    with _translate_errors("Failed to connect"):
        try:
            stream = await context.runner.connect(
                thread_id, after=cursor, known=known_messages or None, **request.scope_filter
            )
        except CursorAhead:
            if await context.can_see(request.principal, thread_id):
                raise
            raise ThreadNotFound from None
    follow = partial(context.runner.connect, thread_id, **request.scope_filter)
    pages = hide_answered_interrupts(stream, await context.runner.ensure_open(), follow)
    return EventStreamResponse(pages, context.limits, legacy=_is_legacy_client(run_input))


async def stop_run(context: AppContext, request: ApiRequest) -> Response:
    """Stop a thread's live run; with a `runId` only that run."""
    run_id = await _read_stop_request(request.body)
    _find_agent(context, request)
    thread_id = request.thread_id
    if request.principal is not None and not await context.can_see(request.principal, thread_id):
        raise UnknownThread
    target_id = run_id
    if run_id is None and (driver := context.runner.driver(thread_id)) is not None:
        if driver.began_at > request.arrived_at:
            # While the request waited for its body or its user, another run started; the client meant the earlier one.
            message = f"The run of thread '{thread_id}' started after this request; send its runId to stop it."
            return ApiResponse({"stopped": False, "message": message})
        target_id = driver.claim.run_id
    with _translate_errors("Failed to stop agent"):
        is_stopped = await interrupt_answers.stop_run(context.runner, thread_id, target_id, **request.scope_filter)
    if is_stopped:
        interrupt = {"type": "RUN_ERROR", "message": "Run stopped by user", "code": "STOPPED"}
        return ApiResponse({"stopped": True, "interrupt": interrupt})
    if run_id is None:
        return ApiResponse({"stopped": False, "message": f"No active run for thread '{thread_id}'."})
    message = f"Run '{run_id}' is not the active run for thread '{thread_id}'."
    return ApiResponse({"stopped": False, "message": message})


async def suggest(context: AppContext, request: ApiRequest) -> Response:
    """Run an agent without storing anything. The run ends with the request."""
    agent = _find_agent(context, request)
    run_input, _ = await _read_input(context, request)
    return await _stream_unstored(context, request, agent, run_input)


async def _stream_unstored(
    context: AppContext, request: ApiRequest, agent: Agent, run_input: RunAgentInput
) -> EventStreamResponse:
    if _is_mcp_request(run_input) and not context.mcp_requests:
        message = f"`forwardedProps.{MCP_REQUEST}` is passed to agents only with the option `mcp_requests=True`"
        raise ApiError(403, {"error": "MCP request refused", "message": message})
    if context.runner.is_draining:
        raise ServerShuttingDown
    pages = _run_unstored(_clone_agent(agent), run_input, request, context.runner.run_options)
    with _translate_errors("Failed to run agent"):
        await anext(pages)
    return EventStreamResponse(pages, context.limits, legacy=_is_legacy_client(run_input))


async def _run_unstored(
    agent: Agent, input: RunAgentInput, request: ApiRequest, options: RunnerOptions
) -> AsyncGenerator[Frames, None]:
    """Yield an empty page when the run has started, then its frames."""
    async with InMemoryAgentRunner(**options) as runner:
        stream = await runner.run(
            agent, input, agent_id=request.agent_id, scope=request.scope, headers=request.forwarded_headers
        )
        yield _core.Frames(b"")
        try:
            async for page in stream.pages():
                yield page
                del page
        finally:
            await runner.stop(input.thread_id)


def _find_agent(context: AppContext, request: ApiRequest) -> Agent:
    agent = context.agents.get(request.agent_id)
    if agent is None:
        raise ApiError(404, {"error": "Agent not found", "message": f"Agent '{request.agent_id}' does not exist"})
    return agent


def _clone_agent(agent: Agent) -> Agent:
    """Return a clone of the agent, or the agent if it cannot be cloned."""
    # Agents of `ag-ui-langgraph` store a run's state in themselves, so each run needs its own copy.
    clone = getattr(agent, "clone", None)
    if clone is None:
        return agent
    cloned_agent: Agent = clone()
    return cloned_agent


async def _read_input(context: AppContext, request: ApiRequest) -> tuple[RunAgentInput, dict[str, Any]]:
    """Return the `RunAgentInput` of a request, and the JSON object it was read from."""
    try:
        content = orjson.loads(request.body)
    except orjson.JSONDecodeError as error:
        content = await load_halves(request.body)
        if content is None:
            raise ApiError(400, {"error": "Invalid request body", "details": str(error)}) from None
    if not isinstance(content, dict):
        raise _reject_input("a RunAgentInput is expected", ())
    await give_way(request.body)
    with _translate_errors("Failed to read the input"):
        return await validate_input(content, context.limits.input), content


def _reject_input(message: str, path: tuple[str, ...]) -> ApiError:
    return _reject_issues([_describe_issue(message, path)])


def _describe_issue(message: str, path: tuple[str, ...]) -> dict[str, Any]:
    return {"code": "invalid", "path": path, "message": message[:MAX_ISSUE_CHARS]}


def _reject_issues(issues: Sequence[Mapping[str, Any]]) -> ApiError:
    # CopilotKit's clients expect the issues as a string.
    details = orjson.dumps(replace_surrogates(issues), option=orjson.OPT_INDENT_2).decode()
    return ApiError(400, {"error": "Invalid request body", "details": details})


def _is_mcp_request(input: RunAgentInput) -> bool:
    """Return whether the input is a request to an MCP server rather than a turn."""
    return isinstance(input.forwarded_props, dict) and input.forwarded_props.get(MCP_REQUEST) is not None


def _is_legacy_client(input: RunAgentInput) -> bool:
    """Return whether the client predates AG-UI 1.0, because it names no protocol version.

    Such a client drops everything after an event it cannot read.
    """
    return read_protocol_version(input) is None


async def _read_stop_request(body: bytes) -> str | None:
    """Return the id of the run to stop; `None` for the live run. Raises `ApiError` (400)."""
    content = await load_json_object(body)
    # Refuse unknown keys: a request with a misspelt `runId` would stop another run of the thread.
    if content is None or content.keys() - {"runId"}:
        raise ApiError(400, {"error": "Invalid stop request"})
    run_id = content.get("runId")
    if "runId" in content and not (isinstance(run_id, str) and run_id.strip()):
        raise ApiError(400, {"error": "Invalid runId"})
    return run_id


@contextlib.contextmanager
def _translate_errors(failure: str) -> Iterator[None]:
    """Raise the runner's errors as `ApiError`; `failure` names the operation that failed."""
    try:
        yield
    except InputTooLarge as error:
        raise ApiError(413, {"error": "Request body too large", "message": str(error)}) from None
    except InvalidInput as error:
        raise _reject_issues(error.issues or [_describe_issue(str(error), ())]) from None
    except ThreadAlreadyRunning:
        raise BusyThread from None
    except TooManyWaiting as error:
        raise FullLine(str(error)) from None
    except RunAlreadyExists as error:
        content = {"error": "Run already exists", "code": "agent_run_exists", "message": str(error)}
        raise ApiError(409, content) from None
    except ThreadNotFound:
        raise UnknownThread from None
    except InvalidCursor as error:
        raise ApiError(400, {"error": "Invalid cursor", "code": "cursor_invalid", "message": str(error)}) from None
    except CursorExpired as error:
        raise ApiError(410, {"error": "Cursor expired", "code": "cursor_expired", "message": str(error)}) from None
    except CursorAhead as error:
        raise ApiError(409, {"error": "Cursor ahead", "code": "cursor_ahead", "message": str(error)}) from None
    except RunnerClosed:
        raise ServerShuttingDown from None
    except StoreError:
        # Log the details; the response must not reveal the store's address or error text.
        logger.exception("%s", failure)
        raise ApiError(500, {"error": failure, "message": "The store cannot be read or written"}) from None
    except AgentRunnerError as error:
        raise ApiError(500, {"error": failure, "message": get_public_text(error)}) from error
