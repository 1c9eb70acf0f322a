"""Event loops, and agents for the tests that start them."""

import asyncio

import uvloop

EAGER = getattr(asyncio, "eager_task_factory", None)
"""Eager tasks come with Python 3.12; below, that loop is not run."""


def eager_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    loop.set_task_factory(EAGER)
    return loop


LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop} | ({"eager": eager_loop} if EAGER else {})


def make_input(thread: str, run: str) -> dict:
    return {"threadId": thread, "runId": run, "messages": []}


def run_started(about) -> dict:
    return {"type": "RUN_STARTED", "threadId": about.thread_id, "runId": about.run_id}


def run_finished(about) -> dict:
    return {"type": "RUN_FINISHED", "threadId": about.thread_id, "runId": about.run_id}


def talker(count: int, every: int = 0):
    """Return an agent that sends a message of so many deltas."""

    async def agent(about):
        yield run_started(about)
        yield {"type": "TEXT_MESSAGE_START", "messageId": f"m-{about.run_id}", "role": "assistant"}
        delta = b'{"type":"TEXT_MESSAGE_CONTENT","messageId":"m-%s","delta":"0123456789"}' % about.run_id.encode()
        for n in range(count):
            yield delta
            if every and n % every == 0:
                await asyncio.sleep(0)
        yield {"type": "TEXT_MESSAGE_END", "messageId": f"m-{about.run_id}"}
        yield run_finished(about)

    return agent


class Waiting:
    """An agent that starts and waits until it is released."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.cancelled = 0

    async def run(self, about):
        yield run_started(about)
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        yield run_finished(about)


async def collect(stream) -> list:
    return [event async for event in stream]


def types(events) -> list[str]:
    return [event.type for event in events]


async def count(stream) -> int:
    total = 0
    async for _ in stream:
        total += 1
    return total
