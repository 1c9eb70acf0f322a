"""The process that the tour kills: it runs the agent and writes each event to stdout."""

from __future__ import annotations

import asyncio
import json
import sys

from agentrunner.demo.agent import agent
from agentrunner.runners import SqliteAgentRunner


async def work(path: str) -> None:
    """Run the agent on the input from stdin."""
    async with SqliteAgentRunner(path) as runner:
        async for event in await runner.run(agent, json.load(sys.stdin), agent_id="guide"):
            sys.stdout.buffer.write(f"{event.cursor}\t".encode() + bytes(event) + b"\n")
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1]))
