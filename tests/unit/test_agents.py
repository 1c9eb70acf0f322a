"""Agents made from plain Python functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agentrunner import InMemoryAgentRunner, text_agent, verify
from agentrunner.harness import Harness
from support.asgi import client_of
from support.events import event_types
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ag_ui.core import RunAgentInput

    from agentrunner import AgentRunner


@text_agent
async def greeter(input: RunAgentInput) -> AsyncIterator[str]:
    """Greet the user."""
    for text in ("", "Hello", "", ", you"):
        yield text


@text_agent
async def failing(input: RunAgentInput) -> AsyncIterator[str]:
    yield "Hel"
    raise RuntimeError("no more words")


@text_agent
async def silent(input: RunAgentInput) -> AsyncIterator[str]:
    yield ""


async def test_text_becomes_one_message(runner: AgentRunner) -> None:
    events = await collect(await runner.run(greeter, make_input("t1", "r1")))
    verify(events)
    assert event_types(events) == [
        "RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END",
        "RUN_FINISHED",
    ]  # fmt: skip
    assert (events[0]["threadId"], events[0]["runId"]) == (events[-1]["threadId"], events[-1]["runId"]) == ("t1", "r1")
    assert len({event["messageId"] for event in events[1:-1]}) == 1
    (message,) = await runner.threads.messages("t1")
    assert (message["role"], message["content"]) == ("assistant", "Hello, you")


async def test_each_run_has_a_message_id_of_its_own(runner: AgentRunner) -> None:
    for run in ("r1", "r2"):
        await collect(await runner.run(greeter, make_input("t1", run)))
    assert len({message["id"] for message in await runner.threads.messages("t1")}) == 2


async def test_no_text_makes_no_message(runner: AgentRunner) -> None:
    assert event_types(await collect(await runner.run(silent, make_input()))) == ["RUN_STARTED", "RUN_FINISHED"]


async def test_an_exception_ends_the_run_with_run_error(runner: AgentRunner) -> None:
    events = await collect(await runner.run(failing, make_input()))
    assert event_types(events)[-2:] == ["TEXT_MESSAGE_END", "RUN_ERROR"]
    assert events[-1]["message"] == "no more words"


def test_the_agent_keeps_the_functions_name_and_docstring() -> None:
    assert (greeter.__name__, greeter.__doc__) == ("greeter", "Greet the user.")


async def test_over_http_and_in_a_harness() -> None:
    async with InMemoryAgentRunner() as runner:
        response = await client_of(runner, {"default": greeter}).post("/agent/default/run", make_input("t1", "r1"))
        assert event_types(response.events())[-1] == "RUN_FINISHED"
        async with Harness(runner, {"greeter": greeter}) as harness:
            result = await harness.run("hi")
            assert (result.state, result.content) == ("completed", "Hello, you")


async def test_an_agent_without_boundaries_over_http() -> None:
    async def agent(_: Any) -> Any:
        yield {"type": "TEXT_MESSAGE_CHUNK", "messageId": "m1", "delta": "Hello"}

    async with InMemoryAgentRunner() as runner:
        response = await client_of(runner, {"default": agent}).post("/agent/default/run", make_input("t1", "r1"))
        types = ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "RUN_FINISHED"]
        assert event_types(response.events()) == types
