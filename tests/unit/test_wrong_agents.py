"""Agents that cannot be run: the error names the line to write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import InvalidInput
from agentrunner.harness import Harness
from agentrunner.runtime import AgentRuntime
from support.agents import agent_with
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import AgentRunner

pytestmark = pytest.mark.fault("D18")


def not_async(input: Any) -> Any:
    yield {"type": "RUN_STARTED"}


async def without_parameters() -> Any:
    yield {}


async def with_two(input: Any, model: Any) -> Any:
    yield {}


class ByName:
    """An object whose `run` takes its input by name only."""

    async def run(self, *, input: Any) -> Any:
        yield {}


class CallableAgent:
    """An object whose call is a generator that is not async."""

    def __call__(self, input: Any) -> Any:
        yield {}


class WithRun:
    """An object with such a `run`."""

    def run(self, input: Any) -> Any:
        yield {}


def raw_agent(package: str) -> Any:
    """Return what looks like an agent of another package, which need not be installed."""
    return type("Agent", (), {"__module__": f"{package}.agent", "run": lambda *_: None})()


WRONG: dict[str, tuple[Any, str]] = {
    "class": (AgentRuntime, r"pass an object of it: AgentRuntime\(…\)"),
    "class with clone": (type("Clonable", (), {"clone": lambda self: self}), r"Clonable\(…\)"),
    "pydantic-ai": (raw_agent("pydantic_ai"), r"AGUIAdapter\(agent, input\).run_stream\(\)"),
    "agno": (raw_agent("agno"), r"lambda input: run_agent\(agent, input\)"),
    "generator": (not_async, "write `async def not_async`"),
    "callable": (CallableAgent(), r"write `async def __call__`"),
    "method": (WithRun(), "write `async def run`"),
    "number": (5, "not int"),
    "no parameter": (without_parameters, r"its only argument; write `async def without_parameters\(input\)`"),
    "two parameters": (with_two, r"write `async def with_two\(input\)`"),
    "by name": (ByName(), r"write `async def run\(input\)`"),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_agent_is_refused_with_the_line_to_write(
    name: str, memory_factory: Callable[..., AgentRunner]
) -> None:
    agent, line = WRONG[name]
    runner = memory_factory()
    with pytest.raises(InvalidInput, match=line):
        await runner.run(agent, make_input())
    with pytest.raises(ValueError, match=f"agent 'a' .*{line}"):
        Harness(runner, {"a": agent})


async def test_sse_text_is_refused_with_the_line_to_write(memory_factory: Callable[..., AgentRunner]) -> None:
    for number, text in enumerate(('data: {"type":"CUSTOM","name":"x","value":1}\n\n', "event: message\ndata: {}\n\n")):
        for event in (text, text.encode()):
            agent = agent_with(event)
            events = await collect(await memory_factory().run(agent, make_input(run=f"r{number}")))
            assert events[-1]["code"] == "INVALID_EVENT"
            assert "without an encoder" in events[-1]["message"]
