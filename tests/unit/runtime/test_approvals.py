"""Approvals: a run that waits for one, in whatever way it is given, and what is remembered of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agentrunner import InMemoryAgentRunner
from agentrunner.errors import ApprovalExpired, ApprovalNotFound, InterruptsOpen, InvalidInput
from agentrunner.runtime import (
    AgentRuntime,
    Completed,
    Decision,
    Interrupted,
    RuntimeConfig,
    Session,
    Tool,
    ToolErrorRecovery,
)
from agentrunner.runtime import session as sessions
from agentrunner.runtime.session import Sessions
from support.inputs import make_input
from support.scripted_model import Crash, Dying, Model, Script, calls, raising, run, says, session_in, shown


class Bank:
    """A tool that must be asked for, and one that need not."""

    def __init__(self, **options: Any) -> None:
        self.paid: list[str] = []
        self.tools = [Tool(self.pay, policy="ask", **options), Tool(self.look)]

    def pay(self, to: str, amount: int = 1) -> str:
        self.paid.append(f"{amount} to {to}")
        return f"paid {amount} to {to}"

    def look(self) -> str:
        return f"{len(self.paid)} payments"


def answer(*entries: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"interruptId": f"int-{call}", "status": "resolved", "payload": payload} for call, payload in entries]


def asking(*llm: Any, config: RuntimeConfig | None = None, **options: Any) -> tuple[Bank, Script, AgentRuntime]:
    bank = Bank(**options)
    script = Script(calls(("c1", "look", {}), ("c2", "pay", {"to": "bob"})), *llm)
    return bank, script, AgentRuntime(script, tools=bank.tools, config=config)


@pytest.mark.parametrize(
    ("payload", "paid", "result"),
    [
        ({"approved": True}, ["1 to bob"], "paid 1 to bob"),
        ({"approved": True, "editedArgs": {"to": "eve", "amount": 3}}, ["3 to eve"], "paid 3 to eve"),
        ({"approved": False, "reason": "too much"}, [], "The user has rejected this call: too much"),
        ({"approved": False}, [], "The user has rejected this call."),
    ],
)
async def test_a_run_waits_and_the_next_goes_on(payload: Any, paid: list[str], result: str) -> None:
    bank, llm, agent = asking(says("done"))
    async with InMemoryAgentRunner() as runner:
        asked = make_input("t1", "r1", ["go"]) | {"state": {"page": 1}}
        events = await run(runner, agent, asked)
        assert shown(events)[-4:] == ["STEP_FINISHED", "STATE_SNAPSHOT", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]
        assert events[-3]["snapshot"] == {"page": 1}
        [interrupt] = events[-1]["outcome"]["interrupts"]
        assert (interrupt["id"], interrupt["reason"], interrupt["toolCallId"]) == ("int-c2", "tool_call", "c2")
        assert interrupt["metadata"] == {"tool": "pay", "input": {"to": "bob"}, "checkpoint": "t1/00000003"}
        assert "expiresAt" not in interrupt
        session = await session_in(await runner.opened())
        assert session.outcome == Interrupted([interrupt])
        assert not bank.paid

        events = await run(runner, agent, make_input("t1", "r2", resume=answer(("c2", payload))))
        assert shown(events)[-1] == "RUN_FINISHED"
        assert bank.paid == paid
        # Nothing of the turn is done before all of it may be: the look was in time.
        assert [e["content"] for e in events if e["type"] == "TOOL_CALL_RESULT"] == ["0 payments", result]
        session = await session_in(await runner.opened())
        assert session.outcome == Completed("done")
        assert session.messages == await runner.threads.messages("t1")
        told = llm.requests[1].messages[-1]["content"]
        edited = '(The arguments were changed by the user: {"to":"eve","amount":3})\n'
        assert told == (edited if "editedArgs" in payload else "") + result


async def test_who_cancels_has_rejected() -> None:
    bank, _, agent = asking(says("done"))
    async with InMemoryAgentRunner() as runner:
        await run(runner, agent, make_input("t1", "r1", ["go"]))
        cancelled = [{"interruptId": "int-c2", "status": "cancelled"}]
        events = await run(runner, agent, make_input("t1", "r2", resume=cancelled))
        assert shown(events)[-1] == "RUN_FINISHED"
    assert not bank.paid


async def test_what_does_not_answer_the_interrupts_changes_nothing() -> None:
    bank = Bank()
    agent = AgentRuntime(
        Script(calls(("c1", "pay", {"to": "a"}), ("c2", "pay", {"to": "b"})), says("done")), tools=bank.tools
    )
    yes = {"approved": True}
    async with InMemoryAgentRunner() as runner:
        await run(runner, agent, make_input("t1", "r1", ["go"]))
        before = await session_in(await runner.opened())
        for number, (fields, why) in enumerate([
            ({"messages": [{"id": "x", "role": "user", "content": "and?"}]}, "has open interrupts"),
            ({"resume": answer(("c1", yes))}, "int-c2"),
            ({"resume": answer(("c1", yes), ("c2", yes), ("c3", yes))}, "no open interrupt.*int-c3"),
            ({"resume": answer(("c1", yes), ("c1", yes), ("c2", yes))}, "twice"),
            ({"resume": answer(("c1", yes), ("c2", "yes"))}, "must be an object with"),
            ({"resume": answer(("c1", yes), ("c2", {"approved": 1}))}, "must be an object with"),
            ({"resume": answer(("c1", yes), ("c2", yes | {"editedArgs": [1]}))}, "must be an object"),
            ({"resume": answer(("c1", yes), ("c2", yes | {"editedArgs": {"amount": 2}}))}, "to: Field required"),
        ]):  # fmt: skip
            events = await run(runner, agent, make_input("t1", f"bad{number}") | fields)
            assert [event["type"] for event in events] == ["RUN_ERROR"]
            with pytest.raises(AssertionError, match=why):
                raise AssertionError(events[0]["message"])
        assert await session_in(await runner.opened()) == before
        assert not bank.paid
        await run(runner, agent, make_input("t1", "r2", resume=answer(("c1", yes), ("c2", yes))))
    assert bank.paid == ["1 to a", "1 to b"]


async def test_the_errors_are_typed() -> None:
    agent = asking(says("done"))[2]
    await agent.create_session("s")
    with pytest.raises(ApprovalNotFound):
        await agent.run_turn("s", resume=answer(("c2", {"approved": True})))
    assert isinstance((await agent.run_turn("s", "go")).outcome, Interrupted)
    with pytest.raises(InterruptsOpen):
        await agent.run_turn("s", "and?")
    with pytest.raises(ApprovalNotFound):
        await agent.run_turn("s", resume=answer(("c1", {"approved": True}), ("c2", {"approved": True})))
    with pytest.raises(InvalidInput):
        await agent.run_turn("s", resume=answer(("c2", None)))
    assert (await agent.run_turn("s", resume=answer(("c2", {"approved": True})))).outcome == Completed("done")


async def test_an_answer_given_twice_does_nothing_twice() -> None:
    bank, _, agent = asking(says("done"))
    async with InMemoryAgentRunner() as runner:
        await run(runner, agent, make_input("t1", "r1", ["go"]))
        yes = answer(("c2", {"approved": True}))
        await run(runner, agent, make_input("t1", "r2", resume=yes))
        events = await run(runner, agent, make_input("t1", "r3", resume=yes))
        assert shown(events) == [
            "RUN_STARTED", "MESSAGES_SNAPSHOT",
            "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "RUN_FINISHED",
        ]  # fmt: skip
        assert (await session_in(await runner.opened())).messages == await runner.threads.messages("t1")
    assert bank.paid == ["1 to bob"]


async def test_after_its_time_an_approval_can_only_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, _, agent = asking(says("done"), config=RuntimeConfig(approval_expires=60))
    await agent.create_session("s")
    outcome = (await agent.run_turn("s", "go")).outcome
    assert isinstance(outcome, Interrupted)
    assert outcome.interrupts[0]["expiresAt"].endswith("Z")
    now = sessions.now_ms()
    monkeypatch.setattr("agentrunner.runtime.approvals.now_ms", lambda: now + 61_000)
    with pytest.raises(ApprovalExpired):
        await agent.run_turn("s", resume=answer(("c2", {"approved": True})))
    cancelled = [{"interruptId": "int-c2", "status": "cancelled"}]
    assert (await agent.run_turn("s", resume=cancelled)).outcome == Completed("done")
    assert not bank.paid


@pytest.mark.parametrize("said", [True, False, Decision(True, {"to": "eve"}), Decision(False, reason="no"), None])
async def test_a_handler_decides_at_once(said: Any) -> None:
    bank = Bank()
    asked = []

    async def handler(request):
        asked.append((request.id, request.session_id, request.call.name, request.arguments))
        return said

    llm = Script(calls(("c2", "pay", {"to": "bob"})), says("done"))
    agent = AgentRuntime(llm, tools=bank.tools, approval_handler=handler)
    await agent.create_session("s")
    outcome = (await agent.run_turn("s", "go")).outcome
    assert asked == [("int-c2", "s", "pay", {"to": "bob"})]
    assert isinstance(outcome, Interrupted if said is None else Completed)
    approved = said is True or (isinstance(said, Decision) and said.approved)
    assert bank.paid == ([] if not approved else ["1 to eve" if isinstance(said, Decision) else "1 to bob"])


async def test_what_a_handler_has_decided_is_not_asked_again() -> None:
    bank = Bank()
    asked = []

    def handler(request):
        asked.append(request.call.id)
        return {"c1": True, "c2": False}.get(request.call.id)

    made = [(call, "pay", {"to": call}) for call in ("c1", "c2", "c3")]
    agent = AgentRuntime(Script(calls(*made), says("done")), tools=bank.tools, approval_handler=handler)
    await agent.create_session("s")
    outcome = (await agent.run_turn("s", "go")).outcome
    assert isinstance(outcome, Interrupted)
    assert [one["toolCallId"] for one in outcome.interrupts] == ["c3"]
    assert (await agent.run_turn("s", resume=answer(("c3", {"approved": True})))).outcome == Completed("done")
    assert asked == ["c1", "c2", "c3"]
    assert bank.paid == ["1 to c1", "1 to c3"]


async def test_an_approval_is_for_one_call_unless_it_is_to_be_remembered() -> None:
    other = calls(("c4", "pay", {"amount": 1, "to": "eve"}))
    for remember in (False, True):
        bank, _, agent = asking(calls(("c3", "pay", {"to": "bob"})), other, says("done"))
        await agent.create_session("s")
        await agent.run_turn("s", "go")
        outcome = (await agent.run_turn("s", resume=answer(("c2", {"approved": True, "remember": remember})))).outcome
        assert isinstance(outcome, Interrupted)
        assert outcome.interrupts[0]["toolCallId"] == ("c4" if remember else "c3")
        assert bank.paid == ["1 to bob"] * (2 if remember else 1)


async def test_what_is_remembered_is_the_action_and_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = Bank(action_key=lambda arguments: arguments["to"])
    asked = []

    def handler(request):
        asked.append(request.action_key)
        return Decision(True, remember=True)

    llm = Script(
        calls(("c1", "pay", {"to": "bob", "amount": 1}), ("c2", "pay", {"to": "bob", "amount": 2})), says("one"),
        calls(("c3", "pay", {"to": "bob", "amount": 3})), says("two"),
        calls(("c4", "pay", {"to": "bob", "amount": 4})), says("three"),
    )  # fmt: skip
    config = RuntimeConfig(approval_ttl=60)
    agent = AgentRuntime(llm, tools=bank.tools, approval_handler=handler, config=config)
    await agent.create_session("s")
    await agent.run_turn("s", "go")
    await agent.run_turn("s", "go on")
    assert asked == ["pay:bob"]
    now = sessions.now_ms()
    monkeypatch.setattr("agentrunner.runtime.tool_calls.now_ms", lambda: now + 61_000)
    await agent.run_turn("s", "and on")
    assert asked == ["pay:bob"] * 2
    assert len(bank.paid) == 4


async def test_what_was_edited_is_not_what_was_approved() -> None:
    edited = Decision(True, {"to": "eve"}, remember=True)
    asked = []

    def handler(request):
        asked.append(request.call.id)
        return edited

    for given in (handler, None):
        bank, _, agent = asking(calls(("c3", "pay", {"to": "bob"})), says("done"))
        agent._turns.resources = replace(agent._turns.resources, approval_handler=given)
        await agent.create_session("s")
        result = await agent.run_turn("s", "go")
        for call in ("c2", "c3"):
            if given is None:
                result = await agent.run_turn("s", resume=answer((call, edited.to_json())))
        assert result.outcome == Completed("done")
        assert bank.paid == ["1 to eve"] * 2
    assert asked == ["c2", "c3"]


async def test_a_call_that_is_run_again_is_the_one_that_was_approved() -> None:
    bank, store = Bank(idempotent=True), Dying(at=5)
    llm = Model(calls(("c1", "pay", {"to": "bob"})), says("done"))
    handlers = [lambda request: Decision(True, {"to": "eve"}), raising(AssertionError("asked twice"))]
    agents = [
        AgentRuntime(llm, tools=bank.tools, approval_handler=handler, session_store=store) for handler in handlers
    ]
    await Sessions(store._store).save(Session("s"))
    with pytest.raises(Crash):
        await agents[0].run_turn("s", "go")
    store.survive()
    assert (await agents[1].resume_from_checkpoint("s")).outcome == Completed("done")
    assert bank.paid == ["1 to eve"] * 2


async def test_arguments_that_do_not_fit_are_not_asked_about() -> None:
    bank = Bank()
    llm = Script(calls(("c1", "pay", {"amount": 1})), says("sorry"))
    agent = AgentRuntime(llm, tools=bank.tools, error_recovery=ToolErrorRecovery("stop"))
    await agent.create_session("s")
    assert (await agent.run_turn("s", "go")).outcome == Completed("sorry")
