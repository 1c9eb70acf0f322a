"""What a request asks for: base paths, mounts and plain AG-UI requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

from agentrunner.server import create_app
from agentrunner.server.routes import ROUTES
from agentrunner.server.routing import strip_base_path
from support.agents import agent_with
from support.asgi import Answer, Client, client_of
from support.events import event_types, text_message
from support.inputs import make_input

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import InMemoryAgentRunner

    MemoryFactory = Callable[..., InMemoryAgentRunner]
AGENT = agent_with(*text_message("m1", "hello"))
STREAM = ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "RUN_FINISHED"]


def serving(memory_factory: MemoryFactory, **options: Any) -> Client:
    return client_of(memory_factory(), {"default": AGENT}, **options)


def is_not_found(answer: Answer) -> bool:
    return answer.status == 404 and answer.json() == {"error": "Not found"}


def find_route(path: str) -> tuple[str, str, str] | None:
    """Return the name of the route that a path belongs to, and the ids in the path."""
    match = ROUTES.match(path)
    return (match.name, match.agent_id, match.thread_id) if match is not None else None


@pytest.mark.parametrize(
    ("base", "path", "rest"),
    [
        ("/", "/info", "/info"), ("/", "/any/prefix/info", "/any/prefix/info"), ("/", "/", "/"), ("/", "", ""),
        ("/api", "/api/info", "/info"), ("/api/", "/api/info", "/info"), ("/api", "/api", ""), ("/api", "/api/", "/"),
        ("/api/", "/api", ""), ("/api", "/apiv2/info", None), ("/api", "/info", None), ("/api", "/", None),
        ("/api", "/x/api/info", None), ("/api", "/API/info", None), ("/api/v1", "/api/v1/info", "/info"),
        ("/api/v1", "/api/info", None), ("/api/v1", "/api/v10/info", None), (None, "/info", "/info"),
        (None, "/a/b/info", "/a/b/info"), ("/agent", "/agent/agent/a/run", "/agent/a/run"),
        ("/api", "/api//info", "//info"), ("/a.b", "/axb/info", None),
    ],
)  # fmt: skip
def test_the_part_of_a_path_after_the_base_path(base: str | None, path: str, rest: str | None) -> None:
    assert strip_base_path(path, base) == rest


@pytest.mark.parametrize(
    ("base", "path", "status"),
    [
        ("/", "/info", 200), ("/", "/x/y/info", 200), ("/", "/info/", 200), ("/", "//info", 200),
        (None, "/info", 200), (None, "/x/y/info", 200), (None, "/x/y/info/", 200),
        ("/api/copilotkit", "/api/copilotkit/info", 200), ("/api/copilotkit/", "/api/copilotkit/info", 200),
        ("/api/copilotkit", "/api/copilotkit/info/", 200), ("/api/copilotkit", "/api/copilotkit/x/info", 200),
        ("/api/copilotkit", "/api/copilotkit", 404), ("/api/copilotkit", "/api/copilotkit/", 404),
        ("/api/copilotkit", "/api/copilotkitten/info", 404), ("/api/copilotkit", "/info", 404),
        ("/api/copilotkit", "/x/api/copilotkit/info", 404), ("/api/copilotkit", "/api/info", 404),
        ("/info", "/info/info", 200), ("/info", "/info", 404),
    ],
)  # fmt: skip
async def test_a_base_path(base: str | None, path: str, status: int, memory_factory: MemoryFactory) -> None:
    answer = await serving(memory_factory, base_path=base).get(path)
    assert answer.status == status
    if status == 200:
        assert list(answer.json()["agents"]) == ["default"]
    else:
        assert is_not_found(answer)


@pytest.mark.parametrize("base", ["api", "", "api/"])
def test_a_base_path_must_start_with_a_slash(base: str, memory_factory: MemoryFactory) -> None:
    with pytest.raises(ValueError, match="must start with a slash"):
        serving(memory_factory, base_path=base)


async def test_the_query_is_not_part_of_the_path(memory_factory: MemoryFactory) -> None:
    client = serving(memory_factory)
    assert (await client.get("/info?x=/threads")).status == 200
    assert (await client.get("/nothing?x=/info")).status == 404


def mounted_in_fastapi(app: Starlette, prefix: str) -> Any:
    outer = FastAPI()
    outer.mount(prefix, app)
    return outer


def mounted_in_starlette(app: Starlette, prefix: str) -> Any:
    return Starlette(routes=[Mount(prefix, app=app)])


def mounted_twice(app: Starlette, prefix: str) -> Any:
    first, second = prefix[: prefix.index("/", 1)], prefix[prefix.index("/", 1) :]
    return mounted_in_fastapi(mounted_in_starlette(app, second), first)


@pytest.mark.parametrize("mounted", [mounted_in_fastapi, mounted_in_starlette, mounted_twice])
@pytest.mark.parametrize("base", ["/", None, "/base", "/base/"])
async def test_a_mounted_app(mounted: Any, base: str | None, memory_factory: MemoryFactory) -> None:
    app = create_app(memory_factory(), {"a/b": AGENT}, base_path=base)
    client = Client(mounted(app, "/api/kit"))
    at = f"/api/kit{(base or '').rstrip('/')}"
    assert list((await client.get(f"{at}/info")).json()["agents"]) == ["a/b"]
    assert event_types((await client.post(f"{at}/agent/a%2Fb/run", make_input("t/1"))).events()) == STREAM
    assert event_types((await client.get(f"{at}/threads/t%2F1/events")).json()["events"]) == STREAM
    assert (await client.get(f"{at}/threads/t/1/events")).status == 404
    assert (await client.post(f"{at}/info", {})).status == 405
    assert is_not_found(await client.get(f"{at}/nothing"))
    if base and base != "/":
        assert is_not_found(await client.get("/api/kit/info"))


async def test_a_mount_with_an_escaped_prefix(memory_factory: MemoryFactory) -> None:
    client = Client(mounted_in_starlette(create_app(memory_factory(), {"default": AGENT}, base_path="/x"), "/a b/ü"))
    assert (await client.get("/a%20b/%C3%BC/x/info")).status == 200


async def test_an_app_behind_a_proxy_that_strips_a_prefix(memory_factory: MemoryFactory) -> None:
    app = create_app(memory_factory(), {"default": AGENT}, base_path="/x")
    client = Client(app, root_path="/proxied")
    assert (await client.get("/proxied/x/info")).status == 200
    assert (await client.get("/x/info")).status == 200


async def test_an_asgi_server_without_raw_path(memory_factory: MemoryFactory) -> None:
    client = Client(create_app(memory_factory(), {"ü b": AGENT}), raw_path=None)
    assert (await client.get("/info")).status == 200
    assert event_types((await client.post("/agent/%C3%BC%20b/run", make_input())).events()) == STREAM


@pytest.mark.parametrize("base", ["/", None, "/api"])
@pytest.mark.parametrize("path", ["", "/", "/default", "/default/"])
async def test_a_plain_ag_ui_request(path: str, base: str | None, memory_factory: MemoryFactory) -> None:
    client = serving(memory_factory, base_path=base)
    target = ("/api" if base == "/api" else "") + path
    assert event_types((await client.post(target or "/", make_input())).events()) == STREAM


async def test_a_plain_request_to_an_agent_by_its_id(memory_factory: MemoryFactory) -> None:
    client = client_of(
        memory_factory(), {"first": agent_with({"type": "CUSTOM", "name": "f", "value": 1}), "a/ü": AGENT}
    )
    assert event_types((await client.post("/a%2F%C3%BC", make_input())).events()) == STREAM
    assert event_types((await client.post("/", make_input(run="r2", thread="t2"))).events())[1] == "CUSTOM"
    assert is_not_found(await client.post("/unknown", make_input(run="r3")))
    assert is_not_found(await client.post("/x/first", make_input(run="r3")))
    assert is_not_found(await client.get("/first"))
    assert (await client.post("/first", {"threadId": "t"})).status == 400


@pytest.mark.parametrize("content", [{}, [], 1, None, "x", {"runId": "r"}, b"{", b"", b"\xff", {"method": "x"}])
async def test_a_body_that_is_not_a_run_input_is_not_found(content: Any, memory_factory: MemoryFactory) -> None:
    assert is_not_found(await serving(memory_factory).post("/", content))


async def test_a_plain_request_must_have_a_json_content_type(memory_factory: MemoryFactory) -> None:
    # The page of another site can post a form without a preflight, but not with this content type.
    answer = await serving(memory_factory).post("/", make_input(), headers={"content-type": "text/plain"})
    assert is_not_found(answer)


async def test_a_single_route_server_has_no_paths(memory_factory: MemoryFactory) -> None:
    client = serving(memory_factory, mode="single-route")
    for path in ("/info", "/threads", "/nothing"):
        answer = await client.get(path)
        assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert (await client.post("/default", make_input())).json()["message"] == "Missing method field"
