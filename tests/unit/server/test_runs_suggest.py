"""`suggest`: a run that stores nothing and ends with its request."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner.server import Limits
from support.agents import Gate, agent_with, scripted_agent
from support.asgi import client_of
from support.events import event_types, run_started, text_message, tool_call
from support.inputs import make_input

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ag_ui.core import RunAgentInput

    from agentrunner import AgentRunner, InMemoryAgentRunner

    MemoryFactory = Callable[..., InMemoryAgentRunner]

AGENT = agent_with(*tool_call("c1", "suggest", '{"title":', '"t"}'), *text_message("m1", "hello"))
RUN, SUGGEST, CONNECT = (f"/agent/default/{verb}" for verb in ("run", "suggest", "connect"))


async def test_a_suggestion_is_streamed_as_a_run_is(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT})
    answer = await client.post(SUGGEST, make_input(messages=["hi"]))
    ran = await client.post(RUN, make_input(messages=["hi"]))
    assert answer.headers == ran.headers
    assert answer.events() == ran.events()


async def test_a_suggestion_stores_nothing(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT})
    for _ in range(3):
        # The same ids work again and again, as none of them is stored.
        assert event_types((await client.post(SUGGEST, make_input())).events())[-1] == "RUN_FINISHED"
    assert (await client.get("/threads?includeArchived=true")).json()["threads"] == []
    for part in ("messages", "events", "state"):
        assert (await client.get(f"/threads/t1/{part}")).status == 404
    assert (await client.post(CONNECT, make_input())).body == b""
    assert not await runner.is_running("t1")
    assert event_types((await client.post(RUN, make_input())).events())[-1] == "RUN_FINISHED"


async def test_a_suggestion_for_a_thread_does_not_change_it(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT})
    await client.post(RUN, make_input(messages=["u1"]))
    before = [(await client.get(path)).body for path in ("/threads", "/threads/t1/events", "/threads/t1/messages")]
    answer = await client.post(SUGGEST, make_input(messages=["u1", "u2"]))
    # The agent gets all messages: a suggestion knows no thread whose messages it could strip.
    assert [message["id"] for message in answer.events()[0]["input"]["messages"]] == ["u1", "u2"]
    after = [(await client.get(path)).body for path in ("/threads", "/threads/t1/events", "/threads/t1/messages")]
    assert after == before


async def test_a_suggestion_while_the_thread_runs(runner: AgentRunner) -> None:
    gate = Gate()
    client = client_of(runner, {"default": AGENT, "slow": gate})
    async with client.open("POST", "/agent/slow/run", make_input()) as run:
        await gate.reached.wait()
        assert event_types((await client.post(SUGGEST, make_input())).events())[-1] == "RUN_FINISHED"
        assert await runner.is_running("t1")
        gate.open()
        assert event_types((await run.answer()).events()) == ["RUN_STARTED", "RUN_FINISHED"]


async def test_a_stop_does_not_reach_a_suggestion(runner: AgentRunner) -> None:
    gate = Gate()
    client = client_of(runner, {"default": gate})
    async with client.open("POST", SUGGEST, make_input()) as suggestion:
        await gate.reached.wait()
        assert (await client.post("/agent/default/stop/t1")).json()["stopped"] is False
        assert (await client.get("/threads")).json()["threads"] == []
        gate.open()
        assert event_types((await suggestion.answer()).events()) == ["RUN_STARTED", "RUN_FINISHED"]


async def test_many_suggestions_at_once(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT})
    answers = await asyncio.gather(*(client.post(SUGGEST, make_input()) for _ in range(20)))
    assert len({answer.body for answer in answers}) == 1
    assert await runner.threads.list() == []


async def test_a_suggestion_ends_with_its_request(runner: AgentRunner) -> None:
    gate = Gate(text_message("m1", "half")[:2])
    client = client_of(runner, {"default": gate})
    async with client.open("POST", SUGGEST, make_input()) as suggestion:
        await suggestion.until(b"half")
        assert not gate.cancelled
    assert gate.cancelled


async def test_the_abort_method_of_an_agent_is_called_when_the_client_leaves(memory_factory: MemoryFactory) -> None:
    class Aborting(Gate):
        aborted = 0

        def abort_run(self) -> None:
            self.aborted += 1

    agent = Aborting()
    async with client_of(memory_factory(), {"default": agent}).open("POST", SUGGEST, make_input()) as suggestion:
        await agent.reached.wait()
        await suggestion.until(b"RUN_STARTED")
    assert agent.aborted == 1
    assert agent.cancelled


async def test_a_failing_abort_is_not_an_error(memory_factory: MemoryFactory) -> None:
    class Stubborn(Gate):
        def abort_run(self) -> None:
            raise RuntimeError("no")

    agent = Stubborn()
    async with client_of(memory_factory(), {"default": agent}).open("POST", SUGGEST, make_input()) as suggestion:
        await suggestion.until(b"RUN_STARTED")
        await agent.reached.wait()
    # The suggestion ends with its request all the same.
    assert agent.cancelled


async def test_a_client_that_leaves_before_the_first_event(memory_factory: MemoryFactory) -> None:
    waits, ended = asyncio.Event(), asyncio.Event()

    async def late(input: RunAgentInput) -> AsyncIterator[Any]:
        waits.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        yield

    async with client_of(memory_factory(), {"default": late}).open("POST", SUGGEST, make_input()) as suggestion:
        await suggestion.wait_until_begun()
        await waits.wait()
    assert ended.is_set()


async def test_a_silent_suggestion_sends_keep_alive_comments(memory_factory: MemoryFactory) -> None:
    gate = Gate()
    client = client_of(memory_factory(), {"default": gate}, limits=Limits(keep_alive_seconds=0.05))
    async with client.open("POST", SUGGEST, make_input()) as suggestion:
        await suggestion.until(b": keep-alive\n\n")
        gate.open()
        assert event_types((await suggestion.answer()).events()) == ["RUN_STARTED", "RUN_FINISHED"]


async def fail(input: RunAgentInput) -> AsyncIterator[Any]:
    yield run_started(input.thread_id, input.run_id)
    yield text_message("m1", "x")[0]
    raise RuntimeError("boom")


@pytest.mark.parametrize(
    ("agent", "kinds"),
    [
        (fail, ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_END", "RUN_ERROR"]),
        (scripted_agent([run_started()]), ["RUN_STARTED", "RUN_FINISHED"]),
        (scripted_agent([run_started(), *text_message("m1", "x")[:2]]), None),
        (scripted_agent([]), ["RUN_STARTED", "RUN_FINISHED"]),
        (lambda _: None, ["RUN_ERROR"]),
    ],
)
async def test_every_suggestion_ends_in_order(
    agent: Any, kinds: list[str] | None, memory_factory: MemoryFactory
) -> None:
    client = client_of(memory_factory(), {"default": agent})
    answer = await client.post(SUGGEST, make_input())
    assert event_types(answer.events())[-1] in ("RUN_ERROR", "RUN_FINISHED")
    assert kinds is None or event_types(answer.events()) == kinds
    suggested, stored = answer.events(), (await client.post(RUN, make_input())).events()
    if agent is fail:
        # Each failure has its own id in the log, which the message names.
        assert suggested[-1].pop("message") != stored[-1].pop("message")
    assert suggested == stored


@pytest.mark.parametrize("headers", [{}, {"x-a": "1"}])
async def test_a_refused_suggestion_does_not_run(headers: Any, memory_factory: MemoryFactory) -> None:
    inputs: list[Any] = []

    async def agent(input: RunAgentInput) -> AsyncIterator[Any]:
        inputs.append(input)
        yield

    client = client_of(memory_factory(), {"default": agent})
    assert (await client.post("/agent/zzz/suggest", make_input(), headers=headers)).status == 404
    assert (await client.post(SUGGEST, b"{", headers=headers)).status == 400
    assert (await client.post(SUGGEST, {"threadId": "t"}, headers=headers)).status == 400
    assert (await client.post(SUGGEST, make_input("x" * 1025), headers=headers)).status == 400
    assert (await client.get(SUGGEST, headers=headers)).status == 405
    assert inputs == []
