"""Answers to interrupts, which the stock client sends with the id of the interrupted run.

That id is in use, so the run that continues after the answer gets a new id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentrunner.errors import RunAlreadyExists

if TYPE_CHECKING:
    from ag_ui.core import RunAgentInput

    from agentrunner.reading.stream import EventStream
    from agentrunner.runner import AgentRunner
    from agentrunner.types import Agent

SEPARATOR = "~"
CONTINUATION = "answer"
"""Suffix of a continuing run's id. It never varies, so a store accepts only one answer."""


async def start_run(runner: AgentRunner, agent: Agent, input: RunAgentInput, **options: Any) -> EventStream:
    """Start a run; if it answers interrupts under the id of the last run, change its id."""
    try:
        return await runner.run(agent, input, **options)
    except RunAlreadyExists:
        # A second answer is refused: the thread's last run is then the continuing one.
        scope = options.get("scope")
        if not (_has_answers(input) and await _find_last_run(runner, input.thread_id, scope) == input.run_id):
            raise
    run_id = f"{input.run_id}{SEPARATOR}{CONTINUATION}"
    return await runner.run(agent, input.model_copy(update={"run_id": run_id}), **options)


async def stop_run(runner: AgentRunner, thread_id: str, run_id: str | None, **scope: Any) -> bool:
    """Stop the thread's live run; with `run_id` only that run, or the run that continues it."""
    if await runner.stop(thread_id, run_id, **scope):
        return True
    if run_id is None:
        return False
    store = await runner.ensure_open()
    continuing_ids = [
        claim.run_id for claim, _ in await store.live(thread_id) if claim.run_id.startswith(run_id + SEPARATOR)
    ]
    return bool(continuing_ids) and await runner.stop(thread_id, continuing_ids[0], **scope)


def _has_answers(input: RunAgentInput) -> bool:
    """Return whether the input answers interrupts, in AG-UI's form or `ag-ui-langgraph`'s."""
    if input.resume:
        return True
    command = input.forwarded_props.get("command") if isinstance(input.forwarded_props, dict) else None
    return isinstance(command, dict) and command.get("resume") is not None


async def _find_last_run(runner: AgentRunner, thread_id: str, scope: str | None) -> str | None:
    """Return the id of the thread's last run; `None` if it failed and so has no interrupts."""
    events = await runner.threads.events(thread_id, scope=scope)
    last = events[-1].to_dict() if events else {}
    return last.get("runId") if last.get("type") == "RUN_FINISHED" else None
