"""Print how many bytes this process grew by over a run of a million events, how many they were, and compacted."""

import asyncio
import tempfile
from pathlib import Path

from agentrunner import SqliteAgentRunner
from benches.common import finished, resident, run_input, started

COUNT = 1_000_000
MESSAGE = 500


def events():
    """Messages of 500 deltas, each event 110 bytes: a UUID for an id and a piece of text."""
    for number in range(COUNT // MESSAGE):
        name = b"5f0c8a3e-7d21-4a55-9f33-%012d" % number
        yield b'{"type":"TEXT_MESSAGE_START","messageId":"%s","role":"assistant"}' % name
        for index in range(MESSAGE - 2):
            event = b'{"type":"TEXT_MESSAGE_CONTENT","messageId":"%s","delta":"token %d ' % (name, index)
            yield event.ljust(108, b"x") + b'"}'
        yield b'{"type":"TEXT_MESSAGE_END","messageId":"%s"}' % name


recorded = 0


async def agent(run):
    global recorded
    yield started(run.thread_id, run.run_id)
    if run.run_id == "million":
        for event in events():
            recorded += len(event)
            yield event
    yield finished(run.thread_id, run.run_id)


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with SqliteAgentRunner(Path(folder) / "runs.db") as runner:
            async for _ in await runner.run(agent, run_input("thread", "small")):
                pass
            before = resident("VmHWM")
            async for _ in (await runner.run(agent, run_input("thread", "million"))).frames():
                pass
            grown = resident("VmHWM") - before
            compacted = 0
            async for data in (await runner.connect("thread")).frames():
                compacted += len(data)
            print(grown, recorded, compacted)


asyncio.run(main())
