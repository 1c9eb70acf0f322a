"""The route table: paths, ids in them and methods (the original's router tests)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from agentrunner.server import AgentApp, create_app
from agentrunner.server.responses import ApiResponse
from agentrunner.server.routes import ROUTES
from agentrunner.server.routing import ApiRoute, RouteTable
from support.agents import agent_with
from support.asgi import Answer, Client, client_of
from support.backends import embedded, in_memory
from support.events import event_types, text_message
from support.inputs import make_input

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.responses import Response

    from agentrunner import AgentRunner, InMemoryAgentRunner

    MemoryFactory = Callable[..., InMemoryAgentRunner]
AGENT = agent_with(*text_message("m1", "hello"))
STREAM = ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "RUN_FINISHED"]


def serving(memory_factory: MemoryFactory, **options: Any) -> Client:
    return client_of(memory_factory(), {"default": AGENT}, **options)


def is_not_found(answer: Answer) -> bool:
    return answer.status == 404 and answer.json() == {"error": "Not found"}


PATHS = [row.path for row in ROUTES.rows]


def find_route(path: str) -> tuple[str, str, str] | None:
    """Return the name of the route that a path belongs to, and the ids in the path."""
    match = ROUTES.match(path)
    return (match.name, match.agent_id, match.thread_id) if match is not None else None


def fill(path: str) -> str:
    """Return the path of a row with ids in it."""
    return path.replace("{agentId}", "a").replace("{threadId}", "t")


def expect_match(path: str) -> tuple[str, str, str]:
    (name,) = {row.name for row in ROUTES.rows if row.path == path}
    return name, "a" if "{agentId}" in path else "", "t" if "{threadId}" in path else ""


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("before", ["", "/", "/api", "/api/v1/copilotkit", "/info", "/threads/x", "/agent/x/run"])
def test_a_route_is_found_by_its_last_segments(path: str, before: str) -> None:
    assert find_route(before + fill(path)) == expect_match(path)


@pytest.mark.parametrize("path", PATHS)
def test_empty_segments_do_not_count(path: str) -> None:
    assert find_route(fill(path) + "/") == expect_match(path)
    assert find_route(fill(path).replace("/", "//")) == expect_match(path)


@pytest.mark.parametrize("path", PATHS)
def test_segments_are_case_sensitive(path: str) -> None:
    upper = find_route(fill(path).upper())
    assert upper is None or upper[0] == "threads/update", "only the id may be in any case"
    assert find_route(fill(path).title().replace("/T/", "/t/")) is None


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "/unknown", "/agent", "/agent/a", "/agent/a/unknown", "/agent/a/stop", "/agent/run", "/stop/t",
        "/information", "/infos", "/xinfo", "/agents/a/run", "/agent/a/running", "/thread/t", "/threads/t/unknown",
        "/agent//run", "/agent/a/stop/", "/memories", "/memories/recall", "/memories/m1", "/annotate",
        "/cpk-debug-events", "/info/more", "/threads/t/messages/more", "/agent/a/run/more", "/%69nfo",
    ],
)  # fmt: skip
def test_no_route(path: str) -> None:
    assert find_route(path) is None


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/threads/info", ("info", "", "")),
        ("/threads/transcribe", ("transcribe", "", "")),
        ("/agent/agent/run", ("agent/run", "agent", "")),
        ("/agent/run/run", ("agent/run", "run", "")),
        ("/agent/stop/run", ("agent/run", "stop", "")),
        ("/agent/a/stop/run", ("agent/stop", "a", "run")),
        ("/agent/a/stop/info", ("info", "", "")),
        ("/agent/agent/stop/run", ("agent/run", "stop", "")),
        ("/agent/stop/stop/stop", ("agent/stop", "stop", "stop")),
        ("/threads/subscribe/messages", ("threads/messages", "", "subscribe")),
        ("/threads/clear/archive", ("threads/archive", "", "clear")),
        ("/threads/messages", ("threads/update", "", "messages")),
        ("/threads/messages/messages", ("threads/messages", "", "messages")),
        ("/threads/threads", ("threads/update", "", "threads")),
        ("/threads/threads/threads", ("threads/update", "", "threads")),
        ("/threads/agent/a/run", ("agent/run", "a", "")),
        ("/threads/t/subscribe", None),
        ("/threads/t/clear", None),
    ],
)
def test_the_first_route_of_the_table_wins(path: str, route: tuple[str, str, str] | None) -> None:
    assert find_route(path) == route


IDS = {
    "simple": "simple", "with-dash_1.2~": "with-dash_1.2~", "UPPER": "UPPER", "a%20b": "a b", "a+b": "a+b",
    "a%2Bb": "a+b", "a%2Fb": "a/b", "%2F": "/", "a%2fb%2Fc": "a/b/c", "%00": "\0", "a%00b": "a\0b", "%20": " ",
    "%3A": ":", "a%3Fb%23c": "a?b#c", "a%26b%3Dc": "a&b=c", "100%25": "100%", "%2525": "%25", "a%252Fb": "a%2Fb",
    "%E2%82%AC": "€", "%f0%9f%98%80": "😀", "%C3%BC": "ü", "u%CC%88": "u\u0308", "a%0Ab": "a\nb", "%0D%0A": "\r\n",
    "%2E%2E": "..", "%2e": ".", "...": "...", "%5C": "\\", "a%22b": 'a"b', "%7B%7D": "{}", "%E2%80%AE": "\u202e",
    "%EF%BF%BD": "\ufffd", "%F4%8F%BF%BF": "\U0010ffff", "%7F": "\x7f", "@:=;,$!*'()": "@:=;,$!*'()",
    "constructor": "constructor", "__proto__": "__proto__", "None": "None",
}  # fmt: skip
KEPT = [name for name in IDS.values() if "\0" not in name]
"""Ids without a NUL, which PostgreSQL cannot store."""
BROKEN = [
    "%", "a%", "%2", "%zz", "%2g", "%g2", "%%", "%u20ac", "a%E2%82", "%80", "%FF", "%C0%80", "%C0%AF", "%ED%A0%80",
    "%ED%B0%80", "%F4%90%80%80", "%E2%28%A1", "%-1", "%+1", "%1_",
]  # fmt: skip


@pytest.mark.parametrize("sent", IDS)
async def test_an_id_in_a_path_is_decoded(sent: str, memory_factory: MemoryFactory) -> None:
    client = serving(memory_factory)
    answer = await client.post(f"/agent/default/stop/{sent}")
    assert answer.json() == {"stopped": False, "message": f"No active run for thread '{IDS[sent]}'."}
    answer = await client.post(f"/agent/{sent}/run", make_input())
    assert answer.status == 404
    assert answer.json() == {"error": "Agent not found", "message": f"Agent '{IDS[sent]}' does not exist"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/agent/{}/run"), ("POST", "/agent/{}/connect"), ("POST", "/agent/{}/suggest"),
        ("POST", "/agent/{}/stop/t"), ("POST", "/agent/default/stop/{}"), ("GET", "/threads/{}/messages"),
        ("GET", "/threads/{}/events"), ("GET", "/threads/{}/state"), ("POST", "/threads/{}/archive"),
        ("PATCH", "/threads/{}"), ("DELETE", "/threads/{}"),
    ],
)  # fmt: skip
async def test_an_id_that_is_badly_encoded_is_not_found(method: str, path: str, memory_factory: MemoryFactory) -> None:
    client = serving(memory_factory)
    for sent in BROKEN:
        assert is_not_found(await client.send(method, path.format(sent), None if method == "GET" else {})), sent


async def test_a_thread_with_any_id_is_reached_by_its_path(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT})
    for thread in {*KEPT, "x" * 1024, "€" * 341}:
        ran = await client.post("/agent/default/run", make_input(thread, f"run of {thread}"[:300]))
        assert event_types(ran.events()) == STREAM
        at = f"/threads/{quote(thread, safe='')}"
        assert (await client.get(f"{at}/messages")).json()["messages"][0]["content"] == "hello"
        assert event_types((await client.get(f"{at}/events")).json()["events"]) == STREAM
        assert (await client.get(f"{at}/state")).json() == {"state": None}
        assert (await client.send("PATCH", at, {"name": "n"})).json()["id"] == thread
        assert (await client.post(f"{at}/archive", {})).json() == {"threadId": thread, "archived": True}
        assert (await client.send("DELETE", at, {})).json() == {"threadId": thread, "deleted": True}
        assert (await client.get(f"{at}/events")).status == 404


@pytest.mark.fault("B13")
async def test_an_id_with_a_nul_is_refused_by_every_store_and_never_found(runner: AgentRunner) -> None:
    client = client_of(runner, {"a\0b": AGENT, "default": AGENT})
    for path, ids in (("a%00b", ("t", "r")), ("default", ("t\0", "r")), ("default", ("t", "\0r"))):
        ran = await client.post(f"/agent/{path}/run", make_input(*ids))
        assert ran.status == 400
        assert "NUL" in ran.json()["details"]
    assert (await client.get("/threads")).json()["threads"] == []
    assert (await client.get("/threads/t%00/events")).status == 404


@in_memory
@pytest.mark.parametrize("agent_id", [*KEPT, "x" * 1024])
async def test_an_agent_with_any_id_is_reached_by_its_path(agent_id: str, runner: AgentRunner) -> None:
    client = client_of(runner, {agent_id: AGENT})
    for verb in ("run", "connect", "suggest"):
        answer = await client.post(f"/agent/{quote(agent_id, safe='')}/{verb}", make_input())
        assert event_types(answer.events()) == STREAM, verb
    (thread,) = await runner.threads.list()
    assert thread.agent_id == agent_id


@embedded
@pytest.mark.parametrize("length", [1025, 65_536, 1_000_000])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/agent/{}/run"), ("POST", "/agent/default/stop/{}"), ("GET", "/threads/{}/messages"),
        ("GET", "/threads/{}/events"), ("GET", "/threads/{}/state"), ("POST", "/threads/{}/archive"),
        ("PATCH", "/threads/{}"), ("DELETE", "/threads/{}"), ("POST", "/{}"), ("GET", "/{}"),
    ],
)  # fmt: skip
async def test_a_very_long_id_is_not_found(method: str, path: str, length: int, runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT})
    answer = await client.send(method, path.format("x" * length), None if method == "GET" else {})
    if "stop" in path:
        assert answer.json()["stopped"] is False
    else:
        assert answer.status == 404


ALLOWED = {
    fill(row.path).replace("/a/", "/default/"): ", ".join(each.method for each in ROUTES.rows if each.path == row.path)
    for row in ROUTES.rows
} | {"/agent/unknown/run": "POST"}


def test_a_path_takes_the_methods_of_all_its_rows() -> None:
    assert ALLOWED["/threads/t"] == "PATCH, DELETE"
    assert {path for path, methods in ALLOWED.items() if methods == "GET"} == {
        fill(row.path) for row in ROUTES.rows if row.method == "GET"
    }


async def answer_nothing(context: Any, request: Any) -> Response:
    return ApiResponse({})


def make_row(**changes: Any) -> ApiRoute:
    fields = {"name": "nothing", "method": "GET", "path": "/nothing", "handler": answer_nothing, "summary": "x"}
    return ApiRoute(**(fields | changes))


@pytest.mark.parametrize("handler", [None, lambda context, request: ApiResponse({}), ApiResponse, agent_with()])
def test_a_handler_that_is_not_an_async_function_is_an_error_at_the_start(handler: Any) -> None:
    with pytest.raises(TypeError, match="the handler of GET /nothing must be an async function"):
        make_row(handler=handler)


@pytest.mark.parametrize("method", ["get", "HEAD", "OPTIONS", "FETCH", "", None])
def test_an_unknown_method_is_an_error_at_the_start(method: Any) -> None:
    with pytest.raises(ValueError, match="the method of /nothing must be one of GET, POST, PUT, PATCH, DELETE, not"):
        make_row(method=method)


@pytest.mark.parametrize("name", ["foo", "threadid", "thread_id", ""])
def test_an_unknown_placeholder_is_an_error_at_the_start(name: str) -> None:
    with pytest.raises(ValueError, match=rf"/nothing/{{{name}}} may have the placeholders .*, not {{{name}}}"):
        make_row(path=f"/nothing/{{{name}}}")


def test_two_rows_for_one_path_and_method_are_an_error_at_the_start() -> None:
    RouteTable([make_row(), make_row(method="POST")])
    with pytest.raises(ValueError, match="two rows for GET /nothing"):
        RouteTable([make_row(), make_row(method="POST"), make_row()])


async def test_a_new_route_is_one_row_and_one_function(memory_factory: MemoryFactory) -> None:
    async def get_weather(context: Any, request: Any) -> Response:
        return ApiResponse({"thread": request.thread_id, "agents": list(context.agents)})

    row = ApiRoute(
        name="weather", method="GET", path="/weather/{threadId}", handler=get_weather, summary="Return the weather",
        responses={"200": {"description": "The weather"}},
    )  # fmt: skip
    app = create_app(memory_factory(), {"default": AGENT})
    context = dataclasses.replace(app.context, routes=RouteTable([*ROUTES.rows, row]))
    client = Client(AgentApp(context, inspector=False))
    assert (await client.get("/weather/t")).json() == {"thread": "t", "agents": ["default"]}
    assert (await client.post("/weather/t", {})).headers["allow"] == "GET"
    assert (await client.get("/openapi.json")).json()["paths"]["/weather/{threadId}"]["get"]["summary"]
    assert 'route="weather",status="200"' in (await client.get("/metrics")).body.decode()


@pytest.mark.parametrize("path", ALLOWED)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"])
async def test_a_method_that_the_path_does_not_take_is_refused(
    method: str, path: str, memory_factory: MemoryFactory
) -> None:
    answer = await serving(memory_factory).send(method, path, None if method in ("GET", "HEAD") else {})
    if method in ALLOWED[path].split(", "):
        assert answer.status != 405
        return
    assert answer.status == 405
    assert answer.headers["allow"] == ALLOWED[path]
    assert answer.json() == {"error": "Method not allowed"}


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/nothing", "/a/b/c", "/memories", "/annotate", "/cpk-debug-events", "/agent/a", "/"])
async def test_an_unknown_path_is_not_found(method: str, path: str, memory_factory: MemoryFactory) -> None:
    assert is_not_found(await serving(memory_factory).send(method, path))


@pytest.mark.parametrize("path", ["/inspector-metadata", "/inspector-learning"])
async def test_the_metadata_of_copilotkits_inspector_is_empty(path: str, memory_factory: MemoryFactory) -> None:
    answer = await serving(memory_factory).get(path)
    assert (answer.status, answer.body, answer.headers["cache-control"]) == (204, b"", "no-store")
