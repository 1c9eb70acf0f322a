"""Approvals: requested by interrupts, listed, and answered by clients."""

from __future__ import annotations

import pytest

from agentrunner import RecordConflict
from agentrunner.harness import (
    AlreadyDecided,
    ApprovalNotFound,
    Harness,
)
from support.agents import agent_with
from support.events import event_types, text_message
from support.harness import Asking, drain_listeners, interrupt, listen, states
from support.inputs import make_input
from support.streams import collect

APPROVED = {"approved": True}

PAST, FUTURE = "2020-01-01T00:00:00Z", "2120-01-01T00:00:00+00:00"


async def test_run_that_asks_waits_and_continues_when_answered(runner):
    agent = Asking(interrupt("i1", "c1", expiresAt=FUTURE, metadata={"checkpoint": 7}))
    async with Harness(runner, {"a": agent}) as harness:
        seen = listen(harness)
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
        await drain_listeners(harness)
        assert [e.seq for e in seen] == list(range(1, len(seen) + 1))
        assert states(seen) == ["running", "waiting_for_approval", "resuming", "completed"]
        requested, resolved, resumed = (
            next(e for e in seen if e.type == kind)
            for kind in ("approval.requested", "approval.resolved", "run.resumed")
        )
        assert requested.data == {"approval_id": "r/i1", "tool": "pay", "message": "i1?"}
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
    ("entry", "decision"),
    [
        ({"status": "resolved", "payload": APPROVED}, "approve"),
        ({"status": "resolved", "payload": {"approved": False}}, "reject"),
        ({"status": "cancelled"}, "reject"),
        ({"status": "resolved", "payload": {"approved": True, "editedArgs": {"sum": 3}}}, "edit"),
        ({"status": "resolved", "payload": "whatever it asked for"}, "approve"),
    ],
)
async def test_answer_of_a_stock_client_is_a_decision(memory_factory, entry, decision):
    agent, runner = Asking(), memory_factory()
    async with Harness(runner, {"a": agent}) as harness:
        stream = await runner.run(harness.agents["a"], make_input("t", "r", ["hi"]), scope="me")
        assert (await collect(stream))[-1]["outcome"]["type"] == "interrupt"
        answer = make_input("t", "r2", ["hi"], resume=[{"interruptId": "i1", **entry}])
        events = await collect(await runner.run(harness.agents["a"], answer, scope="me"))
        assert event_types(events)[-1] == "RUN_FINISHED"
        assert agent.answered == [[{"interruptId": "i1", **entry}]]
        approval = await harness.approval("r/i1")
        assert (approval.decision, approval.by) == (decision, "me")
        record = await harness.run_record("r2")
        assert (record.run_id, record.state) == ("r", "completed")


async def test_client_answers_what_the_application_left(runner):
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


async def test_run_may_ask_again(runner):
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


async def test_waiting_run_holds_no_slot_and_no_lease(runner):
    async with Harness(
        runner, {"a": Asking(), "b": agent_with(*text_message("m", "hello"))}, max_concurrent_runs=1
    ) as harness:
        await harness.run("hi", agent="a", thread_id="t")
        assert (await harness.run("hi", agent="b", thread_id="t2")).state == "completed"
        store = await runner.open()
        assert await store.live() == []


@pytest.mark.fault("B1")
@pytest.mark.parametrize(
    ("thread_id", "damage"),
    [(5, {}), ("t", {"reason": None}), ("t", {"message": 5}), ("t", {"expiresAt": 5}), ("t", {"id": 5})],
    ids=str,
)
async def test_interrupts_of_a_malformed_event_are_never_asked(memory_factory, thread_id, damage):
    """A run whose questions come in an invalid event fails, without a record of them."""
    outcome = {"type": "interrupt", "interrupts": [interrupt("i1"), {**interrupt("i2"), **damage}]}
    finish = {"type": "RUN_FINISHED", "threadId": thread_id, "runId": "r", "outcome": outcome}
    async with Harness(memory_factory(), {"a": agent_with(*text_message("m", "x"), finish)}) as harness:
        events = listen(harness)
        result = await harness.run("hi", thread_id="t", run_id="r")
        assert (result.state, result.approvals) == ("failed", ())
        assert await harness.approvals(state=None) == []
        with pytest.raises(ApprovalNotFound):
            await harness.resume(approval_id="r/i1", decision="approve")
        await drain_listeners(harness)
        assert [event.type for event in events if event.type.startswith("approval")] == []
        (end,) = [event for event in await harness.runner.threads.events("t") if event.type == "RUN_ERROR"]
        assert end.to_dict()["code"] == "INVALID_EVENT"


async def test_interrupts_of_an_event_over_the_limit_are_withdrawn(memory_factory):
    outcome = {"type": "interrupt", "interrupts": [interrupt("i1", message="x" * 3000)]}
    finish = {"type": "RUN_FINISHED", "threadId": "t", "runId": "r", "outcome": outcome}
    runner = memory_factory(max_event_bytes=2000)
    async with Harness(runner, {"a": agent_with(*text_message("m", "x"), finish)}) as harness:
        result = await harness.run("hi", thread_id="t", run_id="r")
        assert result.state == "failed"
        assert await harness.approvals() == []
        assert len(await harness.approvals(state="withdrawn")) == 1
        with pytest.raises(AlreadyDecided):
            await harness.resume(approval_id="r/i1", decision="approve")


async def test_approval_that_cannot_be_written_is_not_asked(runner):
    """An approval without a record is not shown to clients."""
    async with Harness(runner, {"a": Asking()}) as harness:
        store = await runner.open()
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
