"""Stores for the commands to work on."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import SqliteAgentRunner
from support.recorded_runs import FAILED_RUN, INTERRUPTED_RUN
from support.stored_threads import fill_store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

WORKER = """
import asyncio, sys
from agentrunner import SqliteAgentRunner
async def agent(input):
    yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
    yield {"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"}
    yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "half a sent"}
    await asyncio.sleep(60)
async def main():
    request = {"threadId": "dead", "runId": "d1", "state": {}, "forwardedProps": {}}
    request |= {"messages": [], "tools": [], "context": []}
    async with SqliteAgentRunner(sys.argv[1]) as runner:
        async for event in await runner.run(agent, request):
            print(event.type, flush=True)
asyncio.run(main())
"""


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Return a file with a thread `t` of two runs and an archived thread `old`."""
    path = tmp_path / "threads.db"

    def agent_of(events: list[dict[str, Any]]) -> Any:
        async def agent(_: object) -> AsyncIterator[dict[str, Any]]:
            for event in events:
                yield event

        return agent

    async def fill() -> None:
        empty: dict[str, Any] = {"tools": [], "context": [], "state": {}, "forwardedProps": {}}
        async with SqliteAgentRunner(path) as runner:
            old = {"threadId": "old", "runId": "o", "messages": [], **empty}
            started = {"type": "RUN_STARTED", "threadId": "old", "runId": "o"}
            async for _ in await runner.run(agent_of([started, {**started, "type": "RUN_FINISHED"}]), old):
                pass
            await runner.threads.archive("old")
            for run_id, events in (("r1", INTERRUPTED_RUN), ("r2", FAILED_RUN)):
                question = {"id": f"q-{run_id}", "role": "user", "content": f"asked in {run_id}"}
                request = {"threadId": "t", "runId": run_id, "messages": [question], **empty}
                async for _ in await runner.run(agent_of(events), request, agent_id="guide"):
                    pass
            await runner.threads.rename("t", "A day")

    asyncio.run(fill())
    return path


@pytest.fixture
def dead_db(tmp_path: Path) -> Path:
    """Return a file whose process was killed in the middle of a run."""
    path = tmp_path / "dead.db"
    child = subprocess.Popen([sys.executable, "-c", WORKER, str(path)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert [child.stdout.readline().strip() for _ in range(3)][-1] == b"TEXT_MESSAGE_CONTENT"
    child.kill()
    child.wait()
    child.stdout.close()
    return path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.db"
    asyncio.run(fill_store(path, 8))
    return path
