"""A process that has a turn and is killed with its nth write of records, before that is done or just after it.

Its arguments: a location, the file its tools write to, which write, `before` or `after`, the AG-UI run's id, and `run`
or `resume`, of the runtime itself, or `harness`, in which it asks for an approval. With 0 it is not killed.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any, Literal

from agentrunner import AgentRunner
from agentrunner.harness import Harness, Recovery
from agentrunner.runtime import AgentRuntime, RuntimeConfig, Tool, ToolContext
from agentrunner.stores.urls import store_from_url
from support.scripted_model import StatelessModel, call_tools, reply

SCRIPT = (
    call_tools(("c1", "write", {})),
    call_tools(("c2", "read", {}), ("c3", "read", {}), ("c4", "write", {})),
    reply("done"),
)


def agent(log: Path, policy: Literal["allow", "ask"] = "allow") -> AgentRuntime:
    """Give the agent; its tools write down which calls they ran, and for the second there is a policy."""

    async def note(context: ToolContext) -> str:
        with log.open("a") as file:
            file.write(f"{context.tool_call_id}\n")
        return f"{context.tool_call_id} done"

    tools = [Tool(note, name="read", concurrent=True), Tool(note, name="write", policy=policy)]
    return AgentRuntime(StatelessModel(*SCRIPT), tools=tools, config=RuntimeConfig(system_prompt="Be."))


def given(run_id: str) -> dict[str, Any]:
    message = {"id": "go", "role": "user", "content": "go"}
    return {"threadId": "t1", "runId": run_id, "messages": [message], "tools": [], "context": []}


def mortal(store: Any, at: int, when: str) -> Any:
    """Let the process be killed with a write of its store."""
    write, left = store.write, at

    async def killing(changes: Any, claim: Any = None) -> Any:
        nonlocal left
        left -= 1
        mine = left == 0
        if mine and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        written = await write(changes, claim)
        if mine:
            os.kill(os.getpid(), signal.SIGKILL)
        return written

    store.write = killing
    return store


async def harnessed(store: Any, log: Path) -> None:
    """Run, or go on with what another process had to leave; approve what is asked for; to the end."""
    runner = AgentRunner(store, on_concurrent_run="enqueue")
    async with runner, Harness(runner, {"bot": agent(log, "ask")}, recovery=Recovery(max_attempts=99)) as harness:
        runs = await harness.runs("t1")
        result = await (harness.wait(runs[0].run_id) if runs else harness.run("go", thread_id="t1"))
        while result.state == "waiting_for_approval":
            result = await harness.resume(thread_id="t1", decision="approve")
    print(result.state, result.error or result.content)


async def main(location: str, log: str, at: str, when: str, run_id: str, how: str) -> None:
    store = mortal(store_from_url(location, lease_ttl=1.0), int(at), when)
    if how == "harness":
        await harnessed(store, Path(log))
        return
    async with AgentRunner(store, on_concurrent_run="enqueue") as runner:
        events = [event.type async for event in await runner.run(getattr(agent(Path(log)), how), given(run_id))]
    print(events[-1])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
