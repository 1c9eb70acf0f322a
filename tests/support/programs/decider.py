"""A process with a harness whose agent asks before it pays, driven by lines on stdin.

Its arguments: a location, and the file in which each payment is noted when it begins, with who makes it. It is sent
`ask <thread> <run>`; `decide <approval> <decision> <sum>` and `answer <thread> <run> <interrupt> <decision> <sum>`, as
a colleague decides and as a stock client does. It answers when the run has ended: `ok <state>`, or `refused <error>`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from agentrunner import AgentRunner, AgentRunnerError, RecordConflict, current_run
from agentrunner.harness import Harness
from agentrunner.stores import Change
from agentrunner.stores.sqlite import SqliteStore
from agentrunner.stores.urls import store_from_url
from campaigns import mutations
from support.lines import read_commands, say

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ag_ui.core import RunAgentInput

TAKES = 0.05
"""Seconds a payment takes."""


def _forget_versions(kinds: set[str]) -> None:
    """Write records of these kinds into SQLite without comparing versions."""
    write = SqliteStore.write

    async def blind(self: SqliteStore, changes: list[Any], claim: Any = None) -> list[int]:
        return await write(self, [c._replace(version=None) if c.kind in kinds else c for c in changes], claim)

    SqliteStore.write = blind  # type: ignore[method-assign]


@mutations.mutation
def decide_without_comparing() -> None:
    """Write decisions into SQLite without comparing the approval's and the run's versions."""
    _forget_versions({"approval", "run", "intent"})


@mutations.mutation
def start_what_has_started() -> None:
    """Start a tool whatever the ledger in SQLite contains."""
    _forget_versions({"tool"})


class Payer:
    """Asks, then pays if approved; its store's ledger keeps it from starting a payment twice."""

    def __init__(self, notes: str) -> None:
        self._notes = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def run(self, run_input: RunAgentInput) -> AsyncIterator[dict[str, Any]]:
        ids = {"threadId": run_input.thread_id, "runId": run_input.run_id}
        yield {"type": "RUN_STARTED", **ids}
        if not run_input.resume:
            yield {"type": "TOOL_CALL_START", "toolCallId": f"{run_input.thread_id}-pay", "toolCallName": "pay"}
            yield {"type": "TOOL_CALL_ARGS", "toolCallId": f"{run_input.thread_id}-pay", "delta": '{"sum": 1}'}
            yield {"type": "TOOL_CALL_END", "toolCallId": f"{run_input.thread_id}-pay"}
            question = {"id": "may-i", "reason": "tool_call", "toolCallId": f"{run_input.thread_id}-pay"}
            yield {"type": "RUN_FINISHED", **ids, "outcome": {"type": "interrupt", "interrupts": [question]}}
            return
        (entry,) = run_input.resume
        result = "not paid"
        if entry.payload["approved"]:
            result = await self.pay(run_input.thread_id, entry.payload.get("editedArgs", {"sum": 1})["sum"])
        yield {
            "type": "TOOL_CALL_RESULT", "toolCallId": f"{run_input.thread_id}-pay",
            "messageId": f"{run_input.run_id}-r", "content": result,
        }  # fmt: skip
        yield {"type": "RUN_FINISHED", **ids}

    async def pay(self, thread: str, amount: int) -> str:
        run = current_run()
        assert run.store is not None
        try:
            (version,) = await run.store.write([Change("tool", f"{thread}/pay", thread, b"started", 0)], run.claim)
        except RecordConflict:
            record = await run.store.record("tool", f"{thread}/pay")
            return "paid" if record is not None and record.value == b"done" else "nobody knows"
        os.write(self._notes, b"%s %d %d\n" % (thread.encode(), amount, os.getpid()))
        os.fsync(self._notes)
        await asyncio.sleep(TAKES)
        await run.store.write([Change("tool", f"{thread}/pay", thread, b"done", version)], run.claim)
        return "paid"


def payload(decision: str, amount: str) -> dict[str, Any]:
    """Return the decision as the agent gets it."""
    edited = {"editedArgs": {"sum": int(amount)}} if decision == "edit" else {}
    return {"approved": decision != "reject", **edited}


class Decider:
    """The harness and the commands it executes."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness

    async def ask(self, thread: str, run: str) -> str:
        result = await self.harness.run("Pay.", thread_id=thread, run_id=run)
        return result.state

    async def decide(self, approval: str, decision: Any, amount: str) -> str:
        edited = {"sum": int(amount)} if decision == "edit" else None
        result = await self.harness.resume(approval_id=approval, decision=decision, edited_input=edited)
        return result.state

    async def answer(self, thread: str, run: str, interrupt: str, decision: str, amount: str) -> str:
        entry = {"interruptId": interrupt, "status": "resolved", "payload": payload(decision, amount)}
        run_input = {"threadId": thread, "runId": run, "messages": [], "resume": [entry]}
        agent = self.harness.agents["payer"].clone()
        async for _ in await self.harness.runner.run(agent, run_input):
            pass
        if agent.refusal is not None:
            raise agent.refusal
        return (await self.harness.wait(run)).state


async def main(location: str, notes: str) -> None:
    async with AgentRunner(store_from_url(location)) as runner, Harness(runner, {"payer": Payer(notes)}) as harness:
        decider = Decider(harness)
        say("ready")
        async for verb, *words in read_commands():
            try:
                say("ok", await getattr(decider, verb)(*words))
            except AgentRunnerError as error:
                say("refused", type(error).__name__)


if __name__ == "__main__":
    # The faults are intended, so their log lines are noise.
    logging.disable()
    mutations.apply()
    asyncio.run(main(*sys.argv[1:]))
