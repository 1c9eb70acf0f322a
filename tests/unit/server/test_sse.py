"""The stream of a response: keep-alive comments, and clients that leave or stall."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agentrunner.server import Limits
from support.agents import Gate, agent_with
from support.asgi import client_of
from support.events import event_types, run_started, text_message
from support.inputs import make_input

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ag_ui.core import RunAgentInput

    from agentrunner import AgentRunner, InMemoryAgentRunner

    Factory = Callable[..., AgentRunner]
    MemoryFactory = Callable[..., InMemoryAgentRunner]
AGENT = agent_with(*text_message("m1", "hel", "lo"))
RUN = "/agent/default/run"


async def silent(input: RunAgentInput) -> AsyncIterator[Any]:
    return
    yield


async def test_a_silent_stream_sends_keep_alive_comments(runner: AgentRunner) -> None:
    gate = Gate(text_message("m1", "x"))
    client = client_of(runner, {"default": gate}, limits=Limits(keep_alive_seconds=0.05))
    async with client.open("POST", RUN, make_input()) as run:
        await run.until(b"TEXT_MESSAGE_END")
        for _ in range(3):
            assert await run.chunk() == b": keep-alive\n\n"
        gate.open()
        answer = await run.answer()
    assert event_types(answer.events())[-1] == "RUN_FINISHED"


async def test_keep_alive_comments_can_be_turned_off(runner: AgentRunner) -> None:
    gate = Gate(text_message("m1", "x"))
    # Check as often as comments would be sent if they were on.
    limits = Limits(keep_alive_seconds=0, stalled_seconds=0.1)
    client = client_of(runner, {"default": gate}, limits=limits)
    noisy = client_of(runner, {"default": AGENT}, limits=Limits(keep_alive_seconds=0.05))
    async with client.open("POST", RUN, make_input()) as quiet:
        await quiet.until(b"TEXT_MESSAGE_END")
        async with noisy.open("POST", "/agent/default/connect", make_input(run="c")) as other:
            # While another stream sends two comments, this one would have sent at least one.
            await other.until(b": keep-alive\n\n: keep-alive\n\n")
            gate.open()
            await other.answer()
        answer = await quiet.answer()
    assert b":" not in {line[:1] for line in answer.body.split(b"\n")}


async def test_a_busy_stream_sends_no_comments(memory_factory: MemoryFactory) -> None:
    async def talking(input: RunAgentInput) -> AsyncIterator[Any]:
        yield run_started(input.thread_id, input.run_id)
        loop = asyncio.get_running_loop()
        until = loop.time() + 0.5
        yield {"type": "TEXT_MESSAGE_START", "messageId": "m1", "role": "assistant"}
        while loop.time() < until:
            await asyncio.sleep(0.01)
            yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m1", "delta": "x"}
        yield {"type": "TEXT_MESSAGE_END", "messageId": "m1"}
        yield {"type": "RUN_FINISHED", "threadId": input.thread_id, "runId": input.run_id}

    client = client_of(memory_factory(), {"default": talking}, limits=Limits(keep_alive_seconds=0.3))
    answer = await client.post(RUN, make_input())
    assert len(answer.events()) > 10
    assert b"keep-alive" not in answer.body


async def test_a_client_that_leaves_does_not_end_its_run(runner: AgentRunner) -> None:
    gate = Gate(text_message("m1", "first"), text_message("m2", "second"))
    client = client_of(runner, {"default": gate})
    async with client.open("POST", RUN, make_input()) as run:
        await run.until(b"TEXT_MESSAGE_END")
    assert await runner.is_running("t1")
    assert not gate.cancelled
    async with client.open("POST", "/agent/default/connect", make_input(run="c")) as again:
        await again.until(b"first")
        gate.open()
        assert event_types((await again.answer()).events())[-1] == "RUN_FINISHED"
    messages = (await client.get("/threads/t1/messages")).json()["messages"]
    assert [message["content"] for message in messages] == ["first", "second"]


async def test_the_run_of_a_client_that_leaves_before_the_first_event_continues(runner: AgentRunner) -> None:
    waits, go = asyncio.Event(), asyncio.Event()

    async def late(input: RunAgentInput) -> AsyncIterator[Any]:
        waits.set()
        await go.wait()
        async for event in AGENT(input):
            yield event

    client = client_of(runner, {"default": late})
    async with client.open("POST", RUN, make_input()) as run:
        await run.wait_until_begun()
        await waits.wait()
    async with client.open("POST", "/agent/default/connect", make_input(run="c")) as again:
        await again.wait_until_begun()
        go.set()
        assert event_types((await again.answer()).events())[-1] == "RUN_FINISHED"
    (message,) = (await client.get("/threads/t1/messages")).json()["messages"]
    assert message["content"] == "hello"


async def test_a_client_that_reads_nothing_is_dropped_and_the_run_continues(runner: AgentRunner) -> None:
    gate = Gate(text_message("m1", "x"))
    client = client_of(runner, {"default": gate}, limits=Limits(keep_alive_seconds=0.05, stalled_seconds=0.1))
    async with client.open("POST", RUN, make_input()) as run:
        await run.until(b"TEXT_MESSAGE_END")
        run.stall()
        await run.wait_until_dropped()
    assert await runner.is_running("t1")
    gate.open()
    answer = await client.post("/agent/default/connect", make_input(run="c"))
    assert event_types(answer.events())[-1] == "RUN_FINISHED"


async def test_a_client_that_reads_nothing_for_a_while_misses_nothing(runner: AgentRunner) -> None:
    gate, silent = Gate(after=text_message("m1", "x")), Gate()
    limits = Limits(keep_alive_seconds=0.05, stalled_seconds=20)
    client = client_of(runner, {"default": gate, "silent": silent}, limits=limits)
    async with client.open("POST", RUN, make_input()) as run:
        await run.until(b"RUN_STARTED")
        run.stall()
        gate.open()
        async with client.open("POST", "/agent/silent/run", make_input("t2", "r2")) as other:
            # Comments are due meanwhile; that one cannot be sent at once must not drop the client.
            await other.until(b": keep-alive\n\n" * 4)
            silent.open()
        run.take()
        answer = await run.answer()
    assert event_types(answer.events()) == ["RUN_STARTED", *event_types(text_message("m1", "x")), "RUN_FINISHED"]
