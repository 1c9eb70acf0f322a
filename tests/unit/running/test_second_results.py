"""A call has one result, because clients show every result and model services refuse two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.agents import agent_with
from support.compared_runs import calls_of, run_all
from support.events import tool_call
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import AgentRunner

CALL = tool_call("c", "f", "{}", result="first")
SECOND = {**CALL[-1], "messageId": "other", "content": "second"}
FIRST_ONLY = [("f", "{}", "first")]


@pytest.mark.fault("B6")
@pytest.mark.parametrize("message", ["other", "c-result"], ids=["another message", "the same message"])
@pytest.mark.parametrize("is_one_run", [True, False], ids=["one run", "two runs"])
async def test_a_second_result_of_a_call_is_left_out(
    runner_factory: Callable[..., AgentRunner], is_one_run: bool, message: str
) -> None:
    second = {**SECOND, "messageId": message}
    live, messages = await run_all(runner_factory(), *([[*CALL, second]] if is_one_run else [CALL, [second]]))
    assert calls_of(messages) == FIRST_ONLY
    assert len([event for event in live if event["type"] == "TOOL_CALL_RESULT"]) == 1


@pytest.mark.fault("B6")
async def test_an_agent_that_repeats_the_clients_result_changes_nothing(
    memory_factory: Callable[..., AgentRunner],
) -> None:
    runner = memory_factory()
    _, messages = await run_all(runner, CALL[:-1])
    answer = {"id": "answer", "role": "tool", "toolCallId": "c", "content": "first"}
    run_input = make_input(run="r2", messages=[*messages, answer])
    await collect(await runner.run(agent_with(SECOND), run_input))
    assert calls_of(await runner.threads.messages("t1")) == FIRST_ONLY


def history(*results: str) -> dict[str, Any]:
    """Return a snapshot of messages with the call and these results."""
    function = {"name": "f", "arguments": "{}"}
    messages: list[dict[str, Any]] = [
        {"id": "u0", "role": "user", "content": "u0"},
        {"id": "c", "role": "assistant", "toolCalls": [{"id": "c", "type": "function", "function": function}]},
        *({"id": f"of {result}", "role": "tool", "toolCallId": "c", "content": result} for result in results),
    ]
    return {"type": "MESSAGES_SNAPSHOT", "messages": messages}


@pytest.mark.fault("B6")
async def test_a_second_result_in_an_agents_history_is_left_out(memory_factory: Callable[..., AgentRunner]) -> None:
    _, messages = await run_all(memory_factory(), [history("first", "second")])
    assert calls_of(messages) == FIRST_ONLY


@pytest.mark.fault("B6")
@pytest.mark.parametrize("is_one_run", [True, False], ids=["one run", "two runs"])
async def test_a_result_that_a_snapshot_has_removed_can_be_sent_again(
    memory_factory: Callable[..., AgentRunner], is_one_run: bool
) -> None:
    again = [history(), {**SECOND, "content": "again"}]
    _, messages = await run_all(memory_factory(), *([[*CALL, *again]] if is_one_run else [CALL, again]))
    assert calls_of(messages) == [("f", "{}", "again")]
