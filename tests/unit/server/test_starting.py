"""Runs that wait for their turn, and clients that leave meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentrunner import current_run
from agentrunner.server import Limits
from support.agents import Gate, agent_with
from support.asgi import client_of
from support.events import event_types, text_message
from support.inputs import make_input

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ag_ui.core import RunAgentInput

    from agentrunner import AgentRunner, InMemoryAgentRunner

    Factory = Callable[..., AgentRunner]
    MemoryFactory = Callable[..., InMemoryAgentRunner]
AGENT = agent_with(*text_message("m1", "hel", "lo"))
STREAM = [
    "RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END",
    "RUN_FINISHED",
]  # fmt: skip
RUN = "/agent/default/run"


class Asked:
    """An agent that keeps the inputs it gets."""

    def __init__(self) -> None:
        self.inputs: list[RunAgentInput] = []
        self.headers: list[Any] = []

    async def run(self, input: RunAgentInput) -> AsyncIterator[Any]:
        self.inputs.append(input)
        self.headers.append(dict(current_run().headers))
        async for event in AGENT(input):
            yield event


async def test_a_newer_run_may_supersede_the_live_one(runner_factory: Factory) -> None:
    gate = Gate(text_message("m1", "half"))
    client = client_of(runner_factory(on_concurrent_run="supersede"), {"slow": gate, "default": AGENT})
    async with client.open("POST", "/agent/slow/run", make_input()) as first:
        await gate.reached.wait()
        assert event_types((await client.post(RUN, make_input(run="r2"))).events()) == STREAM
        assert event_types((await first.answer()).events())[-1] == "RUN_FINISHED"
    assert gate.cancelled


async def test_a_newer_run_may_wait_for_its_turn(runner_factory: Factory) -> None:
    gate = Gate()
    runner = runner_factory(on_concurrent_run="enqueue")
    client = client_of(runner, {"slow": gate, "default": AGENT}, limits=Limits(keep_alive_seconds=0.05))
    async with client.open("POST", "/agent/slow/run", make_input()) as first:
        await gate.reached.wait()
        async with client.open("POST", RUN, make_input(run="r2")) as second:
            # It waits within the stream, whose comments keep proxies from closing the connection.
            await second.wait_until_begun()
            assert await second.chunk() == b": keep-alive\n\n"
            gate.open()
            assert event_types((await second.answer()).events()) == STREAM
        assert event_types((await first.answer()).events()) == ["RUN_STARTED", "RUN_FINISHED"]


async def test_a_client_that_leaves_while_its_run_waits_starts_nothing(runner_factory: Factory) -> None:
    gate, agent = Gate(), Asked()
    runner = runner_factory(on_concurrent_run="enqueue")
    limits = Limits(keep_alive_seconds=0.05)
    client = client_of(runner, {"slow": gate, "default": agent}, limits=limits)
    async with client.open("POST", "/agent/slow/run", make_input()) as first:
        await gate.reached.wait()
        async with client.open("POST", RUN, make_input(run="r2")) as second:
            await second.wait_until_begun()
        gate.open()
        await first.answer()
    assert event_types((await client.post(RUN, make_input(run="r3"))).events()) == STREAM
    assert [each.run_id for each in agent.inputs] == ["r3"]
