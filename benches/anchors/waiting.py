"""Print the resident bytes of a waiting task.

The task waits for frames (`stream`), for a queue (`queue`) or for nothing (`bare`).
"""

import asyncio
import gc
import sys
import tempfile
from pathlib import Path

from agentrunner import SqliteAgentRunner
from benches.common import resident, run_input, run_started

COUNT = 10_000


async def read_frames(stream):
    async for _ in stream.frames():
        pass


async def read_queue(queue):
    while True:
        await queue.get()


async def cost(make) -> float:
    tasks = [asyncio.create_task(await make()) for _ in range(100)]
    await asyncio.sleep(0.2)
    gc.collect()
    before = resident("VmRSS")
    tasks += [asyncio.create_task(await make()) for _ in range(COUNT)]
    await asyncio.sleep(0.2)
    gc.collect()
    taken = resident("VmRSS") - before
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return taken / COUNT


async def queue_cost() -> float:
    async def make():
        return read_queue(asyncio.Queue())

    return await cost(make)


async def bare_cost() -> float:
    async def nothing():
        await asyncio.get_running_loop().create_future()

    async def make():
        return nothing()

    return await cost(make)


async def stream_cost() -> float:
    async def agent(run):
        yield run_started(run.thread_id, run.run_id)
        await asyncio.Event().wait()

    with tempfile.TemporaryDirectory() as folder:
        async with SqliteAgentRunner(Path(folder) / "runs.db") as runner:
            first = await runner.run(agent, run_input("thread", "run"))

            async def make():
                return read_frames(await runner.connect("thread"))

            await anext(aiter(first))
            return await cost(make)


COSTS = {"stream": stream_cost, "queue": queue_cost, "bare": bare_cost}
print(asyncio.run(COSTS[sys.argv[1]]()))
