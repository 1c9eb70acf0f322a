"""The context that all handlers of an app share: its runner, agents and options."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from agentrunner.errors import ThreadNotFound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentrunner.harness import Harness
    from agentrunner.runner import AgentRunner
    from agentrunner.server.auth import Authenticate, Principal
    from agentrunner.server.cors import Cors
    from agentrunner.server.headers import ForwardHeaders
    from agentrunner.server.limits import Limits
    from agentrunner.server.metrics import Metrics
    from agentrunner.server.routing import RouteTable
    from agentrunner.server.sse import StreamWriter
    from agentrunner.server.transcription import Transcriber
    from agentrunner.types import Agent

LAST_READS_SECONDS = 5
"""Seconds that readers get to read the rest after all runs have ended."""
Mode: TypeAlias = Literal["multi-route", "single-route", "both"]


@dataclass(frozen=True, kw_only=True, eq=False)
class AppContext:
    """The runner, the agents and the options of an app; `create_app` has checked them."""

    runner: AgentRunner
    harness: Harness | None
    agents: Mapping[str, Agent]
    routes: RouteTable
    base_path: str | None
    mode: Mode
    authenticate: Authenticate | None
    cors: Cors | Literal["outer"] | None
    limits: Limits
    forward_headers: ForwardHeaders
    transcriber: Transcriber | None
    mcp_requests: bool
    metrics: Metrics
    shutdown_seconds: float
    open_streams: set[StreamWriter] = field(default_factory=set)
    """Streams that are being written."""

    async def can_see(self, principal: Principal | None, thread_id: str) -> bool:
        """Return whether the thread exists and belongs to the caller."""
        try:
            summary = await self.runner.threads.get(thread_id)
        except ThreadNotFound:
            return False
        return principal is None or summary.scope == principal.scope

    async def end_streams(self, seconds: float) -> None:
        """End the live runs, and then the streams that follow runs of other processes.

        Readers get time to read the rest of the runs, which end as in `drain`.
        """
        await self.runner.drain(seconds)
        await asyncio.sleep(LAST_READS_SECONDS if seconds else 0)
        for stream in list(self.open_streams):
            stream.cut()

    async def drain(self) -> None:
        """Refuse new runs, let the live ones end, and close the runner.

        Runs that are still live after `shutdown_seconds` are ended: their readers get a `RUN_ERROR` with the code
        `INTERRUPTED`, and their streams end.
        """
        await self.runner.drain(self.shutdown_seconds)
        if self.harness is not None:
            await self.harness.aclose()
        await self.runner.aclose()
