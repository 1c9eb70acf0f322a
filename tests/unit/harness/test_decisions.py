"""Decisions: each approval is decided once, and the agent gets the answer."""

from __future__ import annotations

import asyncio

import pytest

from agentrunner import InvalidInput
from agentrunner.harness import (
    AlreadyDecided,
    ApprovalExpired,
    ApprovalNotFound,
    Harness,
    InterruptsOpen,
    RunRefused,
)
from support.harness import Asking, interrupt, run_to_refusal
from support.inputs import make_input
from support.streams import collect

APPROVED = {"approved": True}

PAST, FUTURE = "2020-01-01T00:00:00Z", "2120-01-01T00:00:00+00:00"


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
async def test_agent_gets_the_decision_as_an_answer(memory_factory, how, entry):
    agent = Asking()
    async with Harness(memory_factory(), {"a": agent}) as harness:
        await harness.run("hi", thread_id="t")
        await harness.resume(thread_id="t", **how)
        assert agent.answered == [[{"interruptId": "i1", **entry}]]


async def test_approval_is_decided_once(runner):
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


async def test_approval_is_decided_by_its_id(runner):
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


async def test_one_of_many_concurrent_decisions_wins(runner):
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


async def test_client_and_application_decide_at_once(runner):
    """A client's answer and the application's decision start the agent once together."""
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
        with pytest.raises(InvalidInput, match="pass its approval_id"):
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


async def test_expired_approval_can_only_be_rejected(runner):
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


async def test_invalid_decision_decides_nothing(runner):
    async with Harness(runner, {"a": Asking()}) as harness:
        await harness.run("hi", thread_id="t", run_id="r")
        for wrong in (
            {"thread_id": "t", "decision": "perhaps"},
            {"thread_id": "t", "decision": "edit"},
            {"thread_id": "t", "decision": "approve", "edited_input": {}},
            {"decision": "approve"},
        ):
            with pytest.raises(InvalidInput):
                await harness.resume(**wrong)
        for where in ({"approval_id": "r/i2"}, {"thread_id": "t2"}, {"thread_id": "t2", "approval_id": "r/i1"}):
            with pytest.raises(ApprovalNotFound):
                await harness.resume(decision="approve", **where)
        with pytest.raises(ApprovalNotFound):
            await harness.approval("none")
        assert len(await harness.approvals()) == 1


YES, NO, EDITED = {"approved": True}, {"approved": False}, {"editedArgs": {"sum": 2}}


@pytest.mark.parametrize(
    ("decision", "how"),
    [
        ("reject", {"payload": YES}),
        ("reject", {"payload": {"approved": 1, "reason": "no"}}),
        ("reject", {"payload": True}),
        ("reject", {"payload": EDITED}),
        ("reject", {"payload": NO | EDITED}),
        ("approve", {"payload": NO}),
        ("approve", {"payload": {"approved": None}}),
        ("approve", {"payload": YES | EDITED}),
        ("edit", {"payload": NO | EDITED}),
        ("edit", {"payload": YES}),
        ("edit", {"payload": YES | EDITED, "edited_input": {"sum": 3}}),
        ("edit", {"payload": {"colour": "red"}, "edited_input": {"sum": 3}}),
    ],
)
async def test_a_payload_cannot_contradict_the_decision(runner, decision, how):
    agent = Asking()
    async with Harness(runner, {"a": agent}) as harness:
        await harness.run("hi", thread_id="t", run_id="r")
        with pytest.raises(InvalidInput, match=f"'r/i1' was not decided: .* contradicts the decision {decision}"):
            await harness.decide("r/i1", decision, **how)
        assert agent.answered == []
        assert [each.approval_id for each in await harness.approvals()] == ["r/i1"]
        assert (await harness.run_record("r")).state == "waiting_for_approval"


@pytest.mark.parametrize(
    ("decision", "payload"),
    [
        ("reject", NO),
        ("reject", NO | {"reason": "no", "remember": True}),
        ("reject", {"comment": "no"}),
        ("approve", YES | {"remember": True}),
        ("approve", False),
        ("approve", "blue"),
        ("edit", YES | EDITED),
        ("edit", {"colour": "red"}),
        ("edit", "red"),
    ],
)
async def test_a_payload_that_fits_the_decision_is_the_answer(memory_factory, decision, payload):
    agent = Asking()
    async with Harness(memory_factory(), {"a": agent}) as harness:
        await harness.run("hi", thread_id="t", run_id="r")
        assert (await harness.decide("r/i1", decision, payload=payload)).state == "completed"
        assert agent.answered == [[{"interruptId": "i1", "status": "resolved", "payload": payload}]]


@pytest.mark.parametrize("payload", ["blue", {"colour": "blue"}, [1], {"approved": 0}])
async def test_an_expired_approval_cannot_be_granted_by_a_payload(runner, payload):
    agent = Asking(interrupt("i1", expiresAt=PAST))
    async with Harness(runner, {"a": agent}) as harness:
        await harness.run("hi", thread_id="t", run_id="r")
        with pytest.raises(ApprovalExpired, match="'r/i1' has expired"):
            await harness.decide("r/i1", "reject", payload=payload)
        assert agent.answered == []
        assert (await harness.decide("r/i1", "reject", payload=NO | {"why": "late"})).state == "completed"
        assert agent.answered[0][0]["payload"] == NO | {"why": "late"}


@pytest.mark.parametrize("payload", [YES, True, YES | EDITED])
async def test_a_client_cannot_cancel_and_approve_at_once(runner, payload):
    agent = Asking(interrupt("i1", expiresAt=PAST))
    async with Harness(runner, {"a": agent}) as harness:
        await harness.run("hi", thread_id="t", run_id="r")
        with pytest.raises(RunRefused, match="'r/i1' was not decided: its answer is cancelled"):
            await run_to_refusal(
                harness, "t", resume=[{"interruptId": "i1", "status": "cancelled", "payload": payload}]
            )
        assert agent.answered == []
        assert (await harness.approval("r/i1")).open


def nest(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "how",
    [
        {"decision": "reject", "reason": ["no"]},
        {"decision": "approve", "by": "\ud800"},
        {"decision": "approve", "by": 5},
        {"decision": "approve", "decision_id": "\ud800"},
        {"decision": "approve", "decision_id": 5},
        {"decision": "approve", "payload": float("nan")},
        {"decision": "approve", "payload": {1, 2}},
        {"decision": "approve", "payload": b"bytes"},
        {"decision": "approve", "payload": object()},
        {"decision": "edit", "edited_input": {"sum": float("inf")}},
        {"decision": "edit", "edited_input": {"deep": nest(125)}},
        {"decision": "edit", "edited_input": {"deep": nest(300)}},
        {"decision": "edit", "edited_input": {"deep": nest(5000)}},
    ],
    ids=[
        "list-reason",
        "surrogate-by",
        "number-by",
        "surrogate-id",
        "number-id",
        "nan",
        "set",
        "bytes",
        "object",
        "infinity",
        "too-deep-for-a-run",
        "too-deep-for-a-model",
        "too-deep-for-json",
    ],
)
async def test_an_answer_that_cannot_be_passed_on_decides_nothing(runner, how):
    agent = Asking()
    async with Harness(runner, {"a": agent}) as harness:
        await harness.run("hi", thread_id="t", run_id="r")
        with pytest.raises(InvalidInput, match="'r/i1'"):
            await harness.resume(approval_id="r/i1", **how)
        assert (await harness.approval("r/i1")).open
        assert (await harness.run_record("r")).state == "waiting_for_approval"
        assert (await harness.decide("r/i1", "approve")).state == "completed"
        assert len(agent.answered) == 1


async def test_a_decision_is_compared_as_json(runner):
    async with Harness(runner, {"a": Asking()}) as harness:
        await harness.run("hi", thread_id="t", run_id="r")
        first = await harness.decide("r/i1", "approve", payload={"range": (1, 2), 3: None})
        assert await harness.decide("r/i1", "approve", payload={"range": (1, 2), 3: None}) == first
