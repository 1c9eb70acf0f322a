"""A runtime in a harness, which decides its approvals and prunes its checkpoints."""

from __future__ import annotations

import pytest

from agentrunner import InMemoryAgentRunner
from agentrunner.errors import InterruptsOpen
from agentrunner.harness import Harness, RecordRetention
from agentrunner.records.times import now_ms
from agentrunner.runtime import AgentRuntime, Completed, Tool
from support.scripted_model import ScriptedModel, call_tools, load_session, reply


def make_agent(paid: list[str]) -> AgentRuntime:
    def pay(to: str) -> str:
        paid.append(to)
        return f"paid {to}"

    response = call_tools(("c1", "pay", {"to": "bob"}), ("c2", "pay", {"to": "eve"}), text="Wait. ")
    return AgentRuntime(
        ScriptedModel(response, reply("done"), reply("you are welcome")), tools=[Tool(pay, policy="ask")]
    )


async def test_the_harness_decides_approvals() -> None:
    paid: list[str] = []
    async with InMemoryAgentRunner() as runner, Harness(runner, {"bot": make_agent(paid)}) as harness:
        result = await harness.run("pay them", thread_id="t1")
        assert (result.state, result.content) == ("waiting_for_approval", "Wait. ")
        first, second = result.approvals
        assert (first.tool, first.input, first.checkpoint) == ("pay", {"to": "bob"}, "t1/00000003")
        with pytest.raises(InterruptsOpen):
            await harness.run("and?", thread_id="t1")
        result = await harness.resume(approval_id=first.approval_id, decision="edit", edited_input={"to": "ann"})
        assert (result.state, paid) == ("waiting_for_approval", [])
        result = await harness.resume(approval_id=second.approval_id, decision="reject", reason="not her")
        assert (result.state, result.content, paid) == ("completed", "done", ["ann"])
        session = await load_session(await runner.open())
        assert session.outcome == Completed("done")
        assert [m["content"] for m in session.messages if m["role"] == "tool"] == [
            "paid ann", "The user has rejected this call: not her",
        ]  # fmt: skip
        assert (await harness.run("thanks", thread_id="t1")).content == "you are welcome"
        assert (await load_session(await runner.open())).messages == await runner.threads.messages("t1")


async def test_the_thread_continues_after_a_waiting_run_was_cancelled() -> None:
    paid: list[str] = []
    async with InMemoryAgentRunner() as runner, Harness(runner, {"bot": make_agent(paid)}) as harness:
        result = await harness.run("pay them", thread_id="t1")
        assert await harness.cancel(result.run_id)
        result = await harness.run("never mind", thread_id="t1")
        assert (result.state, result.content, paid) == ("completed", "done", [])
        session = await load_session(await runner.open())
        assert [m["role"] for m in session.messages] == ["user", "assistant", "tool", "tool", "user", "assistant"]
        # Clients saw the new user message before the tool results, and keep it in that place.
        seen = {message["id"]: message for message in await runner.threads.messages("t1")}
        assert seen == {message["id"]: message for message in session.messages}


@pytest.mark.parametrize(
    ("retention", "remaining"), [(RecordRetention(max_age=5), 1), (RecordRetention(max_age=60), 6)]
)
async def test_old_checkpoints_are_pruned_except_the_last(
    retention: RecordRetention, remaining: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = now_ms()
    monkeypatch.setattr("agentrunner.harness.retention.now_ms", lambda: now + 30_000)
    async with (
        InMemoryAgentRunner() as runner,
        Harness(runner, {"bot": make_agent([])}, retention=retention) as harness,
    ):
        await harness.run("pay them", thread_id="t1")
        await harness.resume(thread_id="t1", decision="approve")
        store = await runner.open()
        await harness.prune()
        assert len(await store.records("checkpoint", "t1", None, 100)) == remaining
        assert (await harness.run("thanks", thread_id="t1")).content == "you are welcome"
        await harness.restart_conversation("t1")
        assert await store.records("session", "t1", None, 100) == []
