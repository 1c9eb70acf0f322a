"""`/info`, which clients request first."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel, Field

from agentrunner import __version__
from support.agents import agent_with
from support.asgi import client_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import InMemoryAgentRunner
    from agentrunner.server import Audio

    MemoryFactory = Callable[..., InMemoryAgentRunner]


class Agent:
    def run(self, input: Any) -> Any:
        return agent_with()(input)


class Described(Agent):
    description = "does it"


async def function(input: Any) -> Any:
    yield


class Scribe:
    async def transcribe(self, audio: Audio) -> str:
        return ""


async def info(memory_factory: MemoryFactory, agents: dict[str, Any], **options: Any) -> Any:
    answer = await client_of(memory_factory(), agents, **options).get("/info")
    assert answer.status == 200
    return answer.json()


async def test_the_whole_response(memory_factory: MemoryFactory) -> None:
    assert await info(memory_factory, {"default": Described()}) == {
        "version": __version__,
        "agents": {"default": {"name": "default", "description": "does it", "className": "Described"}},
        "audioFileTranscriptionEnabled": False,
        "mode": "sse",
        "threadEndpoints": {"list": True, "inspect": True, "mutations": True, "realtimeMetadata": False},
        "suggestions": True,
        "a2uiEnabled": False,
        "openGenerativeUIEnabled": False,
        "telemetryDisabled": True,
    }


async def test_each_agent_is_named_and_described(memory_factory: MemoryFactory) -> None:
    agents = {"a": Agent(), "b": Described(), "c": function, "ü/€": Agent(), "__proto__": Agent()}
    assert (await info(memory_factory, agents))["agents"] == {
        "a": {"name": "a", "description": "", "className": "Agent"},
        "b": {"name": "b", "description": "does it", "className": "Described"},
        "c": {"name": "c", "description": "", "className": "function"},
        "ü/€": {"name": "ü/€", "description": "", "className": "Agent"},
        "__proto__": {"name": "__proto__", "description": "", "className": "Agent"},
    }


@pytest.mark.parametrize("description", [None, 1, b"x", {"a": 1}, property(lambda self: "x"), "\ud800"])
async def test_a_description_of_any_type(description: Any, memory_factory: MemoryFactory) -> None:
    agent = type("Odd", (Agent,), {"description": description})()
    described = (await info(memory_factory, {"default": agent}))["agents"]["default"]
    assert isinstance(described["description"], str)
    assert described["className"] == "Odd"


class Capabilities(BaseModel):
    tool_calls: bool = Field(True, alias="toolCalls")
    left_out: str | None = None


@pytest.mark.parametrize(
    ("capabilities", "shown"),
    [
        ({"tools": {"supported": True}}, {"tools": {"supported": True}}),
        (Capabilities(), {"toolCalls": True}),
        ({}, {}),
        (None, None),
    ],
)
@pytest.mark.parametrize("waits", [False, True])
async def test_the_capabilities_of_an_agent(
    waits: bool, capabilities: Any, shown: Any, memory_factory: MemoryFactory
) -> None:
    class Capable(Agent):
        def get_capabilities(self) -> Any:
            return asyncio.sleep(0, capabilities) if waits else capabilities

    described = (await info(memory_factory, {"default": Capable()}))["agents"]["default"]
    assert described.get("capabilities") == shown
    assert ("capabilities" in described) == (shown is not None)


@pytest.mark.parametrize("waits", [False, True])
async def test_an_agent_that_fails_to_describe_itself_loses_only_its_capabilities(
    waits: bool, memory_factory: MemoryFactory
) -> None:
    class Failing(Described):
        def get_capabilities(self) -> Any:
            if not waits:
                raise RuntimeError("secret")
            return self.later()

        async def later(self) -> Any:
            raise RuntimeError("secret")

    agents = (await info(memory_factory, {"bad": Failing(), "good": Described()}))["agents"]
    assert agents["bad"] == {"name": "bad", "description": "does it", "className": "Failing"}
    assert agents["good"]["className"] == "Described"


@pytest.mark.parametrize("capabilities", [object(), {"a": object()}, {1, 2}, {"a": float("nan")}, {1: 2}, "\ud800"])
async def test_capabilities_that_are_not_json_are_left_out(capabilities: Any, memory_factory: MemoryFactory) -> None:
    class Odd(Described):
        def get_capabilities(self) -> Any:
            return capabilities

    agents = (await info(memory_factory, {"odd": Odd(), "good": Described()}))["agents"]
    assert agents["good"] == {"name": "good", "description": "does it", "className": "Described"}
    assert agents["odd"]["className"] == "Odd"


async def test_transcription_is_announced_if_there_is_a_service(memory_factory: MemoryFactory) -> None:
    response = await info(memory_factory, {"default": Agent()}, transcriber=Scribe())
    assert response["audioFileTranscriptionEnabled"] is True


@pytest.mark.parametrize("mode", ["multi-route", "both"])
async def test_info_by_its_path_announces_the_thread_routes(mode: str, memory_factory: MemoryFactory) -> None:
    response = await info(memory_factory, {"default": Agent()}, mode=mode)
    assert "singleRoute" not in response
    assert response["threadEndpoints"]["list"] is True


async def test_info_runs_and_stores_nothing(memory_factory: MemoryFactory) -> None:
    class Never(Agent):
        def run(self, input: Any) -> Any:
            raise AssertionError

    runner = memory_factory()
    client = client_of(runner, {"default": Never()})
    for _ in range(3):
        assert (await client.get("/info")).status == 200
    assert await runner.threads.list() == []


@pytest.mark.parametrize("agents", [{}, {"": Agent()}, {1: Agent()}, {None: Agent()}])
def test_the_app_needs_agents_with_names(agents: Any, memory_factory: MemoryFactory) -> None:
    with pytest.raises(ValueError, match="agents must be a mapping"):
        client_of(memory_factory(), agents)


@pytest.mark.parametrize("mode", ["", "single", "multi", None, "SINGLE-ROUTE"])
def test_the_mode_must_be_one_of_three(mode: Any, memory_factory: MemoryFactory) -> None:
    with pytest.raises(ValueError, match="mode must be"):
        client_of(memory_factory(), {"default": Agent()}, mode=mode)
