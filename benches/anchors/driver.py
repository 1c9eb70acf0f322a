"""A process that drives a paced run on any store; each event carries its time."""

import asyncio
import json
import sys
import time

import agentrunner
from agentrunner.stores.urls import store_from_url

EVENT_SECONDS = 0.02


class Paced:
    """An agent that waits for its count, then yields as many events, 50 a second."""

    def __init__(self) -> None:
        self.count: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def run(self, input):
        yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
        for _ in range(await self.count):
            await asyncio.sleep(EVENT_SECONDS)
            yield {"type": "CUSTOM", "name": "made at", "value": time.monotonic()}
        yield {"type": "RUN_FINISHED", "threadId": input.thread_id, "runId": input.run_id}


async def main() -> None:
    loop = asyncio.get_running_loop()
    first = json.loads(await loop.run_in_executor(None, sys.stdin.readline))
    async with agentrunner.AgentRunner(store_from_url(first["location"])) as runner:
        agent = Paced()
        stream = await runner.run(agent, {"threadId": first["thread"], "runId": first["thread"], "messages": []})
        await anext(stream)
        print(0, flush=True)
        second = json.loads(await loop.run_in_executor(None, sys.stdin.readline))
        agent.count.set_result(second["count"])
        async for _ in stream:
            pass
        print(0, flush=True)


asyncio.run(main())
