"""Choosing an agent for a run that does not name one."""

from __future__ import annotations

import pytest

from agentrunner.harness import AgentNotFound, Harness, Router
from support.agents import agent_with
from support.events import text_message

AGENTS = {name: agent_with(*text_message(f"m-{name}", name)) for name in ("a", "b", "c")}


async def run_text(harness, words="hi"):
    return (await harness.run(words)).content


async def test_rule_comes_before_choice_before_default(memory_factory):
    choices = []

    def rule(input):
        return "a" if input.messages[-1].content == "by rule" else None

    async def choose(input, agents):
        choices.append(agents)
        if input.messages[-1].content == "broken":
            raise RuntimeError("the model is down")
        return {"by choice": "b", "nonsense": "z"}.get(input.messages[-1].content)

    async with Harness(memory_factory(), AGENTS, router=Router(rule, choose, "c")) as harness:
        assert await run_text(harness, "by rule") == "a"
        assert choices == []
        assert await run_text(harness, "by choice") == "b"
        assert list(choices[0]) == ["a", "b", "c"]
        for words in ("whatever", "nonsense", "broken"):
            assert await run_text(harness, words) == "c"
        assert (await harness.run("by rule", agent="b")).content == "b"


async def test_unknown_agent_is_refused(memory_factory):
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
        assert await run_text(harness) == "a"


@pytest.mark.parametrize("choice", [[], {}, ["a"], 5, b"a", "", True])
async def test_a_choice_that_is_no_name_falls_back_to_the_default(memory_factory, choice):
    async with Harness(memory_factory(), AGENTS, router=Router(None, lambda *_: choice, "c")) as harness:
        assert await run_text(harness) == "c"


@pytest.mark.parametrize("name", [[], {}, 5, b"a", ""])
async def test_a_name_that_is_no_string_is_no_agent(runner, name):
    async with Harness(runner, AGENTS, router=Router(lambda _: name)) as harness:
        with pytest.raises(AgentNotFound, match="there is no agent"):
            await harness.run("hi")
        with pytest.raises(AgentNotFound, match="there is no agent"):
            await harness.run("hi", agent=name)
        assert await harness.runs() == []
