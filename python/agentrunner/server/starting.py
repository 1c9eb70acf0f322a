"""The wait until a run starts, which can be long if other runs of its thread are queued."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import orjson

from agentrunner._core import Frames
from agentrunner._failures import get_error_code, get_error_id, get_public_text
from agentrunner.errors import AgentRunnerError, StoreError
from agentrunner.server.sse import stream_nothing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Coroutine

    from starlette.requests import Request

    from agentrunner.reading.stream import EventStream
    from agentrunner.server.limits import Limits

logger = logging.getLogger("agentrunner.server")

DISCONNECT_POLL_SECONDS = 0.25
"""Seconds between two checks that the client of a waiting run is still connected."""


async def stream_when_started(
    starting: Coroutine[Any, Any, EventStream], http: Request, limits: Limits
) -> AsyncGenerator[Frames, None]:
    """Return the frames of a run once it has started, so that an error can set the status.

    If the run has not started when the first keep-alive comment is due, the response begins, and the rest of the wait
    happens in its stream. If the client disconnects during the wait, the start is cancelled.
    """
    start_task = asyncio.ensure_future(starting)
    patience_seconds = limits.keep_alive_seconds or float("inf")
    waited_seconds = 0.0
    try:
        await asyncio.wait([start_task], timeout=DISCONNECT_POLL_SECONDS)
        while not start_task.done() and waited_seconds < patience_seconds:
            if await http.is_disconnected():
                start_task.cancel()
                return stream_nothing()
            waited_seconds += DISCONNECT_POLL_SECONDS
            await asyncio.wait([start_task], timeout=DISCONNECT_POLL_SECONDS)
    except BaseException:
        start_task.cancel()
        raise
    return start_task.result().pages() if start_task.done() else _stream_after_wait(start_task)


async def _stream_after_wait(start_task: asyncio.Future[EventStream]) -> AsyncGenerator[Frames, None]:
    try:
        stream = await start_task
    except AgentRunnerError as error:
        # The status has been sent already, so the refusal can only be an event.
        if isinstance(error, StoreError):
            logger.exception("a run cannot be started (error id %s)", get_error_id(error))  # noqa: TRY401
        event = {"type": "RUN_ERROR", "message": get_public_text(error), "code": get_error_code(error) or "RUN_REFUSED"}
        yield Frames(b"data: %s\n\n" % orjson.dumps(event))
        return
    finally:
        start_task.cancel()
    async for page in stream.pages():
        yield page
        del page
