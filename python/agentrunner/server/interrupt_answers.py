"""An answer to an interrupt: the stock client sends it under the id of the run that asked, which is taken."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentrunner.errors import RunAlreadyExists

if TYPE_CHECKING:
    from ag_ui.core import RunAgentInput

    from agentrunner.reading.stream import EventStream
    from agentrunner.runner import AgentRunner
    from agentrunner.types import Agent

MARK = "~"
ANSWER = "answer"
"""Behind the id of the run that asked and the mark: the same each time, so that of many answers the store takes one."""


async def start(runner: AgentRunner, agent: Agent, asked: RunAgentInput, **options: Any) -> EventStream:
    """Start a run; one that answers the thread's last run under that one's id gets an id of its own."""
    try:
        return await runner.run(agent, asked, **options)
    except RunAlreadyExists:
        # Sent twice it is refused the second time: then another run is the last.
        if not (_answers(asked) and await _last_run(runner, asked.thread_id) == asked.run_id):
            raise
    run_id = f"{asked.run_id}{MARK}{ANSWER}"
    return await runner.run(agent, asked.model_copy(update={"run_id": run_id}), **options)


async def stop(runner: AgentRunner, thread_id: str, run_id: str | None) -> bool:
    """Stop the thread's live run; with `run_id` only that one, or the one that goes on from it."""
    if await runner.stop(thread_id, run_id):
        return True
    if run_id is None:
        return False
    store = await runner.opened()
    going_on = [claim.run_id for claim, _ in await store.live(thread_id) if claim.run_id.startswith(run_id + MARK)]
    return bool(going_on) and await runner.stop(thread_id, going_on[0])


def _answers(asked: RunAgentInput) -> bool:
    """Say whether there is an answer: AG-UI's, or the one of before, as `ag-ui-langgraph` has it."""
    if asked.resume:
        return True
    command = asked.forwarded_props.get("command") if isinstance(asked.forwarded_props, dict) else None
    return isinstance(command, dict) and command.get("resume") is not None


async def _last_run(runner: AgentRunner, thread_id: str) -> str | None:
    """Give the id of the thread's last run if that finished; one that failed or was stopped asks nothing."""
    events = await runner.threads.events(thread_id)
    last = events[-1].to_dict() if events else {}
    return last.get("runId") if last.get("type") == "RUN_FINISHED" else None
