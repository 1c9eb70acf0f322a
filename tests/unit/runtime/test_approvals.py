"""Approvals: runs that wait for decisions, the ways to decide, and remembered approvals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agentrunner import InMemoryAgentRunner
from agentrunner.errors import ApprovalExpired, ApprovalNotFound, InterruptsOpen, InvalidInput
from agentrunner.records.times import now_ms
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
from agentrunner.runtime.session import Sessions
from support.inputs import make_input
from support.scripted_model import (
    CrashingStore,
    ScriptedModel,
    SimulatedCrash,
    StatelessModel,
    call_tools,
    collect_run,
    load_session,
    raise_when_called,
    reply,
    summarize,
)


class Bank:
    """A tool that needs an approval, and one that does not."""

    def __init__(self, **options: Any) -> None:
        self.paid: list[str] = []
        self.tools = [Tool(self.pay, policy="ask", **options), Tool(self.look)]

    def pay(self, to: str, amount: int = 1) -> str:
        self.paid.append(f"{amount} to {to}")
        return f"paid {amount} to {to}"

    def look(self) -> str:
        return f"{len(self.paid)} payments"


def resolve(*entries: tuple[str, Any]) -> list[dict[str, Any]]:
    return [{"interruptId": f"int-{call}", "status": "resolved", "payload": payload} for call, payload in entries]


def make_agent(
    *llm: Any, config: RuntimeConfig | None = None, **options: Any
) -> tuple[Bank, ScriptedModel, AgentRuntime]:
    bank = Bank(**options)
    script = ScriptedModel(call_tools(("c1", "look", {}), ("c2", "pay", {"to": "bob"})), *llm)
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
async def test_a_run_waits_and_the_next_run_continues_it(payload: Any, paid: list[str], result: str) -> None:
    bank, llm, agent = make_agent(reply("done"))
    async with InMemoryAgentRunner() as runner:
        events = await collect_run(runner, agent, make_input("t1", "r1", ["go"]) | {"state": {"page": 1}})
        assert summarize(events)[-4:] == ["STEP_FINISHED", "STATE_SNAPSHOT", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]
        assert events[-3]["snapshot"] == {"page": 1}
        [interrupt] = events[-1]["outcome"]["interrupts"]
        assert (interrupt["id"], interrupt["reason"], interrupt["toolCallId"]) == ("int-c2", "tool_call", "c2")
        assert interrupt["metadata"] == {"tool": "pay", "input": {"to": "bob"}, "checkpoint": "t1/00000003"}
        assert "expiresAt" not in interrupt
        session = await load_session(await runner.open())
        assert session.outcome == Interrupted([interrupt])
        assert not bank.paid

        events = await collect_run(runner, agent, make_input("t1", "r2", resume=resolve(("c2", payload))))
        assert summarize(events)[-1] == "RUN_FINISHED"
        assert bank.paid == paid
        # No call of a response runs before every call may run, so `look` saw no payment.
        assert [e["content"] for e in events if e["type"] == "TOOL_CALL_RESULT"] == ["0 payments", result]
        session = await load_session(await runner.open())
        assert session.outcome == Completed("done")
        assert session.messages == await runner.threads.messages("t1")
        seen_by_model = llm.requests[1].messages[-1]["content"]
        edited = '(The arguments were changed by the user: {"to":"eve","amount":3})\n'
        assert seen_by_model == (edited if "editedArgs" in payload else "") + result


async def test_cancelling_an_interrupt_rejects_the_call() -> None:
    bank, _, agent = make_agent(reply("done"))
    async with InMemoryAgentRunner() as runner:
        await collect_run(runner, agent, make_input("t1", "r1", ["go"]))
        cancelled = [{"interruptId": "int-c2", "status": "cancelled"}]
        events = await collect_run(runner, agent, make_input("t1", "r2", resume=cancelled))
        assert summarize(events)[-1] == "RUN_FINISHED"
    assert not bank.paid


async def test_a_run_that_does_not_decide_every_interrupt_changes_nothing() -> None:
    bank = Bank()
    agent = AgentRuntime(
        ScriptedModel(call_tools(("c1", "pay", {"to": "a"}), ("c2", "pay", {"to": "b"})), reply("done")),
        tools=bank.tools,
    )
    yes = {"approved": True}
    async with InMemoryAgentRunner() as runner:
        await collect_run(runner, agent, make_input("t1", "r1", ["go"]))
        before = await load_session(await runner.open())
        for number, (fields, message) in enumerate([
            ({"messages": [{"id": "x", "role": "user", "content": "and?"}]}, "has open interrupts"),
            ({"resume": resolve(("c1", yes))}, "int-c2"),
            ({"resume": resolve(("c1", yes), ("c2", yes), ("c3", yes))}, "no open interrupt.*int-c3"),
            ({"resume": resolve(("c1", yes), ("c1", yes), ("c2", yes))}, "twice"),
            ({"resume": resolve(("c1", yes), ("c2", "yes"))}, "must be an object with"),
            ({"resume": resolve(("c1", yes), ("c2", {"approved": 1}))}, "must be an object with"),
            ({"resume": resolve(("c1", yes), ("c2", yes | {"editedArgs": [1]}))}, "must be an object"),
            ({"resume": resolve(("c1", yes), ("c2", yes | {"editedArgs": {"amount": 2}}))}, "to: Field required"),
        ]):  # fmt: skip
            events = await collect_run(runner, agent, make_input("t1", f"bad{number}") | fields)
            assert [event["type"] for event in events] == ["RUN_ERROR"]
            with pytest.raises(AssertionError, match=message):
                raise AssertionError(events[0]["message"])
        assert await load_session(await runner.open()) == before
        assert not bank.paid
        await collect_run(runner, agent, make_input("t1", "r2", resume=resolve(("c1", yes), ("c2", yes))))
    assert bank.paid == ["1 to a", "1 to b"]


async def test_each_refused_decision_has_its_error_type() -> None:
    agent = make_agent(reply("done"))[2]
    await agent.create_session("s")
    with pytest.raises(ApprovalNotFound):
        await agent.run_turn("s", resume=resolve(("c2", {"approved": True})))
    assert isinstance((await agent.run_turn("s", "go")).outcome, Interrupted)
    with pytest.raises(InterruptsOpen):
        await agent.run_turn("s", "and?")
    with pytest.raises(ApprovalNotFound):
        await agent.run_turn("s", resume=resolve(("c1", {"approved": True}), ("c2", {"approved": True})))
    with pytest.raises(InvalidInput):
        await agent.run_turn("s", resume=resolve(("c2", None)))
    assert (await agent.run_turn("s", resume=resolve(("c2", {"approved": True})))).outcome == Completed("done")


async def test_a_decision_sent_twice_runs_the_tool_once() -> None:
    bank, _, agent = make_agent(reply("done"))
    async with InMemoryAgentRunner() as runner:
        await collect_run(runner, agent, make_input("t1", "r1", ["go"]))
        yes = resolve(("c2", {"approved": True}))
        await collect_run(runner, agent, make_input("t1", "r2", resume=yes))
        events = await collect_run(runner, agent, make_input("t1", "r3", resume=yes))
        assert summarize(events) == [
            "RUN_STARTED", "MESSAGES_SNAPSHOT",
            "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "RUN_FINISHED",
        ]  # fmt: skip
        assert (await load_session(await runner.open())).messages == await runner.threads.messages("t1")
    assert bank.paid == ["1 to bob"]


async def test_an_expired_interrupt_can_only_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    bank, _, agent = make_agent(reply("done"), config=RuntimeConfig(approval_expires=60))
    await agent.create_session("s")
    outcome = (await agent.run_turn("s", "go")).outcome
    assert isinstance(outcome, Interrupted)
    assert outcome.interrupts[0]["expiresAt"].endswith("Z")
    now = now_ms()
    monkeypatch.setattr("agentrunner.runtime.approvals.now_ms", lambda: now + 61_000)
    with pytest.raises(ApprovalExpired):
        await agent.run_turn("s", resume=resolve(("c2", {"approved": True})))
    cancelled = [{"interruptId": "int-c2", "status": "cancelled"}]
    assert (await agent.run_turn("s", resume=cancelled)).outcome == Completed("done")
    assert not bank.paid


@pytest.mark.parametrize("decision", [True, False, Decision(True, {"to": "eve"}), Decision(False, reason="no"), None])
async def test_a_handler_decides_at_once(decision: Any) -> None:
    bank = Bank()
    requests = []

    async def handler(request):
        requests.append((request.id, request.session_id, request.call.name, request.arguments))
        return decision

    llm = ScriptedModel(call_tools(("c2", "pay", {"to": "bob"})), reply("done"))
    agent = AgentRuntime(llm, tools=bank.tools, approval_handler=handler)
    await agent.create_session("s")
    outcome = (await agent.run_turn("s", "go")).outcome
    assert requests == [("int-c2", "s", "pay", {"to": "bob"})]
    assert isinstance(outcome, Interrupted if decision is None else Completed)
    approved = decision is True or (isinstance(decision, Decision) and decision.approved)
    assert bank.paid == ([] if not approved else ["1 to eve" if isinstance(decision, Decision) else "1 to bob"])


async def test_a_handler_is_not_asked_again_about_a_decided_call() -> None:
    bank = Bank()
    requests = []

    def handler(request):
        requests.append(request.call.id)
        return {"c1": True, "c2": False}.get(request.call.id)

    payments = [(call, "pay", {"to": call}) for call in ("c1", "c2", "c3")]
    agent = AgentRuntime(
        ScriptedModel(call_tools(*payments), reply("done")), tools=bank.tools, approval_handler=handler
    )
    await agent.create_session("s")
    outcome = (await agent.run_turn("s", "go")).outcome
    assert isinstance(outcome, Interrupted)
    assert [interrupt["toolCallId"] for interrupt in outcome.interrupts] == ["c3"]
    assert (await agent.run_turn("s", resume=resolve(("c3", {"approved": True})))).outcome == Completed("done")
    assert requests == ["c1", "c2", "c3"]
    assert bank.paid == ["1 to c1", "1 to c3"]


async def test_an_approval_covers_one_call_unless_it_is_remembered() -> None:
    other = call_tools(("c4", "pay", {"amount": 1, "to": "eve"}))
    for remember in (False, True):
        bank, _, agent = make_agent(call_tools(("c3", "pay", {"to": "bob"})), other, reply("done"))
        await agent.create_session("s")
        await agent.run_turn("s", "go")
        outcome = (await agent.run_turn("s", resume=resolve(("c2", {"approved": True, "remember": remember})))).outcome
        assert isinstance(outcome, Interrupted)
        assert outcome.interrupts[0]["toolCallId"] == ("c4" if remember else "c3")
        assert bank.paid == ["1 to bob"] * (2 if remember else 1)


async def test_a_remembered_approval_covers_its_action_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = Bank(action_key=lambda arguments: arguments["to"])
    requests = []

    def handler(request):
        requests.append(request.action_key)
        return Decision(True, remember=True)

    llm = ScriptedModel(
        call_tools(("c1", "pay", {"to": "bob", "amount": 1}), ("c2", "pay", {"to": "bob", "amount": 2})), reply("one"),
        call_tools(("c3", "pay", {"to": "bob", "amount": 3})), reply("two"),
        call_tools(("c4", "pay", {"to": "bob", "amount": 4})), reply("three"),
    )  # fmt: skip
    config = RuntimeConfig(approval_ttl=60)
    agent = AgentRuntime(llm, tools=bank.tools, approval_handler=handler, config=config)
    await agent.create_session("s")
    await agent.run_turn("s", "go")
    await agent.run_turn("s", "go on")
    assert requests == ["pay:bob"]
    now = now_ms()
    monkeypatch.setattr("agentrunner.runtime.tool_calls.now_ms", lambda: now + 61_000)
    await agent.run_turn("s", "and on")
    assert requests == ["pay:bob"] * 2
    assert len(bank.paid) == 4


async def test_an_approval_with_edited_arguments_is_not_remembered() -> None:
    edited = Decision(True, {"to": "eve"}, remember=True)
    requests = []

    def handler(request):
        requests.append(request.call.id)
        return edited

    for approval_handler in (handler, None):
        bank, _, agent = make_agent(call_tools(("c3", "pay", {"to": "bob"})), reply("done"))
        agent._turns.resources = replace(agent._turns.resources, approval_handler=approval_handler)
        await agent.create_session("s")
        result = await agent.run_turn("s", "go")
        for call in ("c2", "c3"):
            if approval_handler is None:
                result = await agent.run_turn("s", resume=resolve((call, edited.to_json())))
        assert result.outcome == Completed("done")
        assert bank.paid == ["1 to eve"] * 2
    assert requests == ["c2", "c3"]


async def test_a_call_runs_again_after_a_crash_as_it_was_approved() -> None:
    bank, store = Bank(idempotent=True), CrashingStore(at=5)
    llm = StatelessModel(call_tools(("c1", "pay", {"to": "bob"})), reply("done"))
    handlers = [lambda request: Decision(True, {"to": "eve"}), raise_when_called(AssertionError("asked twice"))]
    agents = [
        AgentRuntime(llm, tools=bank.tools, approval_handler=handler, session_store=store) for handler in handlers
    ]
    await Sessions(store._store).save(Session("s"))
    with pytest.raises(SimulatedCrash):
        await agents[0].run_turn("s", "go")
    store.revive()
    assert (await agents[1].resume_from_checkpoint("s")).outcome == Completed("done")
    assert bank.paid == ["1 to eve"] * 2


async def test_no_approval_is_asked_for_invalid_arguments() -> None:
    bank = Bank()
    llm = ScriptedModel(call_tools(("c1", "pay", {"amount": 1})), reply("sorry"))
    agent = AgentRuntime(llm, tools=bank.tools, error_recovery=ToolErrorRecovery("stop"))
    await agent.create_session("s")
    assert (await agent.run_turn("s", "go")).outcome == Completed("sorry")
