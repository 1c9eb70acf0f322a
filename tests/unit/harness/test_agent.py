"""Agents of a harness, as runners and servers use them."""

from __future__ import annotations

import asyncio

from agentrunner.harness import Harness
from agentrunner.running import agent_task
from support.agents import agent_with
from support.events import event_types, run_started, text_message
from support.harness import drain_listeners, listen
from support.inputs import make_input
from support.streams import collect

hello = agent_with(*text_message("m1", "Hel", "lo"))


async def test_runs_of_stock_clients_are_harness_runs(runner):
    async with Harness(runner, {"a": hello}) as harness:
        seen = listen(harness)
        stream = await runner.run(harness.agents["a"], make_input("t", "r", ["hi"]))
        assert event_types(await collect(stream))[-1] == "RUN_FINISHED"
        assert (await harness.wait("r")).content == "Hello"
        assert (await harness.run_record("r")).agent == "a"
        await drain_listeners(harness)
        assert [e.seq for e in seen] == [1, 2, 3, 4, 5]


async def test_agent_of_a_harness_has_the_attributes_of_the_original(memory_factory, monkeypatch):
    monkeypatch.setattr(agent_task, "PATIENCE_SECONDS", 0.0)

    class Fancy:
        description = "does it all"

        def __init__(self):
            self.clones = self.aborted = 0

        def get_capabilities(self):
            return {"x": 1}

        def clone(self):
            self.clones += 1
            return self

        def abort_run(self):
            self.aborted += 1

        async def run(self, input):
            yield run_started(input.thread_id, input.run_id)
            await asyncio.Event().wait()

    def function(input):
        """Greet the user."""
        return hello(input)

    fancy, runner = Fancy(), memory_factory()
    async with Harness(runner, {"fancy": fancy, "function": function}) as harness:
        wrapped = harness.agents["fancy"]
        assert (wrapped.description, wrapped.get_capabilities(), wrapped.__name__) == ("does it all", {"x": 1}, "Fancy")
        assert (harness.agents["function"].description, harness.agents["function"].__name__) == (
            "Greet the user.",
            "function",
        )
        assert not hasattr(wrapped, "nothing")
        # As a server runs it, and as any caller may.
        for number, agent in enumerate((wrapped.clone(), wrapped), 1):
            stream = await runner.run(agent, make_input("t", f"r{number}"))
            await anext(stream)
            assert await runner.stop("t")
            await collect(stream)
            assert (fancy.clones, fancy.aborted) == (number, number)
            assert (await harness.wait(f"r{number}")).state == "cancelled"
