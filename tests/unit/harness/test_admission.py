"""Admission: which runs may begin, and what error a refused run gets."""

from __future__ import annotations

import pytest

from agentrunner.harness import (
    ApprovalNotFound,
    Harness,
    InterruptsOpen,
    RunRefused,
)
from support.agents import agent_with
from support.events import text_message
from support.harness import Asking, run_to_refusal
from support.inputs import make_input
from support.streams import collect

AGENTS = {name: agent_with(*text_message(f"m-{name}", name)) for name in ("a", "b", "c")}


async def test_policy_refuses_with_reasons(runner):
    requests = []

    async def policy(request):
        requests.append(request)
        if request.scope == "guest":
            return ["guests may not", "ask a colleague"]
        if request.agent == "b":
            return "b is off today"
        if request.headers.get("x") == "bug":
            raise KeyError("x")
        return None

    async with Harness(runner, AGENTS, policy=policy) as harness:
        with pytest.raises(RunRefused, match="guests may not; ask a colleague") as refused:
            await harness.run("hi", agent="a", scope="guest", thread_id="t", run_id="r")
        assert refused.value.reasons == ("guests may not", "ask a colleague")
        with pytest.raises(RunRefused, match="b is off today"):
            [item async for item in harness.stream_events("hi", agent="b")]
        with pytest.raises(RunRefused, match="the policy failed"):
            await harness.run("hi", agent="a", headers={"x": "bug"})
        (event,) = await collect(await runner.run(harness.agents["b"], make_input("t", "r")))
        assert (event["type"], event["code"]) == ("RUN_ERROR", "RUN_REFUSED")
        assert await harness.runs() == []
        assert await runner.threads.list() == []
        assert (await harness.run("hi", agent="a", thread_id="t", run_id="r")).state == "completed"
        assert [(each.agent, each.thread_id, each.resumes) for each in requests if each.run_id == "r"] == [
            ("a", "t", None), ("b", "t", None), ("a", "t", None),
        ]  # fmt: skip


async def test_policy_is_asked_about_answers_too(runner):
    agent = Asking()

    def policy(request):
        return ["not you"] if request.resumes and request.scope != "boss" else None

    async with Harness(runner, {"a": agent}, policy=policy) as harness:
        await harness.run("hi", thread_id="t", run_id="r")
        entries = [{"interruptId": "i1", "status": "resolved", "payload": {"approved": True}}]
        (event,) = await collect(await runner.run(harness.agents["a"], make_input("t", "r2", resume=entries)))
        assert event["code"] == "RUN_REFUSED"
        assert len(await harness.approvals()) == 1
        assert agent.answered == []
        # The policy is not asked about decisions of the application itself.
        assert (await harness.resume(thread_id="t", decision="approve")).state == "completed"


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
        # Nothing of the refused runs is stored, so that their id can be used.
        assert await collect(await runner.connect("t")) == before
        assert len(await harness.runs()) == 1
        assert (await harness.run("hi", agent="b", thread_id="t2", run_id="r2")).state == "completed"


async def test_only_the_agent_that_asked_is_answered(runner):
    async with Harness(runner, {"a": Asking(), "b": agent_with()}) as harness:
        await harness.run("hi", agent="a", thread_id="t")
        agent = harness.agents["b"].clone()
        entries = [{"interruptId": "i1", "status": "cancelled"}]
        await collect(await runner.run(agent, make_input("t", "r2", resume=entries)))
        assert isinstance(agent.refusal, ApprovalNotFound)
        assert isinstance(agent.refusal, RunRefused)
