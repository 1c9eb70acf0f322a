"""Start an attempt for a caller: read the input, choose the agent, call the runner."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentrunner.harness.inputs import read_input
from agentrunner.harness.routing import check_agent, route
from agentrunner.harness.supervised_run import SupervisedRun

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agentrunner.harness._state import HarnessState
    from agentrunner.harness.inputs import HarnessInput
    from agentrunner.reading.stream import EventStream


async def start_attempt(
    state: HarnessState,
    input: HarnessInput,
    agent: str | None,
    thread_id: str | None,
    run_id: str | None,
    scope: str | None,
    headers: Mapping[str, str] | None,
) -> tuple[SupervisedRun, EventStream]:
    """Start the first attempt of a harness run and return it with its stream."""
    model = await read_input(input, thread_id, run_id)
    await state.open()
    name = check_agent(state.agents, agent) if agent is not None else await route(state.router, state.agents, model)
    attempt = SupervisedRun(state, name)
    attempt.loads_history = attempt.collects_output = True
    attempt.thread_id, attempt.run_id = model.thread_id, model.run_id
    return attempt, await state.runner.run(attempt, model, agent_id=name, scope=scope, headers=headers)
