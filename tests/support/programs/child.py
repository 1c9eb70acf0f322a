"""A process that runs agents and logs, outside the store, each event its readers saw.

Its arguments: a location, the readers' log, the lease's TTL. It is sent lines: `run <thread> <run> <turns> <pause>`,
a run, read from its start and by one who connects to it; `follow <thread>`, a run of another process. The lines it
says: `begun <thread>` when the run's first event is shown, `ended <thread> <type> <code>`, `followed <thread>`, `failed
<thread> <error>`; a run waits for its turn. When its stdin ends it ends too, its runs first.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from agentrunner import AgentRunner, AgentRunnerError
from agentrunner.stores.urls import store_from_url
from campaigns import mutations
from support.lines import read_commands, say
from support.programs.agents import turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from ag_ui.core import RunAgentInput

    from agentrunner import EventStream

KEPT = 3600.0
"""Seconds raw events are kept, so that they can be compared with what readers saw."""


def events_of(thread: str, run: str, turns: int) -> Iterator[dict[str, Any]]:
    """Yield text, a tool call at the same time, and changes of state.

    Compaction moves their frames.
    """
    yield {"type": "RUN_STARTED", "threadId": thread, "runId": run}
    yield {"type": "STATE_SNAPSHOT", "snapshot": {"n": 0}}
    for n in range(turns):
        yield from turn(run, n, 20)
    yield {"type": "RUN_FINISHED", "threadId": thread, "runId": run}


async def agent(turns: int, pause: float, run_input: RunAgentInput) -> AsyncIterator[dict[str, Any]]:
    """Yield the events with a pause after each 50, because a turn has 46."""
    for count, event in enumerate(events_of(run_input.thread_id, run_input.run_id, turns)):
        yield event
        if count % 50 == 0:
            await asyncio.sleep(pause)


class Child:
    """The runner and the log."""

    def __init__(self, runner: AgentRunner, log: int) -> None:
        self.runner = runner
        self.log = log

    async def run(self, thread: str, run: str, turns: str, pause: str) -> None:
        """Run an agent, with two readers."""
        run_input = {"threadId": thread, "runId": run, "messages": []}
        try:
            stream = await self.runner.run(functools.partial(agent, int(turns), float(pause)), run_input)
            late = await self.runner.connect(thread)
            async with asyncio.TaskGroup() as group:
                group.create_task(self.tell("late", thread, late))
                last = await self.tell("early", thread, stream)
            say("ended", thread, last["type"], last.get("code", "-"))
        except* AgentRunnerError as errors:
            say("failed", thread, repr(errors.exceptions[0]))

    async def follow(self, thread: str) -> None:
        """Read another process's run."""
        try:
            await self.tell("far", thread, await self.runner.connect(thread))
            say("followed", thread)
        except AgentRunnerError as error:
            say("failed", thread, repr(error))

    async def tell(self, kind: str, thread: str, stream: EventStream) -> dict[str, Any]:
        """Log each event and its time as soon as it is shown, and return the last event."""
        event = None
        async for event in stream:
            line = f"{kind}\t{thread}\t{event.cursor}\t{time.monotonic_ns()}\t".encode() + bytes(event) + b"\n"
            os.write(self.log, line)
            if kind == "early" and event.type == "RUN_STARTED":
                say("begun", thread)
        return event.to_dict() if event is not None else {"type": "-"}


async def main(location: str, log: str, lease_ttl: str) -> None:
    store = store_from_url(location, lease_ttl=float(lease_ttl), resume_window=KEPT)
    runner = AgentRunner(store, on_concurrent_run="enqueue")
    child = Child(runner, os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND))
    verbs = {"run": child.run, "follow": child.follow}
    try:
        async with asyncio.TaskGroup() as group:
            # Open nothing before the first line: a waiting child must not be visible to other processes.
            async for verb, *words in read_commands():
                group.create_task(verbs[verb](*words))
    finally:
        await runner.aclose()


if __name__ == "__main__":
    # The faults are intended, so their log lines are noise.
    logging.disable()
    mutations.apply()
    asyncio.run(main(*sys.argv[1:]))
