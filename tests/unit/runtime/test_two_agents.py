"""Two agent runtimes on one thread: they share the conversation, and nothing else."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner.errors import InvalidInput
from agentrunner.harness import Harness
from agentrunner.records import kinds
from agentrunner.runtime import AgentRuntime, Tool, _namesakes
from agentrunner.runtime.session import Sessions
from agentrunner.server import create_app
from support.inputs import make_input
from support.scripted_model import (
    CrashingStore,
    ScriptedModel,
    SimulatedCrash,
    call_tools,
    load_session,
    reply,
    summarize,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import AgentRunner

pytestmark = pytest.mark.fault("C9")

CALL = call_tools(("c1", "pay", {"to": "bob"}))
CALL_AGAIN = call_tools(("c2", "pay", {"to": "bob"}))


def approve(call_id: str, **payload: Any) -> list[dict[str, Any]]:
    return [{"interruptId": f"int-{call_id}", "status": "resolved", "payload": {"approved": True, **payload}}]


class Bank:
    """A runtime with a tool `pay` of its own."""

    def __init__(self, *responses: Any, agent_id: str | None = None, **options: Any) -> None:
        self.payments: list[str] = []
        self.model = ScriptedModel(*responses)
        self.agent = AgentRuntime(self.model, tools=[Tool(self.pay, policy="ask", **options)], agent_id=agent_id)

    def pay(self, to: str) -> str:
        self.payments.append(to)
        return f"paid {to}"


@pytest.mark.parametrize("names_are_own", [True, False])
async def test_the_approval_of_one_does_not_run_the_tool_of_the_other(runner: AgentRunner, names_are_own: bool) -> None:
    one, two = (Bank(CALL, reply("done"), agent_id=name if names_are_own else None) for name in "ab")
    events = await collect_run_as(runner, one, "a", make_input("t1", "r1", ["go"]))
    assert events[-1]["outcome"]["interrupts"][0]["metadata"]["agent"] == "a"
    refused = await collect_run_as(runner, two, "b", make_input("t1", "r2", resume=approve("c1")))
    assert summarize(refused) == [
        "the interrupts of thread 't1' belong to the agent 'a', so that agent must get the decisions, not 'b'"
    ]
    await collect_run_as(runner, one, "a", make_input("t1", "r3", resume=approve("c1")))
    # The answer comes again, to the wrong agent.
    again = await collect_run_as(runner, two, "b", make_input("t1", "r4", resume=approve("c1")))
    assert [event["type"] for event in again] == ["RUN_ERROR"]
    assert (one.payments, two.payments) == (["bob"], [])


async def collect_run_as(runner: AgentRunner, bank: Bank, name: str, input: dict[str, Any]) -> list[dict[str, Any]]:
    return [event.to_dict() async for event in await runner.run(bank.agent, input, agent_id=name)]


async def test_a_remembered_approval_holds_for_its_agent_only(memory_factory: Callable[..., AgentRunner]) -> None:
    runner = memory_factory()
    one = Bank(CALL, reply("done"), CALL_AGAIN, reply("done"))
    two = Bank(call_tools(("c3", "pay", {"to": "bob"})))
    await collect_run_as(runner, one, "a", make_input("t1", "r1", ["go"]))
    await collect_run_as(runner, one, "a", make_input("t1", "r2", resume=approve("c1", remember=True)))
    await collect_run_as(runner, one, "a", make_input("t1", "r3", ["more"]))
    assert one.payments == ["bob", "bob"]
    events = await collect_run_as(
        runner, two, "b", make_input("t1", "r4", [*await runner.threads.messages("t1"), "yours"])
    )
    assert events[-1]["outcome"]["type"] == "interrupt"
    assert two.payments == []
    # The conversation is one: the second agent's model has read what the first has done.
    assert "paid bob" in [message.get("content") for message in two.model.requests[0].messages]


async def test_a_remembered_approval_does_not_cross_in_a_harness(memory_factory: Callable[..., AgentRunner]) -> None:
    one, two = Bank(CALL, reply("done")), Bank(CALL_AGAIN)
    async with Harness(memory_factory(), {"a": one.agent, "b": two.agent}) as harness:
        waiting = await harness.run("go", agent="a", thread_id="t1")
        approval = waiting.approvals[0].approval_id
        payload = {"approved": True, "remember": True}
        assert (await harness.decide(approval, "approve", payload=payload)).state == "completed"
        assert (await harness.run("go", agent="b", thread_id="t1")).state == "waiting_for_approval"
    assert (one.payments, two.payments) == (["bob"], [])


async def test_two_agents_of_a_harness_or_an_app_cannot_have_one_id(memory_factory: Callable[..., AgentRunner]) -> None:
    one, two = (Bank(agent_id="bank").agent for _ in "ab")
    runner = memory_factory()
    for use in (lambda agents: Harness(runner, agents), lambda agents: create_app(runner, agents)):
        with pytest.raises(ValueError, match="agents 'a' and 'b' have the same agent_id 'bank'"):
            use({"a": one, "b": two})
        # One agent may have several names.
        use({"a": one, "b": one})
        use({"a": one, "b": Bank().agent, "c": Bank().agent})


async def test_a_harness_continues_its_agent_although_a_server_calls_it_by_another_name(
    memory_factory: Callable[..., AgentRunner],
) -> None:
    runner = memory_factory()
    bank = Bank(CALL, reply("done"))
    async with Harness(runner, {"a": bank.agent}) as harness:
        stream = runner.run(harness.agents["a"], make_input("t1", "r1", ["go"]), agent_id="shop")
        events = [event.to_dict() async for event in stream]
        assert events[-1]["outcome"]["interrupts"][0]["metadata"]["agent"] == "a"
        [approval] = await harness.approvals()
        assert (await harness.decide(approval.approval_id, "approve")).state == "completed"
    assert bank.payments == ["bob"]


async def test_a_turn_is_continued_by_its_own_agent_only(memory_factory: Callable[..., AgentRunner]) -> None:
    store = CrashingStore()
    one, two = Bank(CALL, agent_id="a"), Bank(reply("hello"), agent_id="b")
    one.agent._store = two.agent._store = store
    await store.open()
    session = await one.agent.create_session("t1")
    await one.agent.run_turn(session.id, "go")
    store.crash_at(2)
    with pytest.raises(SimulatedCrash):
        await one.agent.run_turn(session.id, resume=approve("c1"))
    store.revive()
    with pytest.raises(InvalidInput, match="belongs to agent 'a', not to 'b'"):
        await two.agent.resume_from_checkpoint(session.id)
    assert (one.payments, two.payments) == ([], [])


async def test_records_without_an_agent_are_everybodys(memory_factory: Callable[..., AgentRunner]) -> None:
    """Version 0.1.0 wrote none."""
    runner = memory_factory()
    one, two = Bank(CALL), Bank(reply("done"))
    await collect_run_as(runner, one, "a", make_input("t1", "r1", ["go"]))
    store = await runner.open()
    session = await load_session(store)
    checkpoint = await Sessions(store).load_checkpoint(session)
    record = await kinds.CHECKPOINT.find(store, checkpoint.key)
    assert record is not None
    value = kinds.CHECKPOINT.decode(record)
    del value["agent"]
    await store.write([kinds.CHECKPOINT.change(checkpoint.key, session.id, value)])
    events = await collect_run_as(runner, two, "b", make_input("t1", "r2", resume=approve("c1")))
    assert summarize(events)[-1] == "RUN_FINISHED"


def make_bank(account: str) -> AgentRuntime:
    async def pay(to: str) -> str:
        return f"paid {to} from {account}"

    return AgentRuntime(ScriptedModel(reply("done")), tools=[pay])


class Account:
    def __init__(self, name: str) -> None:
        self.name = name
        self.payments: list[str] = []

    def pay(self, to: str, rate: int = 1) -> str:
        return f"paid {to} from {self.name} at {rate}"


def make_account_bank(name: str) -> AgentRuntime:
    return AgentRuntime(ScriptedModel(reply("done")), tools=[Account(name).pay])


def make_partial_bank(name: str) -> AgentRuntime:
    return AgentRuntime(ScriptedModel(reply("done")), tools=[functools.partial(Account("a").pay, rate=len(name))])


def make_other_bank(name: str) -> AgentRuntime:
    def look(at: str) -> str:
        return at

    return make_bank(name) if name == "a" else AgentRuntime(ScriptedModel(reply("done")), tools=[look])


@pytest.mark.parametrize("make", [make_bank, make_account_bank, make_partial_bank, make_other_bank])
async def test_runtimes_without_names_on_one_thread_are_warned_of_once(
    make: Callable[[str], AgentRuntime], memory_factory: Callable[..., AgentRunner], caplog: pytest.LogCaptureFixture
) -> None:
    async def run(runner: AgentRunner, agent: AgentRuntime, run_id: str, thread_id: str = "t1") -> None:
        stream = runner.run(agent, make_input(thread_id, run_id, [f"u-{run_id}"]))
        assert [event.type async for event in stream][-1] == "RUN_FINISHED"

    def warnings() -> int:
        return sum("use it without an agent_id" in record.message for record in caplog.records)

    runner, other_runner = memory_factory(), memory_factory()
    # The same agent, made anew for each run.
    for number in range(2):
        await run(runner, make("a"), f"r{number}")
    named = make("bbb")
    named.agent_id = "b"
    await run(runner, named, "r2")
    await run(other_runner, make("bbb"), "r0")
    # Agents that share no thread share no approvals.
    await run(runner, make("bbb"), "r0", "t2")
    assert warnings() == 0
    for number in range(3, 5):
        await run(runner, make("bbb"), f"r{number}")
    assert warnings() == 1


async def test_only_the_newest_threads_are_remembered_for_the_warning(
    monkeypatch: pytest.MonkeyPatch, memory_factory: Callable[..., AgentRunner]
) -> None:
    monkeypatch.setattr(_namesakes, "MAX_THREADS", 2)
    store = await memory_factory().open()
    for number in range(5):
        _namesakes.warn_of_namesake(store, f"t{number}", 1)
    assert _namesakes._hashes_by_store[store] == {"t3": 1, "t4": 1}
