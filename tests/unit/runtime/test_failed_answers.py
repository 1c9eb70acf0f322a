"""A model that fails after a decision: the turn can continue, and no tool runs twice."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner.errors import LlmOverloaded
from agentrunner.reading.interrupts import finish_answered_run, hide_answered_interrupts
from agentrunner.running.inputs import read_input
from agentrunner.runtime import AgentRuntime, Tool
from support.asgi import frames_of
from support.inputs import make_input
from support.scripted_model import ScriptedModel, call_tools, collect_run, reply, summarize

if TYPE_CHECKING:
    from agentrunner import AgentRunner

pytestmark = pytest.mark.fault("B15")

OVERLOADED = [LlmOverloaded("the model is overloaded")]
APPROVED = [{"interruptId": "int-c1", "status": "resolved", "payload": {"approved": True}}]


class Payments:
    """A tool that needs an approval."""

    def __init__(self) -> None:
        self.made_to: list[str] = []

    def pay(self, to: str) -> str:
        self.made_to.append(to)
        return f"paid {to}"


async def ask_and_fail(runner: AgentRunner, *responses: Any) -> tuple[Payments, ScriptedModel, AgentRuntime]:
    """Run an agent up to its interrupt, approve it, and let the model fail."""
    payments = Payments()
    model = ScriptedModel(call_tools(("c1", "pay", {"to": "bob"})), OVERLOADED, *responses)
    agent = AgentRuntime(model, tools=[Tool(payments.pay, policy="ask")])
    await collect_run(runner, agent, make_input("t1", "r1", ["go"]))
    events = await collect_run(runner, agent, make_input("t1", "r2", resume=APPROVED))
    assert summarize(events)[-1] == "the model is overloaded"
    return payments, model, agent


async def test_the_same_answer_asks_the_model_again_and_not_the_tool(runner: AgentRunner) -> None:
    payments, model, agent = await ask_and_fail(runner, OVERLOADED, reply("done"))
    events = await collect_run(runner, agent, make_input("t1", "r3", resume=APPROVED))
    assert summarize(events)[-1] == "the model is overloaded"
    events = await collect_run(runner, agent, make_input("t1", "r4", resume=APPROVED))
    assert summarize(events)[-1] == "RUN_FINISHED"
    assert payments.made_to == ["bob"]
    assert model.requests[1] == model.requests[2] == model.requests[3]
    assert model.requests[3].messages[-1]["content"] == "paid bob"
    # Answered once more, the turn has its outcome.
    events = await collect_run(runner, agent, make_input("t1", "r5", resume=APPROVED))
    assert summarize(events)[-1] == "RUN_FINISHED"
    assert len(model.requests) == 4


async def test_clients_learn_that_the_interrupt_is_answered(memory_factory: Any) -> None:
    runner = memory_factory()
    payments, _, agent = await ask_and_fail(runner, OVERLOADED, reply("done"))
    store = await runner.open()
    answer = make_input("t1", "r3", resume=APPROVED)
    stream = await runner.run(agent, answer)
    checked = await read_input(answer, 1024)
    pages = finish_answered_run(stream.pages(), store, checked.model)
    live = [event for _, event in frames_of(b"".join([bytes(page) async for page in pages]))]
    assert [event["type"] for event in live][-3:] == ["RUN_ERROR", "RUN_STARTED", "RUN_FINISHED"]
    connected = hide_answered_interrupts(await runner.connect("t1"), store, partial(runner.connect, "t1"))
    replayed = [event for _, event in frames_of(b"".join([bytes(page) async for page in connected]))]
    assert not any("outcome" in event for event in replayed)
    events = await collect_run(runner, agent, make_input("t1", "r4", ["go", "and now?"]))
    assert summarize(events)[-1] == "RUN_FINISHED"
    assert payments.made_to == ["bob"]


async def test_an_open_interrupt_is_offered_and_not_closed(memory_factory: Any) -> None:
    runner = memory_factory()
    agent = AgentRuntime(
        ScriptedModel(call_tools(("c1", "pay", {"to": "bob"}))), tools=[Tool(Payments().pay, policy="ask")]
    )
    await collect_run(runner, agent, make_input("t1", "r1", ["go"]))
    store = await runner.open()
    connected = hide_answered_interrupts(await runner.connect("t1"), store, partial(runner.connect, "t1"))
    replayed = [event for _, event in frames_of(b"".join([bytes(page) async for page in connected]))]
    assert replayed[-1]["outcome"]["interrupts"][0]["id"] == "int-c1"


async def test_an_answer_to_an_earlier_turn_repeats_the_failure(memory_factory: Any) -> None:
    runner = memory_factory()
    payments, model, agent = await ask_and_fail(runner, OVERLOADED)
    await collect_run(runner, agent, make_input("t1", "r3", ["next"]))
    events = await collect_run(runner, agent, make_input("t1", "r4", resume=APPROVED))
    assert summarize(events)[-1] == "the model is overloaded"
    assert (len(model.requests), payments.made_to) == (3, ["bob"])
