"""Interrupts that a client answers, alone or together with a colleague."""

from __future__ import annotations

import asyncio

import pytest

from agentrunner import InvalidInput
from agentrunner.harness import (
    AlreadyDecided,
    ApprovalNotFound,
    Harness,
    InterruptsOpen,
)
from support.agents import agent_with
from support.events import event_types
from support.harness import Asking, interrupt
from support.harness_approvals import APPROVED, run_to_refusal
from support.inputs import make_input
from support.streams import collect


async def test_open_interrupts_block_new_input(runner):
    async with Harness(runner, {"a": Asking(), "b": agent_with()}) as harness:
        await harness.run("hi", agent="a", thread_id="t", run_id="r")
        before = await collect(await runner.connect("t"))
        for name in ("a", "b"):
            with pytest.raises(InterruptsOpen, match="'r/i1'"):
                await harness.run("more", agent=name, thread_id="t", run_id="r2")
        with pytest.raises(InterruptsOpen):
            await run_to_refusal(harness, "t", "r2", messages=["more"])
        with pytest.raises(ApprovalNotFound, match="'i2'"):
            await run_to_refusal(harness, "t", "r2", resume=[{"interruptId": "i2", "status": "cancelled"}])
        with pytest.raises(ApprovalNotFound):
            await run_to_refusal(harness, "other", "r2", resume=[{"interruptId": "i1", "status": "cancelled"}])
        # Nothing of it is left behind, and the run's id may be used.
        assert await collect(await runner.connect("t")) == before
        assert len(await harness.runs()) == 1
        assert (await harness.run("hi", agent="b", thread_id="t2", run_id="r2")).state == "completed"


@pytest.mark.parametrize(
    ("entry", "decision"),
    [
        ({"status": "resolved", "payload": APPROVED}, "approve"),
        ({"status": "resolved", "payload": {"approved": False}}, "reject"),
        ({"status": "cancelled"}, "reject"),
        ({"status": "resolved", "payload": {"approved": True, "editedArgs": {"sum": 3}}}, "edit"),
        ({"status": "resolved", "payload": "whatever it asked for"}, "approve"),
    ],
)
async def test_a_stock_clients_answer_is_a_decision(memory_factory, entry, decision):
    agent, runner = Asking(), memory_factory()
    async with Harness(runner, {"a": agent}) as harness:
        stream = await runner.run(harness.agents["a"], make_input("t", "r", ["hi"]), scope="me")
        assert (await collect(stream))[-1]["outcome"]["type"] == "interrupt"
        given = make_input("t", "r2", ["hi"], resume=[{"interruptId": "i1", **entry}])
        events = await collect(await runner.run(harness.agents["a"], given, scope="me"))
        assert event_types(events)[-1] == "RUN_FINISHED"
        assert agent.answered == [[{"interruptId": "i1", **entry}]]
        approval = await harness.approval("r/i1")
        assert (approval.decision, approval.by) == (decision, "me")
        record = await harness.run_record("r2")
        assert (record.run_id, record.state) == ("r", "completed")


async def test_a_client_and_a_colleague_answer_at_once(runner):
    """Whoever decides, the agent is started for it once."""
    agent = Asking()
    async with Harness(runner, {"a": agent}) as harness:
        for number in range(20):
            agent.answered.clear()
            thread = f"t{number}"
            await harness.run("hi", thread_id=thread, run_id=f"r{number}")
            entry = {"interruptId": "i1", "status": "resolved", "payload": {"approved": False}}

            async def client(thread=thread, number=number, entry=entry):
                await collect(await runner.run(harness.agents["a"], make_input(thread, f"c{number}", resume=[entry])))

            outcomes = await asyncio.gather(
                client(), harness.resume(thread_id=thread, decision="approve"), return_exceptions=True
            )
            (answered,) = agent.answered
            approval = await harness.approval(f"r{number}/i1")
            assert answered[0]["payload"]["approved"] == (approval.decision == "approve")
            assert isinstance(outcomes[1], (AlreadyDecided, ApprovalNotFound)) == (approval.decision == "reject")
            assert (await harness.wait(f"r{number}")).state == "completed"


async def test_several_interrupts_are_decided_one_by_one(runner):
    agent = Asking(interrupt("i1", "c1"), interrupt("i2"), interrupt("i3"))
    async with Harness(runner, {"a": agent}) as harness:
        result = await harness.run("hi", thread_id="t", run_id="r")
        assert [each.approval_id for each in result.approvals] == ["r/i1", "r/i2", "r/i3"]
        with pytest.raises(InvalidInput, match="which one"):
            await harness.resume(thread_id="t", decision="edit", edited_input={})
        result = await harness.resume(approval_id="r/i2", decision="reject")
        assert (result.state, [each.interrupt_id for each in result.approvals]) == (
            "waiting_for_approval",
            ["i1", "i3"],
        )
        assert await harness.resume(approval_id="r/i2", decision="reject") == result
        with pytest.raises(InterruptsOpen):
            await run_to_refusal(
                harness, "t", resume=[{"interruptId": "i1", "status": "resolved", "payload": APPROVED}]
            )
        with pytest.raises(AlreadyDecided):
            await run_to_refusal(
                harness, "t",
                resume=[{"interruptId": f"i{n}", "status": "resolved", "payload": APPROVED} for n in (1, 2, 3)],
            )  # fmt: skip
        assert agent.answered == []
        result = await harness.resume(thread_id="t", decision="approve")
        assert result.state == "completed"
        assert [[each["interruptId"], each["payload"]["approved"]] for each in agent.answered[0]] == [
            ["i1", True], ["i2", False], ["i3", True],
        ]  # fmt: skip


async def test_a_client_answers_the_rest(runner):
    agent = Asking(interrupt("i1"), interrupt("i2"))
    async with Harness(runner, {"a": agent}) as harness:
        await harness.run("hi", thread_id="t", run_id="r")
        await harness.resume(approval_id="r/i1", decision="approve", by="a colleague")
        entries = [{"interruptId": "i2", "status": "cancelled"}]
        await collect(await runner.run(harness.agents["a"], make_input("t", "r2", resume=entries)))
        assert agent.answered == [
            [
                {"interruptId": "i1", "status": "resolved", "payload": APPROVED},
                {"interruptId": "i2", "status": "cancelled"},
            ]
        ]
