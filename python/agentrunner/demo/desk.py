"""The server that the approval scene kills.

Each line of stdin is a run's input. Each event of that run is a line of stdout, and an empty line ends it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys

from agentrunner.demo.booking import Booking
from agentrunner.harness import Harness
from agentrunner.runners import SqliteAgentRunner

BOOKED = "booked"
"""First field, in place of a cursor, of the line that reports a booking."""


async def serve(path: str) -> None:
    """Run the booking agent for each input on stdin, until stdin ends."""
    # The tour itself shows the run that fails on purpose, so the log need not warn about it.
    logging.getLogger("agentrunner").setLevel(logging.ERROR)
    async with SqliteAgentRunner(path) as runner, Harness(runner, {"booking": Booking(_report_booking)}) as harness:
        while line := await asyncio.to_thread(sys.stdin.buffer.readline):
            stream = await runner.run(harness.agents["booking"], json.loads(line), agent_id="booking")
            async for event in stream:
                _write(event.cursor or "", bytes(event))
            _write("", b"")


def _report_booking(table: str) -> None:
    _write(BOOKED, table.encode())


def _write(first: str, second: bytes) -> None:
    sys.stdout.buffer.write(first.encode() + b"\t" + second + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
