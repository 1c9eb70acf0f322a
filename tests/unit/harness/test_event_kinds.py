"""Events with damaged fields, which the harness sees before they are checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentrunner.harness import Harness
from agentrunner.harness.event_kinds import interrupts_of, outcome_of, result_text
from support.agents import scripted_agent
from support.events import run_finished, run_started
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import AgentRunner

DAMAGED: list[Any] = [5, "x", [], {"type": "interrupt"}, {"type": "interrupt", "interrupts": 5}]


@pytest.mark.fault("B3")
@pytest.mark.parametrize("outcome", DAMAGED, ids=repr)
async def test_a_damaged_outcome_ends_the_harness_run_in_failure(
    outcome: Any, memory_factory: Callable[..., AgentRunner]
) -> None:
    runner = memory_factory()
    agent = scripted_agent([run_started(), run_finished(outcome=outcome)])
    async with Harness(runner, {"a": agent}) as harness:
        live = await collect(await runner.run(harness.agents["a"], make_input()))
        assert live[-1]["code"] == "INVALID_EVENT"
        assert "`outcome" in live[-1]["message"]
        assert (await harness.wait("r1")).state == "failed"
        assert await harness.approvals() == []


@pytest.mark.fault("B3")
def test_only_what_can_be_read_is_taken_from_a_damaged_event() -> None:
    assert outcome_of({"outcome": "x"}) == {}
    interrupt = {"id": "i", "reason": "tool_call"}
    for damaged in ([5], [None], [{"id": 7, "reason": "x"}], [interrupt, {"id": "j"}], "ab"):
        assert interrupts_of(run_finished(outcome={"type": "interrupt", "interrupts": damaged})) == []
    whole = run_finished(outcome={"type": "interrupt", "interrupts": [interrupt, interrupt]})
    assert interrupts_of(whole) == [interrupt]
    assert result_text({"content": [{"text": 5}, {"text": "a"}, 7]}) == "a"
