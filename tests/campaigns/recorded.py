"""The child of `power_loss`: run on a recording disk, which also records shown events."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from typing import TYPE_CHECKING, Any

from agentrunner import SqliteAgentRunner
from agentrunner.stores import Change
from campaigns import mutations
from campaigns.disk import mark

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

THREADS = 3
WRITES = 60
"""Number of record writes, marked with a thread number of their own."""


def talkative(chance: random.Random) -> Any:
    """Return an agent with long texts between its tool calls, in bursts and with pauses."""

    async def agent(run_input: Any) -> AsyncIterator[dict[str, Any]]:
        ids = {"threadId": run_input.thread_id, "runId": run_input.run_id}
        yield {"type": "RUN_STARTED", **ids}
        for part in range(3):
            message, call = f"{run_input.run_id}-m{part}", f"{run_input.run_id}-c{part}"
            yield {"type": "TEXT_MESSAGE_START", "messageId": message, "role": "assistant"}
            for n in range(chance.randrange(80, 160)):
                delta = f"{n} " * chance.randrange(1, 40)
                yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": message, "delta": delta}
                if chance.random() < 0.9:
                    await asyncio.sleep(0.0005)
            yield {"type": "TEXT_MESSAGE_END", "messageId": message}
            yield {"type": "TOOL_CALL_START", "toolCallId": call, "toolCallName": "look"}
            yield {"type": "TOOL_CALL_END", "toolCallId": call}
            yield {"type": "TOOL_CALL_RESULT", "toolCallId": call, "messageId": f"{call}-r", "content": "seen"}
        yield {"type": "RUN_FINISHED", **ids}

    return agent


async def main(path: str, log_path: str, durability: Any, runs: str, seed: str) -> None:
    log = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    async with SqliteAgentRunner(path, durability=durability, resume_window=1e6) as runner:

        async def thread(number: int) -> None:
            agent = talkative(random.Random(f"{seed}/{number}"))  # noqa: S311 - the same each time
            for n in range(int(runs)):
                run_input = {"threadId": f"t{number}", "runId": f"t{number}-{n}", "messages": []}
                async for event in await runner.run(agent, run_input):
                    mark(log, number, event.seq or 0, bytes(event))

        await asyncio.gather(*map(thread, range(THREADS)))
        # After the runs: each write brings all earlier writes to the disk.
        store = await runner.open()
        version = 0
        for n in range(WRITES):
            key, value = f"k{n % 5}", build_records(n).get(f"k{n % 5}")
            changes = [Change("kind", "last", "t0", b"%d" % n, version), Change("kind", key, "t0", value)]
            version, _ = await store.write(changes)
            mark(log, THREADS, n, b"")


def build_records(n: int) -> dict[str, bytes]:
    """Return the records after write `n`, counted from 0; keys come and go as `last` grows."""
    last = {f"k{m % 5}": m for m in range(n + 1)}
    return {"last": b"%d" % n} | {key: b"%d" % m * 999 for key, m in last.items() if m // 5 % 2 == 0}


if __name__ == "__main__":
    mutations.apply()
    asyncio.run(main(*sys.argv[1:]))
