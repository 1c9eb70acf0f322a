"""Approvals of the harness: asked for, decided once, and told to the agent."""

from __future__ import annotations

import asyncio

import pytest

from agentrunner import InvalidInput, RecordConflict
from agentrunner.harness import (
    AlreadyDecided,
    ApprovalExpired,
    ApprovalNotFound,
    Harness,
    InterruptsOpen,
    RunRefused,
)
from support.agents import agent_with
from support.events import text_message
from support.harness import Asking, interrupt, states, told
from support.harness_approvals import APPROVED, run_to_refusal
from support.inputs import make_input
from support.streams import collect

PAST, FUTURE = "2020-01-01T00:00:00Z", "2120-01-01T00:00:00+00:00"


async def test_a_run_that_asks_waits_and_goes_on_when_it_is_answered(runner):
    agent = Asking(interrupt("i1", "c1", expiresAt=FUTURE, metadata={"checkpoint": 7}))
    async with Harness(runner, {"a": agent}) as harness:
        seen = told(harness)
        result = await harness.run("hi", thread_id="t", run_id="r")
        assert (result.state, result.content) == ("waiting_for_approval", "May I?")
        (approval,) = result.approvals
        assert approval.approval_id == "r/i1"
        assert (approval.tool, approval.input, approval.message) == ("pay", {"sum": 1}, "i1?")
        assert (approval.checkpoint, approval.agent, approval.thread_id) == ("7", "a", "t")
        assert approval.expires_at == 4_733_510_400_000
        assert (
            await harness.approvals() == await harness.approvals("t") == [await harness.approval("r/i1")] == [approval]
        )
        assert await harness.approvals("other") == await harness.approvals(state="approved") == []
        assert not await runner.is_running("t")

        result = await harness.resume(approval_id="r/i1", decision="approve", by="me", decision_id="d1")
        assert (result.run_id, result.state, result.content) == ("r", "completed", "Done: {'approved': True}")
        assert agent.answered == [
            [{"interruptId": "i1", "status": "resolved", "payload": APPROVED}],
        ]
        assert [m.content for m in agent.inputs[1].messages if m.role == "user"] == ["hi"]
        approval = await harness.approval("r/i1")
        assert (approval.decision, approval.by, approval.decision_id) == ("approve", "me", "d1")
        assert await harness.approvals() == []
        assert await harness.approvals(state="approved") == [approval]
        await harness._state.bus.drain()
        assert [e.seq for e in seen] == list(range(1, len(seen) + 1))
        assert states(seen) == ["running", "waiting_for_approval", "resuming", "completed"]
        asked, resolved, resumed = (
            next(e for e in seen if e.type == kind)
            for kind in ("approval.requested", "approval.resolved", "run.resumed")
        )
        assert asked.data == {"approval_id": "r/i1", "tool": "pay", "message": "i1?"}
        assert resolved.data == {"approval_id": "r/i1", "decision": "approve", "by": "me"}
        assert resumed.data == {"kind": "in-process", "attempt": 1}
        waiting = next(e for e in seen if e.data.get("state") == "waiting_for_approval")
        assert waiting.data["checkpoint"] == "7"
        assert waiting.data["previous"] == "running"
        assert [e.seq for e in await harness.events("r") if not e.type.endswith("delta")] == [
            e.seq for e in seen if not e.type.endswith("delta")
        ]
        record = await harness.run_record("r")
        assert len(record.attempt_runs) == 2
        assert await harness.run_record(record.attempt_runs[1].run_id) == record


@pytest.mark.parametrize(
    ("how", "entry"),
    [
        ({"decision": "approve"}, {"status": "resolved", "payload": APPROVED}),
        (
            {"decision": "edit", "edited_input": {"sum": 2}},
            {"status": "resolved", "payload": {"approved": True, "editedArgs": {"sum": 2}}},
        ),
        ({"decision": "reject"}, {"status": "resolved", "payload": {"approved": False}}),
        (
            {"decision": "reject", "reason": "too much"},
            {"status": "resolved", "payload": {"approved": False, "reason": "too much"}},
        ),
        (
            {"decision": "approve", "payload": [1, {"any": "thing"}]},
            {"status": "resolved", "payload": [1, {"any": "thing"}]},
        ),
    ],
)
async def test_what_the_agent_is_told(memory_factory, how, entry):
    agent = Asking()
    async with Harness(memory_factory(), {"a": agent}) as harness:
        await harness.run("hi", thread_id="t")
        await harness.resume(thread_id="t", **how)
        assert agent.answered == [[{"interruptId": "i1", **entry}]]


async def test_a_decision_is_made_once(runner):
    agent = Asking()
    async with Harness(runner, {"a": agent}) as harness:
        await harness.run("hi", thread_id="t", run_id="r")
        first = await harness.resume(thread_id="t", decision="approve", decision_id="d1", by="me")
        again = [
            await harness.resume(approval_id="r/i1", decision="approve"),
            await harness.resume(approval_id="r/i1", decision="reject", decision_id="d1"),
            await harness.resume(thread_id="t", decision="approve", decision_id="d1"),
        ]
        assert again == [first] * 3
        for how in (
            {"decision": "reject"},
            {"decision": "edit", "edited_input": {}},
            {"decision": "approve", "payload": 1},
        ):
            with pytest.raises(AlreadyDecided, match="by me: approve"):
                await harness.resume(approval_id="r/i1", decision_id="d2", **how)
        with pytest.raises(ApprovalNotFound):
            await harness.resume(thread_id="t", decision="approve")
        with pytest.raises(AlreadyDecided):
            await run_to_refusal(
                harness, "t", resume=[{"interruptId": "i1", "status": "resolved", "payload": APPROVED}]
            )
        assert len(agent.answered) == 1
        assert (await harness.approval("r/i1")).decision_id == "d1"


async def test_one_approval_is_decided_by_its_id(runner):
    agent = Asking(interrupt("i1", "c1"), interrupt("i2"))
    async with Harness(runner, {"a": agent}) as harness:
        await harness.run("hi", thread_id="t", run_id="r")
        result = await harness.decide("r/i1", "reject", reason="too much", by="ann")
        assert (result.state, [each.approval_id for each in result.approvals]) == ("waiting_for_approval", ["r/i2"])
        assert (await harness.approval("r/i1")).by == "ann"
        with pytest.raises(InvalidInput, match="'r/i2' can be decided with approve, reject or edit, not with 'allow'"):
            await harness.decide("r/i2", "allow")
        with pytest.raises(ApprovalNotFound, match="'r/i3'"):
            await harness.decide("r/i3", "approve")
        assert (await harness.decide("r/i2", "edit", edited_input={"sum": 2})).state == "completed"
        assert [entry["payload"] for entry in agent.answered[0]] == [
            {"approved": False, "reason": "too much"}, {"approved": True, "editedArgs": {"sum": 2}},
        ]  # fmt: skip


async def test_of_many_at_once_one_decides(runner):
    agent = Asking()
    async with Harness(runner, {"a": agent}) as harness, Harness(runner, {"a": agent}) as other:
        await harness.run("hi", thread_id="t", run_id="r")
        how = [
            {"decision": "approve"},
            {"decision": "reject"},
            {"decision": "edit", "edited_input": {"sum": 2}},
        ] * 3
        outcomes = await asyncio.gather(
            *[(harness, other)[n % 2].resume(approval_id="r/i1", **each) for n, each in enumerate(how)],
            return_exceptions=True,
        )
        decision = (await harness.approval("r/i1")).decision
        assert len(agent.answered) == 1
        for each, outcome in zip(how, outcomes, strict=True):
            if each["decision"] == decision:
                assert outcome.state == "completed"
            else:
                assert isinstance(outcome, AlreadyDecided)


async def test_a_run_may_ask_again(runner):
    agent = Asking(rounds=3)
    async with Harness(runner, {"a": agent}) as harness:
        result = await harness.run("hi", thread_id="t", run_id="r")
        for _ in range(3):
            assert result.state == "waiting_for_approval"
            result = await harness.resume(approval_id=result.approvals[0].approval_id, decision="approve")
        assert result.state == "completed"
        record = await harness.run_record("r")
        assert len(record.attempt_runs) == 4
        assert record.attempts == 1
        seqs = [event.seq for event in await harness.events("r")]
        assert seqs == sorted(set(seqs))
        assert len(await harness.approvals(state="approved")) == 3


async def test_an_expired_approval_can_only_be_rejected(runner):
    agent = Asking(interrupt("i1", expiresAt=PAST))
    async with Harness(runner, {"a": agent}) as harness:
        await harness.run("hi", thread_id="t", run_id="r")
        assert await harness.approvals() == []
        assert [each.approval_id for each in await harness.approvals(state="expired")] == ["r/i1"]
        with pytest.raises(ApprovalExpired):
            await harness.resume(thread_id="t", decision="approve")
        with pytest.raises(ApprovalExpired):
            await run_to_refusal(
                harness, "t", resume=[{"interruptId": "i1", "status": "resolved", "payload": APPROVED}]
            )
        with pytest.raises(InterruptsOpen):
            await harness.run("new", thread_id="t")
        assert (await harness.resume(thread_id="t", decision="reject")).state == "completed"
        assert agent.answered[0][0]["payload"] == {"approved": False}


async def test_what_is_no_decision_decides_nothing(runner):
    async with Harness(runner, {"a": Asking()}) as harness:
        await harness.run("hi", thread_id="t", run_id="r")
        for wrong in (
            {"thread_id": "t", "decision": "perhaps"},
            {"thread_id": "t", "decision": "edit"},
            {"thread_id": "t", "decision": "approve", "edited_input": {}},
            {"decision": "approve"},
            {"thread_id": "t", "approval_id": "r/i1", "decision": "approve"},
        ):
            with pytest.raises(InvalidInput):
                await harness.resume(**wrong)
        for where in ({"approval_id": "r/i2"}, {"thread_id": "t2"}):
            with pytest.raises(ApprovalNotFound):
                await harness.resume(decision="approve", **where)
        with pytest.raises(ApprovalNotFound):
            await harness.approval("none")
        assert len(await harness.approvals()) == 1


async def test_a_waiting_run_holds_nothing(runner):
    async with Harness(
        runner, {"a": Asking(), "b": agent_with(*text_message("m", "hello"))}, max_concurrent_runs=1
    ) as harness:
        await harness.run("hi", agent="a", thread_id="t")
        assert (await harness.run("hi", agent="b", thread_id="t2")).state == "completed"
        store = await runner.opened()
        assert await store.live() == []


async def test_a_waiting_run_is_cancelled(runner):
    agent = Asking()
    async with Harness(runner, {"a": agent}) as harness:
        seen = told(harness)
        await harness.run("hi", thread_id="t", run_id="r")
        assert await harness.cancel("r")
        assert not await harness.cancel("r")
        assert (await harness.wait("r")).state == "cancelled"
        assert await harness.approvals() == []
        assert [each.approval_id for each in await harness.approvals(state="withdrawn")] == ["r/i1"]
        with pytest.raises(AlreadyDecided):
            await harness.resume(approval_id="r/i1", decision="approve")
        # Clients are told by the thread that nothing is to be answered any more.
        last = (await collect(await runner.connect("t")))[-1]
        assert (last["type"], last["outcome"]) == ("RUN_FINISHED", {"type": "cancelled"})
        await harness._state.bus.drain()
        assert states(seen) == ["running", "waiting_for_approval", "cancelled"]
        agent.answered.append([])
        assert (await harness.run("new", thread_id="t")).state == "completed"


async def test_an_interrupt_that_breaks_the_order_is_not_asked(memory_factory):
    """The stream says that it waits while a message is open: it is refused, and with it what it asks."""
    events = [
        *text_message("m", "x")[:2],
        {
            "type": "RUN_FINISHED",
            "threadId": "t",
            "runId": "r",
            "outcome": {"type": "interrupt", "interrupts": [interrupt("i1")]},
        },
    ]
    async with Harness(memory_factory(), {"a": agent_with(*events)}) as harness:
        result = await harness.run("hi", thread_id="t", run_id="r")
        assert result.state == "failed"
        assert await harness.approvals() == []
        assert len(await harness.approvals(state="withdrawn")) == 1
        with pytest.raises(AlreadyDecided):
            await harness.resume(approval_id="r/i1", decision="approve")


async def test_what_cannot_be_written_is_not_asked(runner):
    """An approval that is not on record is not shown either."""
    async with Harness(runner, {"a": Asking()}) as harness:
        store = await runner.opened()
        write = store.write

        async def refusing(changes, claim=None):
            if any(change.kind == "approval" for change in changes):
                raise RecordConflict("approval", "r/i1")
            return await write(changes, claim)

        store.write = refusing
        stream = await runner.run(harness.agents["a"], make_input("t", "r"))
        events = await collect(stream)
        assert "outcome" not in events[-1]
        assert events[-1]["type"] == "RUN_ERROR"
        store.write = write
        assert (await harness.wait("r")).state == "failed"
        assert await harness.approvals(state=None) == []


async def test_only_the_agent_that_asked_is_answered(runner):
    async with Harness(runner, {"a": Asking(), "b": agent_with()}) as harness:
        await harness.run("hi", agent="a", thread_id="t")
        agent = harness.agents["b"].clone()
        entries = [{"interruptId": "i1", "status": "cancelled"}]
        await collect(await runner.run(agent, make_input("t", "r2", resume=entries)))
        assert isinstance(agent.refusal, ApprovalNotFound)
        assert isinstance(agent.refusal, RunRefused)
