"""A process whose agent kills it several times at one step; it starts or resumes the run.

Its arguments: a location, the file in which each start of the agent is noted, `checkpoint` or `approval` for what the
run resumes from, the step, and the number of kills. If it survives to the run's end it prints `<state> <attempts>`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentrunner import AgentRunner
from agentrunner.harness import Harness, RunNotFound
from agentrunner.stores.urls import store_from_url
from support.lines import say

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ag_ui.core import RunAgentInput


class Killer:
    """Yields a few events, and kills its process at the chosen step as often as it was told."""

    def __init__(self, notes: str, step: int, kills: int) -> None:
        self._notes = Path(notes)
        self._step = step
        self._kills = kills

    def at(self, step: int) -> None:
        if step == self._step and self._notes.stat().st_size <= self._kills:
            os.kill(os.getpid(), signal.SIGKILL)

    async def run(self, run_input: RunAgentInput) -> AsyncIterator[dict[str, Any]]:
        with self._notes.open("a") as notes:
            notes.write(".")
            notes.flush()
            os.fsync(notes.fileno())
        self.at(0)
        ids, message = {"threadId": run_input.thread_id, "runId": run_input.run_id}, f"{run_input.run_id}-m"
        yield {"type": "RUN_STARTED", **ids}
        self.at(1)
        yield {"type": "TEXT_MESSAGE_START", "messageId": message, "role": "assistant"}
        yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": message, "delta": "half "}
        # By now the first events may be durable, or not.
        await asyncio.sleep(0.02)
        self.at(2)
        yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": message, "delta": "and half"}
        yield {"type": "TEXT_MESSAGE_END", "messageId": message}
        self.at(3)
        yield {"type": "RUN_FINISHED", **ids}


class Resumed(Killer):
    """A killer that resumes at checkpoints."""

    def resume(self, run_input: RunAgentInput) -> AsyncIterator[dict[str, Any]]:
        return self.run(run_input)


class Asking(Killer):
    """A killer that first asks for an approval."""

    async def run(self, run_input: RunAgentInput) -> AsyncIterator[dict[str, Any]]:
        if run_input.resume:
            async for event in super().run(run_input):
                yield event
            return
        ids = {"threadId": run_input.thread_id, "runId": run_input.run_id}
        yield {"type": "RUN_STARTED", **ids}
        question = {"id": "may-i", "reason": "confirmation"}
        yield {"type": "RUN_FINISHED", **ids, "outcome": {"type": "interrupt", "interrupts": [question]}}


AGENTS = {"checkpoint": Resumed, "approval": Asking}


async def main(location: str, notes: str, kind: str, step: str, kills: str) -> None:
    agent = AGENTS[kind](notes, int(step), int(kills))
    async with AgentRunner(store_from_url(location)) as runner, Harness(runner, {"killer": agent}) as harness:
        try:
            await harness.run_record("r")
        except RunNotFound:
            await harness.run("Go.", thread_id="t", run_id="r")
            if kind == "approval":
                await harness.resume(thread_id="t", decision="approve")
        result = await harness.wait("r")
        say(result.state, (await harness.run_record("r")).attempts, repr(result.content), result.error)


if __name__ == "__main__":
    logging.disable()
    asyncio.run(main(*sys.argv[1:]))
