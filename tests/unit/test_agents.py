"""Agents made from plain Python functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import AgentError, InMemoryAgentRunner, text_agent, verify
from agentrunner.harness import Harness
from support.asgi import client_of
from support.backends import embedded
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
    raise AgentError("no more words")


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


class Poet:
    """A class whose method is a text agent."""

    def __init__(self, words: list[str]) -> None:
        self.words = words

    @text_agent
    async def agent(self, input: RunAgentInput) -> AsyncIterator[str]:
        for word in self.words:
            yield word


async def test_a_method_is_a_text_agent(runner: AgentRunner) -> None:
    await collect(await runner.run(Poet(["Roses ", "are red"]).agent, make_input("t1")))
    assert [message["content"] for message in await runner.threads.messages("t1")] == ["Roses are red"]


@embedded
@pytest.mark.parametrize("value", [5, 0, None, b"x", {"type": "CUSTOM"}], ids=repr)
async def test_a_value_that_is_no_str_ends_the_run(runner: AgentRunner, value: Any) -> None:
    @text_agent
    async def agent(_: RunAgentInput) -> Any:
        yield "kept"
        yield value

    events = await collect(await runner.run(agent, make_input("t1")))
    assert event_types(events)[-2:] == ["TEXT_MESSAGE_END", "RUN_ERROR"]
    assert events[-1]["message"] == f"a text agent must yield str, not {type(value).__name__}"
    assert [message["content"] for message in await runner.threads.messages("t1")] == ["kept"]


def generator(_: Any) -> Any:
    yield "x"


async def coroutine(_: Any) -> Any:
    return "x"


class CallableGenerator:
    """An object whose call is a plain generator."""

    def __call__(self, _: Any) -> Any:
        yield "x"


class AgentOfEvents:
    """An agent that yields events, which is no function."""

    def run(self, _: Any) -> Any:
        yield {}


@pytest.mark.parametrize(
    ("function", "problem"),
    [(generator, "without `async`"), (CallableGenerator(), "without `async`"), (coroutine, "without `yield`"),
     (None, "NoneType"), (5, "int"), (AgentOfEvents(), "AgentOfEvents"), (greeter, "already a text agent")],
)  # fmt: skip
def test_what_cannot_be_a_text_agent_is_refused_at_decoration(function: Any, problem: str) -> None:
    with pytest.raises(TypeError, match=f"`async def` with `yield`; this is .*{problem}"):
        text_agent(function)


async def test_a_function_that_returns_an_async_iterator_is_a_text_agent() -> None:
    async def texts() -> AsyncIterator[str]:
        yield "x"

    async with InMemoryAgentRunner() as runner:
        events = await collect(await runner.run(text_agent(lambda _: texts()), make_input("t1", "r1")))
        assert event_types(events)[-1] == "RUN_FINISHED"
        wrong: Any = lambda _: ["x"]  # noqa: E731 - the parameter's name is not the point
        events = await collect(await runner.run(text_agent(wrong), make_input("t1", "r2")))
        assert events[-1]["message"] == "a text agent must return an async iterator of str, not list"


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
