"""The server that is killed: each line of stdin is a run's input, of whose events each is a line of stdout."""

from __future__ import annotations

import asyncio
import json
import sys

from agentrunner.demo.booking import Booking
from agentrunner.harness import Harness
from agentrunner.runners import SqliteAgentRunner

BOOKED = "booked"
"""Where a line has its event's cursor: the tool was run."""


async def serve(path: str) -> None:
    """Serve the booking agent until stdin ends; an empty line is behind each run."""
    async with SqliteAgentRunner(path) as runner, Harness(runner, {"booking": Booking(_booked)}) as harness:
        while line := await asyncio.to_thread(sys.stdin.buffer.readline):
            stream = await runner.run(harness.agents["booking"], json.loads(line), agent_id="booking")
            async for event in stream:
                _write(event.cursor or "", bytes(event))
            _write("", b"")


def _booked(table: str) -> None:
    _write(BOOKED, table.encode())


def _write(first: str, second: bytes) -> None:
    sys.stdout.buffer.write(first.encode() + b"\t" + second + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
