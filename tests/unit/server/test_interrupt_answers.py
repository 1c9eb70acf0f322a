"""Answers to interrupts, which the stock client sends under the id of the run that asked."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner.server import create_app
from support.agents import Gate, scripted_agent
from support.events import event_types, run_finished, run_started, text_message
from support.inputs import make_input
from support.streams import collect
from support.wire import client

if TYPE_CHECKING:
    from agentrunner import AgentRunner

RUN = "/agent/default/run"
ANSWER = {"resume": [{"interruptId": "i1", "status": "resolved", "payload": {"approved": True}}]}
COMMAND = {"forwardedProps": {"command": {"resume": "yes"}}}
"""Answer of older clients, from before AG-UI had interrupts."""


async def asking(input: Any) -> Any:
    """End with an interrupt; with an answer, repeat it."""
    yield run_started(input.thread_id, input.run_id)
    if input.resume or input.forwarded_props:
        for event in text_message(f"answered-{input.run_id}", "Thanks"):
            yield event
        yield run_finished(input.thread_id, input.run_id)
    else:
        outcome = {"type": "interrupt", "interrupts": [{"id": "i1", "reason": "confirmation"}]}
        yield run_finished(input.thread_id, input.run_id, outcome=outcome)


def events(answer: Any) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]


@pytest.mark.parametrize("answered", [ANSWER, COMMAND])
async def test_an_answer_under_the_asking_runs_id_continues_under_an_id_of_its_own(
    runner: AgentRunner, answered: dict[str, Any]
) -> None:
    async with client(create_app(runner, {"default": asking})) as http:
        await http.post(RUN, json=make_input(messages=["u1"]))
        went_on = events(await http.post(RUN, json=make_input(messages=["u1"], **answered)))
        kept = event_types(await runner.threads.events("t1"))
    assert went_on[0]["runId"].startswith("r1~")
    assert {event["runId"] for event in went_on if "runId" in event} == {went_on[0]["runId"]}
    assert "TEXT_MESSAGE_CONTENT" in event_types(went_on)
    assert kept.count("RUN_STARTED") == kept.count("RUN_FINISHED") == 2


async def test_an_answer_sent_twice_is_accepted_once(runner: AgentRunner) -> None:
    async with client(create_app(runner, {"default": asking})) as http:
        await http.post(RUN, json=make_input())
        events(await http.post(RUN, json=make_input(**ANSWER)))
        again = await http.post(RUN, json=make_input(**ANSWER))
    assert (again.status_code, again.json()["code"]) == (409, "agent_run_exists")


@pytest.mark.parametrize(
    "run_input",
    [make_input(), make_input("t1", "r0", **ANSWER)],
    ids=["no answer", "to a run before the last"],
)
async def test_a_used_run_id_without_an_answer_is_refused(runner: AgentRunner, run_input: dict[str, Any]) -> None:
    async with client(create_app(runner, {"default": asking})) as http:
        for run in ("r0", "r1"):
            events(await http.post(RUN, json=make_input("t1", run)))
        refused = await http.post(RUN, json=run_input)
    assert (refused.status_code, refused.json()["code"]) == (409, "agent_run_exists")


async def test_the_answer_to_a_run_that_failed_is_refused(runner: AgentRunner) -> None:
    failed = scripted_agent([run_started(), {"type": "RUN_ERROR", "message": "no"}])
    await collect(await runner.run(failed, make_input()))
    async with client(create_app(runner, {"default": asking})) as http:
        assert (await http.post(RUN, json=make_input(**ANSWER))).status_code == 409


async def test_the_client_stops_the_continuing_run_by_the_asking_runs_id(runner: AgentRunner) -> None:
    gate = Gate()
    agents = {"default": asking, "slow": gate}
    async with client(create_app(runner, agents)) as http:
        await http.post(RUN, json=make_input())
        going_on = asyncio.create_task(http.post("/agent/slow/run", json=make_input(**ANSWER)))
        await gate.reached.wait()
        other = await http.post("/agent/slow/stop/t1", json={"runId": "r"})
        assert (other.json()["stopped"], gate.cancelled) == (False, False)
        assert (await http.post("/agent/slow/stop/t1", json={"runId": "r1"})).json()["stopped"] is True
        assert event_types(events(await going_on)) == ["RUN_STARTED", "RUN_FINISHED"]
    assert gate.cancelled
