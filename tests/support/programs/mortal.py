"""A process that runs a turn and kills itself at its nth write, before or right after it.

Its arguments: the store's location, the file its tools write to, the number of the write (0: never), `before` or
`after`, the AG-UI run's id, and how it runs: `run` or `resume` for the runtime alone, or `harness` for a harness, in
which one tool needs an approval.
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


def make_agent(log: Path, policy: Literal["allow", "ask"] = "allow") -> AgentRuntime:
    """Return the agent. Its tools log the calls they run; `policy` is for the tool `write`."""

    async def log_call(context: ToolContext) -> str:
        with log.open("a") as file:
            file.write(f"{context.tool_call_id}\n")
        return f"{context.tool_call_id} done"

    tools = [Tool(log_call, name="read", concurrent=True), Tool(log_call, name="write", policy=policy)]
    return AgentRuntime(StatelessModel(*SCRIPT), tools=tools, config=RuntimeConfig(system_prompt="Be."))


def make_run_input(run_id: str) -> dict[str, Any]:
    message = {"id": "go", "role": "user", "content": "go"}
    return {"threadId": "t1", "runId": run_id, "messages": [message], "tools": [], "context": []}


def kill_at_write(store: Any, at: int, when: str) -> Any:
    """Make a store kill the process at a write."""
    write, writes_left = store.write, at

    async def write_or_die(changes: Any, claim: Any = None) -> Any:
        nonlocal writes_left
        writes_left -= 1
        is_last = writes_left == 0
        if is_last and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        versions = await write(changes, claim)
        if is_last:
            os.kill(os.getpid(), signal.SIGKILL)
        return versions

    store.write = write_or_die
    return store


async def run_in_harness(store: Any, log: Path) -> None:
    """Run a turn to its end, or continue one whose process died, and approve every call."""
    runner = AgentRunner(store, on_concurrent_run="enqueue")
    async with runner, Harness(runner, {"bot": make_agent(log, "ask")}, recovery=Recovery(max_attempts=99)) as harness:
        runs = await harness.runs("t1")
        result = await (harness.wait(runs[0].run_id) if runs else harness.run("go", thread_id="t1"))
        while result.state == "waiting_for_approval":
            result = await harness.resume(thread_id="t1", decision="approve")
    print(result.state, result.error or result.content)


async def main(location: str, log: str, at: str, when: str, run_id: str, how: str) -> None:
    store = kill_at_write(store_from_url(location, lease_ttl=1.0), int(at), when)
    if how == "harness":
        await run_in_harness(store, Path(log))
        return
    async with AgentRunner(store, on_concurrent_run="enqueue") as runner:
        events = [
            event.type async for event in await runner.run(getattr(make_agent(Path(log)), how), make_run_input(run_id))
        ]
    print(events[-1])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
