"""A process whose agents block its event loop, driven by lines on stdin.

Its arguments: a location, a lease's TTL, the file in which each payment is noted when it begins, and `held`, or
`released` to extend leases only with the event loop. It is sent `run <thread> <seconds> <how>`, a run that blocks, or
`approve <thread> <seconds> <how>`, a run of a harness whose tool blocks once it is approved. `how` is `sleep` or, for
C code that keeps the GIL, `gil`; `wait` waits until the process was stopped for a while. Another run of the process
waits meanwhile. It says `blocking <thread>`, and then `ended <thread>`, how both runs have ended, and how many warnings
there were.
"""

from __future__ import annotations

import asyncio
import ctypes
import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from agentrunner import AgentRunner, AgentRunnerError
from agentrunner.harness import Harness
from agentrunner.records.harness_runs import load_run
from agentrunner.stores.urls import store_from_url
from support.lines import read_commands, say

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ag_ui.core import RunAgentInput

SHORT_SECONDS = 0.2
"""Seconds that a run still takes after the loop was blocked."""


class Warnings(logging.Handler):
    """Counts the warnings that the event loop was blocked, or the process stopped."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if "was blocked" in text or "was paused" in text:
            self.texts.append(text)


async def block(thread: str, seconds: float, how: str) -> None:
    """Block the event loop, or let the process be stopped."""
    seen_at = time.monotonic()
    say("blocking", thread)
    if how == "sleep":
        time.sleep(seconds)
    elif how == "gil":
        # Unlike `CDLL`, it keeps the GIL.
        ctypes.PyDLL(None).usleep(int(seconds * 1e6))
    else:
        # Until it was stopped, perhaps right after it said so: time then passes that it does not see.
        while time.monotonic() - seen_at < seconds / 2:
            seen_at = time.monotonic()
            await asyncio.sleep(SHORT_SECONDS / 4)
    await asyncio.sleep(SHORT_SECONDS)


class Payer:
    """Asks, then notes a payment and blocks; only the harness keeps it from paying twice."""

    def __init__(self, notes: str) -> None:
        self._notes = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.blockages: dict[str, tuple[float, str]] = {}

    async def run(self, run_input: RunAgentInput) -> AsyncIterator[dict[str, Any]]:
        thread = run_input.thread_id
        ids = {"threadId": thread, "runId": run_input.run_id}
        yield {"type": "RUN_STARTED", **ids}
        if not run_input.resume:
            yield {"type": "TOOL_CALL_START", "toolCallId": f"{thread}-pay", "toolCallName": "pay"}
            yield {"type": "TOOL_CALL_END", "toolCallId": f"{thread}-pay"}
            question = {"id": "may-i", "reason": "tool_call", "toolCallId": f"{thread}-pay"}
            yield {"type": "RUN_FINISHED", **ids, "outcome": {"type": "interrupt", "interrupts": [question]}}
            return
        os.write(self._notes, f"{thread}\n".encode())
        await block(thread, *self.blockages[thread])
        yield {
            "type": "TOOL_CALL_RESULT", "toolCallId": f"{thread}-pay", "messageId": f"{run_input.run_id}-r",
            "content": "paid",
        }  # fmt: skip
        yield {"type": "RUN_FINISHED", **ids}


class Blocker:
    """The runner, the harness, and the commands they execute."""

    def __init__(self, runner: AgentRunner, harness: Harness, payer: Payer) -> None:
        self.runner = runner
        self.harness = harness
        self.payer = payer

    async def run(self, thread: str, seconds: str, how: str) -> str:
        async def agent(run_input: RunAgentInput) -> AsyncIterator[dict[str, Any]]:
            yield {"type": "CUSTOM", "name": "before", "value": 1}
            # What was yielded must be committed: another process can then see that the run is live.
            await asyncio.sleep(SHORT_SECONDS)
            await block(thread, float(seconds), how)
            yield {"type": "CUSTOM", "name": "after", "value": 1}

        return await self._last(await self.runner.run(agent, make_input(thread)))

    async def approve(self, thread: str, seconds: str, how: str) -> str:
        self.payer.blockages[thread] = (float(seconds), how)
        waiting = await self.harness.run("Pay.", thread_id=thread, run_id=f"{thread}-run")
        if not waiting.approvals:
            return f"{waiting.state}:{waiting.error}".replace(" ", "_")
        result = await self.harness.resume(approval_id=waiting.approvals[0].approval_id, decision="approve")
        record = await load_run(await self.runner.open(), result.run_id)
        return f"{result.state}/{record.attempts}"

    async def beside(self, thread: str, is_over: asyncio.Event) -> str:
        """Run an agent that only waits."""

        async def agent(run_input: RunAgentInput) -> AsyncIterator[dict[str, Any]]:
            yield {"type": "CUSTOM", "name": "before", "value": 1}
            await is_over.wait()

        return await self._last(await self.runner.run(agent, make_input(thread)))

    async def _last(self, stream: Any) -> str:
        event = [event async for event in stream][-1].to_dict()
        return "/".join(filter(None, (event["type"], event.get("code"))))


def make_input(thread: str) -> dict[str, Any]:
    return {"threadId": thread, "runId": f"{thread}-run", "messages": []}


def release_what_is_claimed(store: Any) -> None:
    claim = store.claim

    async def claim_and_release(*arguments: Any) -> Any:
        claimed, known_ids = await claim(*arguments)
        await store.release(claimed)
        return claimed, known_ids

    store.claim = claim_and_release


async def main(location: str, lease_ttl: str, notes: str, leases: str) -> None:
    warnings, payer = Warnings(), Payer(notes)
    logging.getLogger("agentrunner").addHandler(warnings)
    store = store_from_url(location, lease_ttl=float(lease_ttl), resume_window=3600.0)
    if leases == "released":
        release_what_is_claimed(store)
    async with AgentRunner(store) as runner, Harness(runner, {"payer": payer}) as harness:
        blocker = Blocker(runner, harness, payer)
        say("ready")
        async for verb, thread, *words in read_commands():
            warnings.texts.clear()
            is_over = asyncio.Event()
            # The reply to its claim may still wait when the loop is blocked.
            beside = asyncio.create_task(blocker.beside(f"{thread}-beside", is_over))
            try:
                end = await getattr(blocker, verb)(thread, *words)
            except AgentRunnerError as error:
                end = type(error).__name__
            is_over.set()
            say("ended", thread, end, await beside, len(warnings.texts))


if __name__ == "__main__":
    # The faults are intended, so their log lines are noise.
    logging.getLogger().addHandler(logging.NullHandler())
    asyncio.run(main(*sys.argv[1:]))
