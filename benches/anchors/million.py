"""Print the growth of this process over a run of a million events, and the run's size."""

import asyncio
import tempfile
from pathlib import Path

from agentrunner import SqliteAgentRunner
from benches.common import resident, run_finished, run_input, run_started

COUNT = 1_000_000
MESSAGE = 500


def events():
    """Yield messages of 500 deltas; each event has 110 bytes, with a UUID as its id."""
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
    yield run_started(run.thread_id, run.run_id)
    if run.run_id == "million":
        for event in events():
            recorded += len(event)
            yield event
    yield run_finished(run.thread_id, run.run_id)


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
