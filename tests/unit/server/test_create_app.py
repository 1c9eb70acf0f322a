"""The options of `create_app`: each wrong one is refused by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import InvalidInput
from agentrunner.server import create_app
from support.agents import agent_with
from support.inputs import make_input
from support.wire import client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from agentrunner import AgentRunner

AGENTS = {"default": agent_with()}


class Agent:
    async def run(self, input: Any) -> AsyncIterator[Any]:
        yield {}


def generator(input: Any) -> Iterator[Any]:
    yield {}


def pydantic_ai_agent() -> Any:
    return pytest.importorskip("pydantic_ai").Agent("test")


def langgraph_agent() -> Any:
    langgraph = pytest.importorskip("langgraph.graph")
    graph = langgraph.StateGraph(langgraph.MessagesState)
    graph.add_node("a", lambda state: state)
    graph.set_entry_point("a")
    return graph.compile()


def agno_agent() -> Any:
    return type("Agent", (), {"run": lambda self, text: text, "__module__": "agno.agent.agent"})()


@pytest.mark.fault("D18")
@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: Agent, r"is the class Agent; pass an object of it: Agent\(…\)"),
        (lambda: generator, "is a generator that is not async; write `async def generator`"),
        (pydantic_ai_agent, r"lambda input: AGUIAdapter\(agent, input\).run_stream\(\)"),
        (langgraph_agent, r'LangGraphAgent\(name="default", graph=agent\)'),
        (agno_agent, r"lambda input: run_agent\(agent, input\)"),
        (lambda: "agent", r"must be a function of the input, or an object with `run\(input\)`, not str"),
    ],
)
async def test_what_is_no_agent_is_refused_with_the_line_that_makes_one(
    make: Callable[[], Any], line: str, memory_factory: Callable[..., AgentRunner]
) -> None:
    runner = memory_factory()
    with pytest.raises(ValueError, match=f"agent 'mine' .*{line}"):
        create_app(runner, {"mine": make()})
    with pytest.raises(InvalidInput, match=line):
        await runner.run(make(), make_input())


@pytest.mark.fault("D18")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("limits", 5), ("limits", {}), ("cors", "everybody"), ("cors", 1), ("cors", ["https://a.example"]),
        ("authenticate", "me"), ("authenticate", Agent), ("forward_headers", ["x"]), ("transcriber", lambda audio: ""),
        ("inspector", "yes"), ("mcp_requests", None), ("shutdown_seconds", -1), ("shutdown_seconds", "10"),
        ("base_path", 5), ("base_path", "copilotkit"), ("mode", "all"), ("runner", "threads.db"), ("agents", [Agent()]),
        ("agents", Agent()), ("agents", {}),
    ],
)  # fmt: skip
def test_an_option_of_the_wrong_type_is_refused_by_its_name(
    name: str, value: Any, memory_factory: Callable[..., AgentRunner]
) -> None:
    options: dict[str, Any] = {"runner": memory_factory(), "agents": AGENTS} | {name: value}
    with pytest.raises(ValueError, match=f"^{name} must"):
        create_app(**options)


MCP = {"__proxiedMCPRequest": {"serverId": "s", "method": "tools/call"}}


@pytest.mark.fault("C11")
@pytest.mark.parametrize(
    "fields",
    [
        {"forwardedProps": MCP}, {"forwarded_props": MCP}, {"forwardedProps": {}, "forwarded_props": MCP},
        {"forwarded_props": MCP, "forwardedProps": None}, {"forwardedProps": MCP, "forwarded_props": {"other": 1}},
    ],
)  # fmt: skip
async def test_a_request_to_an_mcp_server_is_never_stored_and_needs_the_option(
    fields: dict[str, Any], memory_factory: Callable[..., AgentRunner]
) -> None:
    inputs: list[Any] = []

    async def agent(input: Any) -> AsyncIterator[Any]:
        inputs.append(input.forwarded_props)
        yield {"type": "CUSTOM", "name": "result", "value": 1}

    runner = memory_factory()
    for allowed in (False, True):
        app = create_app(runner, {"default": agent}, mode="both", mcp_requests=allowed)
        async with client(app) as http:
            for path in ("/agent/default/run", "/agent/default/suggest", "/", "/default"):
                content = make_input(run=path)
                del content["forwardedProps"]
                answer = await http.post(path, json=content | fields)
                assert answer.status_code == (200 if allowed else 403), path
                assert (b'"value":1' if allowed else b"mcp_requests=True") in answer.content
    assert inputs == [MCP] * 4
    assert await runner.threads.list() == []


@pytest.mark.fault("C11")
@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"forwardedProps": "__proxiedMCPRequest"}, "__proxiedMCPRequest"),
        ({"forwardedProps": ["__proxiedMCPRequest", MCP]}, ["__proxiedMCPRequest", MCP]),
        ({"forwardedProps": {"__proxiedMCPRequest": None}}, {"__proxiedMCPRequest": None}),
        ({"forwardedProps": {"mine": 1}, "forwarded_props": MCP}, {"mine": 1}),
    ],
)
async def test_what_is_no_request_to_an_mcp_server_is_a_turn(
    fields: dict[str, Any], told: Any, memory_factory: Callable[..., AgentRunner]
) -> None:
    inputs: list[Any] = []

    async def agent(input: Any) -> AsyncIterator[Any]:
        inputs.append(input.model_dump(by_alias=True))
        yield {"type": "CUSTOM", "name": "result", "value": 1}

    runner = memory_factory()
    async with client(create_app(runner, {"default": agent})) as http:
        assert (await http.post("/agent/default/run", json=make_input() | fields)).status_code == 200
    [received] = inputs
    assert received["forwardedProps"] == told
    assert "forwarded_props" not in received
    stored = [event.to_dict() async for event in await runner.connect("t1")]
    assert stored[0]["input"]["forwardedProps"] == told
    assert "forwarded_props" not in stored[0]["input"]


@pytest.mark.fault("C8")
async def test_the_description_of_the_routes_needs_credentials_where_info_does(
    memory_factory: Callable[..., AgentRunner],
) -> None:
    async with client(create_app(memory_factory(), AGENTS, authenticate=lambda _: None)) as http:
        assert (await http.get("/openapi.json")).status_code == 401
    async with client(create_app(memory_factory(), AGENTS)) as http:
        assert "default" in (await http.get("/openapi.json")).text
