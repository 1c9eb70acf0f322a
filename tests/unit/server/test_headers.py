"""The headers that an agent sees, and the scope of its run (the original's header tests)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import current_run
from agentrunner.server import ForwardHeaders, Principal
from support.agents import agent_with
from support.asgi import client_of
from support.inputs import make_input

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from ag_ui.core import RunAgentInput

    from agentrunner import AgentRunner, InMemoryAgentRunner

    MemoryFactory = Callable[..., InMemoryAgentRunner]

DENIED = [
    "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "x-forwarded-server", "x-real-ip",
    "x-amzn-trace-id", "x-amz-cf-id", "x-cloud-trace-context", "x-cache", "x-served-by", "x-request-id",
    "x-copilotcloud-public-api-key", "x-amz-anything", "x-azure-ref", "x-fastly-client", "x-vercel-id",
    "x-middleware-next", "x-copilotcloud-other",
]  # fmt: skip
ALLOWED = [
    "authorization", "x-custom", "x-api-key", "x-", "x-tenant-id", "x-forwarded-user", "x-amzn-other", "x-amz",
    "x-azure", "x-vercel", "x-caches", "x-csrf-token",
]  # fmt: skip
NEVER = [
    "cookie",
    "content-type",
    "host",
    "accept",
    "origin",
    "user-agent",
    "proxy-authorization",
    "authorizations",
    "xx",
]


async def see_headers(
    memory_factory: MemoryFactory, headers: Any, policy: ForwardHeaders | None = None
) -> Mapping[str, str]:
    """Return the headers that an agent sees."""
    seen: list[Mapping[str, str]] = []

    async def agent(input: RunAgentInput) -> AsyncIterator[Any]:
        seen.append(current_run().headers)
        async for event in agent_with()(input):
            yield event

    client = client_of(memory_factory(), {"default": agent}, forward_headers=policy)
    assert (await client.post("/agent/default/run", make_input(), headers=headers)).status == 200
    return seen[0]


@pytest.mark.parametrize("name", ALLOWED)
async def test_a_forwarded_header(name: str, memory_factory: MemoryFactory) -> None:
    for written in (name, name.upper(), name.title()):
        assert await see_headers(memory_factory, {written: "v"}) == {name: "v"}


@pytest.mark.parametrize("name", [*DENIED, *NEVER])
async def test_a_header_that_is_not_forwarded(name: str, memory_factory: MemoryFactory) -> None:
    # With other values, the server would refuse the request.
    value = {"content-type": "application/json", "origin": "http://test"}.get(name, "v")
    for written in (name, name.upper(), name.title()):
        assert await see_headers(memory_factory, {written: value, "x-other": "w"}) == {"x-other": "w"}


@pytest.mark.parametrize("name", DENIED)
async def test_the_default_denylist_can_be_turned_off(name: str, memory_factory: MemoryFactory) -> None:
    policy = ForwardHeaders(use_default_denylist=False)
    assert await see_headers(memory_factory, {name: "v", "cookie": "c"}, policy) == {name: "v"}


GIVEN = {"authorization": "a", "x-one": "1", "x-two": "2", "x-internal-a": "3", "x-request-id": "4", "cookie": "5"}


@pytest.mark.parametrize(
    ("policy", "names"),
    [
        (ForwardHeaders(), ["authorization", "x-one", "x-two", "x-internal-a"]),
        (ForwardHeaders(deny=["x-one"]), ["authorization", "x-two", "x-internal-a"]),
        (ForwardHeaders(deny=["X-ONE ", " Authorization"]), ["x-two", "x-internal-a"]),
        (ForwardHeaders(deny=["x-"]), ["authorization", "x-one", "x-two", "x-internal-a"]),
        (ForwardHeaders(deny_prefixes=["x-internal-"]), ["authorization", "x-one", "x-two"]),
        (ForwardHeaders(deny_prefixes=[" X-Internal- "]), ["authorization", "x-one", "x-two"]),
        (ForwardHeaders(deny_prefixes=["x-"]), ["authorization"]),
        (ForwardHeaders(deny_prefixes=[""]), ["authorization", "x-one", "x-two", "x-internal-a"]),
        (ForwardHeaders(deny_prefixes=["  ", "x-t"]), ["authorization", "x-one", "x-internal-a"]),
        (ForwardHeaders(deny=[""]), ["authorization", "x-one", "x-two", "x-internal-a"]),
        (ForwardHeaders(allow=["x-one"]), ["x-one"]),
        (ForwardHeaders(allow=["X-One "]), ["x-one"]),
        (ForwardHeaders(allow=["cookie"]), ["cookie"]),
        (ForwardHeaders(allow=["x-request-id"]), ["x-request-id"]),
        (ForwardHeaders(allow=["x-one", "x-two"], deny=["x-one"]), ["x-two"]),
        (ForwardHeaders(allow=["x-one"], deny=["x-one"]), []),
        (ForwardHeaders(allow=["x-internal-a", "x-one"], deny_prefixes=["x-internal-"]), ["x-one"]),
        (ForwardHeaders(allow=["x-absent"]), []),
        (ForwardHeaders(allow=["", " "]), ["authorization", "x-one", "x-two", "x-internal-a"]),
        (ForwardHeaders(allow=["", "x-one"]), ["x-one"]),
        (ForwardHeaders(allow=["x-one"], use_default_denylist=False), ["x-one"]),
        (
            ForwardHeaders(use_default_denylist=False, deny=["x-one"]),
            ["authorization", "x-two", "x-internal-a", "x-request-id"],
        ),
    ],
)
async def test_a_custom_policy(policy: ForwardHeaders, names: list[str], memory_factory: MemoryFactory) -> None:
    assert await see_headers(memory_factory, GIVEN, policy) == {name: GIVEN[name] for name in names}


async def test_a_repeated_header_is_forwarded_with_all_values(memory_factory: MemoryFactory) -> None:
    assert await see_headers(memory_factory, [("X-A", "1"), ("x-b", "2"), ("x-a", "3")]) == {"x-a": "1, 3", "x-b": "2"}


@pytest.mark.parametrize("value", ["", " ", "Bearer a.b.c", "a, b", "ü", "\xff", "x" * 10_000, '"q"', "a=b; c"])
async def test_a_value_is_forwarded_unchanged(value: str, memory_factory: MemoryFactory) -> None:
    assert await see_headers(memory_factory, {"x-a": value, "authorization": value}) == {
        "x-a": value,
        "authorization": value,
    }


async def test_a_request_without_headers_forwards_none(memory_factory: MemoryFactory) -> None:
    assert await see_headers(memory_factory, {}) == {}


@pytest.mark.parametrize(
    ("mode", "path", "content"),
    [
        ("multi-route", "/agent/default/run", make_input()),
        ("multi-route", "/agent/default/suggest", make_input()),
        ("multi-route", "/", make_input()),
        ("multi-route", "/default", make_input()),
        ("single-route", "/", {"method": "agent/run", "params": {"agentId": "default"}, "body": make_input()}),
        ("single-route", "/", {"method": "agent/suggest", "params": {"agentId": "default"}, "body": make_input()}),
    ],
)
async def test_headers_and_scope_reach_the_agent_on_every_route(
    mode: Any, path: str, content: Any, runner: AgentRunner
) -> None:
    seen: list[Any] = []

    async def agent(input: RunAgentInput) -> AsyncIterator[Any]:
        run = current_run()
        seen.append((dict(run.headers), run.scope, run.run_id))
        async for event in agent_with()(input):
            yield event

    async def who(request: Any) -> Principal:
        return Principal(f"user of {request.headers['authorization']}")

    client = client_of(runner, {"default": agent}, mode=mode, authenticate=who)
    headers = {"authorization": "token", "x-tenant": "t", "cookie": "c"}
    assert (await client.post(path, content, headers=headers)).status == 200
    assert seen == [({"authorization": "token", "x-tenant": "t"}, "user of token", "r1")]


async def test_each_run_has_its_own_headers(runner: AgentRunner) -> None:
    seen: dict[str, Any] = {}

    async def agent(input: RunAgentInput) -> AsyncIterator[Any]:
        seen[input.run_id] = dict(current_run().headers), current_run().scope
        async for event in agent_with()(input):
            yield event

    client = client_of(runner, {"default": agent})
    for n in range(3):
        await client.post("/agent/default/run", make_input(run=f"r{n}"), headers={"x-n": str(n)})
    assert seen == {f"r{n}": ({"x-n": str(n)}, None) for n in range(3)}


async def test_headers_are_not_stored(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": agent_with()})
    await client.post(
        "/agent/default/run", make_input(), headers={"authorization": "hidden-token", "x-a": "hidden-too"}
    )
    assert b"hidden" not in (await client.get("/threads/t1/events")).body
    assert b"hidden" not in (await client.get("/threads")).body
