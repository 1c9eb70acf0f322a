"""A process that runs agents on one file and tells, outside of it, each event its readers saw."""

import asyncio
import os
import sys

import agentrunner


def events_of(thread: str, run: str, rounds: int):
    """Text, a tool call, state: endless enough that no run ends by itself before the process does."""
    yield {"type": "RUN_STARTED", "threadId": thread, "runId": run}
    yield {"type": "STATE_SNAPSHOT", "snapshot": {"n": 0}}
    for n in range(rounds):
        message, call = f"{run}-m{n}", f"{run}-c{n}"
        yield {"type": "TEXT_MESSAGE_START", "messageId": message, "role": "assistant"}
        yield {"type": "TOOL_CALL_START", "toolCallId": call, "toolCallName": "look"}
        for k in range(20):
            yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": message, "delta": f"{n}.{k} "}
            yield {"type": "TOOL_CALL_ARGS", "toolCallId": call, "delta": f"[{k}]"}
        yield {"type": "STATE_DELTA", "delta": [{"op": "replace", "path": "/n", "value": n}]}
        yield {"type": "TOOL_CALL_END", "toolCallId": call}
        yield {"type": "TOOL_CALL_RESULT", "toolCallId": call, "messageId": f"{call}-r", "content": "ok"}
        yield {"type": "TEXT_MESSAGE_END", "messageId": message}
    yield {"type": "RUN_FINISHED", "threadId": thread, "runId": run}


async def agent(given):
    for count, event in enumerate(events_of(given.thread_id, given.run_id, 100_000)):
        yield event
        if count % 50 == 0:
            await asyncio.sleep(0.001)


async def tell(log: int, kind: str, thread: str, stream: agentrunner.EventStream) -> None:
    async for event in stream:
        os.write(log, f"{kind}\t{thread}\t{event.cursor}\t".encode() + bytes(event) + b"\n")
        if event.type == "RUN_STARTED":
            os.write(1, b".")


async def main(path: str, log_path: str, *threads: str) -> None:
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    async with agentrunner.SqliteAgentRunner(path) as runner, asyncio.TaskGroup() as group:
        for thread in threads:
            stream = await runner.run(agent, {"threadId": thread, "runId": f"{thread}-run", "messages": []})
            group.create_task(tell(log, "early", thread, stream))
            group.create_task(tell(log, "late", thread, await runner.connect(thread)))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
