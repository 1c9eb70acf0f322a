"""A message that waited for a run was sent by a client that had not seen the run's answer."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from support.agents import Gate, agent_with
from support.events import text_message
from support.harness import until
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import AgentRunner


async def test_a_message_that_waited_does_not_discard_the_answer(runner_factory: Callable[..., AgentRunner]) -> None:
    runner = runner_factory(on_concurrent_run="enqueue")
    gate = Gate(text_message("a1", "hello"))
    first = asyncio.ensure_future(collect(await runner.run(gate, make_input("t", "r1", ["u1"]))))
    await gate.reached.wait()

    async def send(number: int, messages: list[Any]) -> list[dict[str, Any]]:
        agent = agent_with(*text_message(f"a{number}", "hello"))
        return await collect(await runner.run(agent, make_input("t", f"r{number}", messages)))

    # A second tab has only the question.
    second = asyncio.ensure_future(send(2, ["u1", "u2"]))
    await until(lambda: runner._claiming._line._bytes > 0)
    gate.open()
    await first
    events = await second
    assert "MESSAGES_SNAPSHOT" not in [event["type"] for event in events]
    assert [message["id"] for message in await runner.threads.messages("t")] == ["u1", "a1", "u2", "a2"]
    # Nor does its next message, although that tab still shows no answer to the first question.
    answer = {"id": "a2", "role": "assistant", "content": "hello"}
    events = await send(3, ["u1", "u2", answer, "u3"])
    assert "MESSAGES_SNAPSHOT" not in [event["type"] for event in events]
    assert [message["id"] for message in await runner.threads.messages("t")] == ["u1", "a1", "u2", "a2", "u3", "a3"]
