"""Which agent a run is for, and whether it is let in."""

from __future__ import annotations

import pytest

from agentrunner.harness import AgentNotFound, Harness, Router, RunRefused
from support.agents import agent_with
from support.events import text_message
from support.harness import Asking
from support.inputs import make_input
from support.streams import collect

AGENTS = {name: agent_with(*text_message(f"m-{name}", name)) for name in ("a", "b", "c")}


async def says(harness, words="hi"):
    return (await harness.run(words)).content


async def test_the_rule_then_the_choice_then_the_default(memory_factory):
    asked = []

    def rule(input):
        return "a" if input.messages[-1].content == "by rule" else None

    async def choose(input, agents):
        asked.append(agents)
        if input.messages[-1].content == "broken":
            raise RuntimeError("the model is down")
        return {"by choice": "b", "nonsense": "z"}.get(input.messages[-1].content)

    async with Harness(memory_factory(), AGENTS, router=Router(rule, choose, "c")) as harness:
        assert await says(harness, "by rule") == "a"
        assert asked == []
        assert await says(harness, "by choice") == "b"
        assert list(asked[0]) == ["a", "b", "c"]
        for words in ("whatever", "nonsense", "broken"):
            assert await says(harness, words) == "c"
        assert (await harness.run("by rule", agent="b")).content == "b"


async def test_an_agent_that_is_not_there(memory_factory):
    runner = memory_factory()

    async def rule(input):
        return "z"

    with pytest.raises(AgentNotFound):
        Harness(runner, AGENTS, router=Router(default="z"))
    async with Harness(runner, AGENTS, router=Router(rule)) as harness:
        with pytest.raises(AgentNotFound, match="'z'"):
            await harness.run("hi")
    async with Harness(runner, AGENTS, router=Router()) as harness:
        with pytest.raises(AgentNotFound):
            await harness.run("hi")
    async with Harness(runner, {"only": AGENTS["a"]}, router=Router()) as harness:
        assert await says(harness) == "a"


async def test_the_policy_refuses_with_reasons(runner):
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
        with pytest.raises(RunRefused, match="could not be asked"):
            await harness.run("hi", agent="a", headers={"x": "bug"})
        (event,) = await collect(await runner.run(harness.agents["b"], make_input("t", "r")))
        assert (event["type"], event["code"]) == ("RUN_ERROR", "RUN_REFUSED")
        assert await harness.runs() == []
        assert await runner.threads.list() == []
        assert (await harness.run("hi", agent="a", thread_id="t", run_id="r")).state == "completed"
        assert [(each.agent, each.thread_id, each.resumes) for each in requests if each.run_id == "r"] == [
            ("a", "t", None), ("b", "t", None), ("a", "t", None),
        ]  # fmt: skip


async def test_the_policy_is_asked_about_answers_too(runner):
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
        # Who decides by the harness itself has been let in by whoever called it.
        assert (await harness.resume(thread_id="t", decision="approve")).state == "completed"
