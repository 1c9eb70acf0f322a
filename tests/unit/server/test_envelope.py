"""Single-route requests: envelopes, the routes they reach, and their errors."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner.server.routes import ROUTES
from support.agents import Gate, agent_with
from support.asgi import Answer, Client, client_of
from support.events import event_types, text_message
from support.inputs import make_input

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import AgentRunner, InMemoryAgentRunner
    from agentrunner.server import Audio

    MemoryFactory = Callable[..., InMemoryAgentRunner]

AGENT = agent_with(*text_message("m1", "hello"))
STREAM = ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "RUN_FINISHED"]


class Scribe:
    async def transcribe(self, audio: Audio) -> str:
        return f"{len(audio.data)} {audio.mime_type} {audio.filename}"


@pytest.fixture(params=["single-route", "both"])
def single(request: pytest.FixtureRequest, memory_factory: MemoryFactory) -> Client:
    return client_of(memory_factory(), {"default": AGENT}, mode=request.param, transcriber=Scribe())


def envelope(method: Any, params: Any = None, **more: Any) -> dict[str, Any]:
    return {"method": method} | ({"params": params} if params is not None else {}) | more


def is_refused(answer: Answer, status: int, message: str) -> bool:
    return answer.status == status and answer.json() == {"error": "invalid_request", "message": message}


FOR_AGENT = {"agentId": "default"}


async def test_info_announces_the_thread_routes_in_envelopes(single: Client) -> None:
    info = (await single.post("/", envelope("info"))).json()
    threads = {"list": True, "inspect": True, "mutations": True, "realtimeMetadata": False}
    assert info["threadEndpoints"] == dict.fromkeys(threads, False)
    assert info["singleRoute"] == {"resourceOperations": True, "threadEndpoints": threads}


@pytest.mark.parametrize("method", ["agent/run", "agent/suggest", "agent/connect"])
async def test_a_run_by_envelope(method: str, single: Client) -> None:
    await single.post("/", envelope("agent/run", FOR_AGENT, body=make_input()))
    body = make_input(run="r2", thread="t1" if method == "agent/connect" else "t2")
    answer = await single.post("/", envelope(method, FOR_AGENT, body=body))
    assert event_types(answer.events()) == STREAM


async def test_a_stop_by_envelope(runner: AgentRunner) -> None:
    gate = Gate()
    client = client_of(runner, {"default": gate}, mode="single-route")
    stop = envelope("agent/stop", {"agentId": "default", "threadId": "t1"})
    async with client.open("POST", "/", envelope("agent/run", FOR_AGENT, body=make_input())) as run:
        await gate.reached.wait()
        answer = await client.post("/", stop | {"body": {"runId": "other"}})
        assert answer.json() == {"stopped": False, "message": "Run 'other' is not the active run for thread 't1'."}
        assert (await client.post("/", stop | {"body": {"runId": "r1"}})).json()["stopped"] is True
        assert event_types((await run.answer()).events()) == ["RUN_STARTED", "RUN_FINISHED"]
    for body in ({}, "", "{}"):
        answer = await client.post("/", stop | {"body": body})
        assert answer.json() == {"stopped": False, "message": "No active run for thread 't1'."}
    assert (await client.post("/", stop)).json()["stopped"] is False


@pytest.mark.parametrize("body", [[], 1, True, "x", {"run_id": "r1"}, {"runId": "r1", "force": True}])
async def test_a_stop_by_envelope_with_an_invalid_body(body: Any, single: Client) -> None:
    answer = await single.post("/", envelope("agent/stop", {"agentId": "default", "threadId": "t"}, body=body))
    assert (answer.status, answer.json()) == (400, {"error": "Invalid stop request"})


@pytest.mark.parametrize("method", ["inspector/metadata", "inspector/learning"])
async def test_the_inspectors_methods(method: str, single: Client) -> None:
    answer = await single.post("/", envelope(method))
    assert (answer.status, answer.body, answer.headers["cache-control"]) == (204, b"", "no-store")


async def test_audio_by_envelope(single: Client) -> None:
    body = {"audio": base64.b64encode(b"sound").decode(), "mimeType": "audio/wav", "filename": "a.wav"}
    answer = await single.post("/", envelope("transcribe", body=body))
    assert answer.json() == {"text": "5 audio/wav a.wav", "size": 5, "type": "audio/wav"}


async def test_a_body_may_be_json_in_a_string(single: Client) -> None:
    answer = await single.post("/", envelope("agent/run", FOR_AGENT, body=json.dumps(make_input())))
    assert event_types(answer.events()) == STREAM


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "application/xml", "multipart/form-data; boundary=x"])
async def test_an_envelope_without_a_json_content_type_is_refused(content_type: str | None, single: Client) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    pieces = [json.dumps(envelope("info")).encode()]
    answer = await single.send("POST", "/", headers=headers, pieces=pieces)
    assert is_refused(answer, 415, "Single-route endpoint expects JSON payloads")


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
async def test_an_envelope_with_a_json_content_type_is_read(content_type: str, single: Client) -> None:
    assert (await single.post("/", envelope("info"), headers={"content-type": content_type})).status == 200


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"not json", b"null", b"[]", b"1", b'"info"', b"true", b'{"method":"info"', b"\xff\xfe{}", b"NaN",
        b"\xef\xbb\xbf{}x", b"[" * 1_000_000, b'{"method":"info"}{}', b"'method'",
    ],
)  # fmt: skip
async def test_an_envelope_must_be_a_json_object(content: bytes, single: Client) -> None:
    assert is_refused(await single.post("/", content), 400, "Invalid JSON payload")


@pytest.mark.parametrize("content", [{}, {"method": None}, {"method": ""}, {"params": {}}, {"Method": "info"}])
async def test_an_envelope_without_a_method(content: Any, single: Client) -> None:
    assert is_refused(await single.post("/", content), 400, "Missing method field")


@pytest.mark.parametrize(
    "method",
    ["x", "agent/Run", " info", "info ", "agent/run/", "threads/list", "toString", "__proto__", "ü", "x" * 999],
)
async def test_an_unknown_method(method: str, single: Client) -> None:
    assert is_refused(await single.post("/", envelope(method)), 400, f"Unsupported method '{method}'")


@pytest.mark.parametrize("method", [1, True, ["info"], {"info": 1}, 1.5])
async def test_a_method_must_be_a_string(method: Any, single: Client) -> None:
    answer = await single.post("/", envelope(method))
    assert answer.status == 400
    assert answer.json()["message"].startswith("Unsupported method '")


@pytest.mark.parametrize("method", ["agent/run", "agent/suggest", "agent/connect", "agent/stop"])
@pytest.mark.parametrize("agent_id", [None, "", "  ", "\t\n", 1, True, [], {}, ["default"]])
async def test_an_envelope_without_an_agent(method: str, agent_id: Any, single: Client) -> None:
    answer = await single.post("/", envelope(method, {"agentId": agent_id, "threadId": "t"}, body=make_input()))
    assert is_refused(answer, 400, "Missing or invalid parameter 'agentId'")


@pytest.mark.parametrize("params", [None, [], "default", 1, True, {}])
async def test_an_envelope_without_params(params: Any, single: Client) -> None:
    answer = await single.post("/", {"method": "agent/run", "params": params, "body": make_input()})
    assert is_refused(answer, 400, "Missing or invalid parameter 'agentId'")


@pytest.mark.parametrize("thread_id", [None, "", " ", 1, {}])
async def test_a_stop_without_a_thread(thread_id: Any, single: Client) -> None:
    answer = await single.post("/", envelope("agent/stop", {"agentId": "default", "threadId": thread_id}))
    assert is_refused(answer, 400, "Missing or invalid parameter 'threadId'")


@pytest.mark.parametrize("method", ["agent/run", "agent/suggest", "agent/connect", "transcribe"])
@pytest.mark.parametrize("more", [{}, {"body": None}])
async def test_an_envelope_without_a_body(method: str, more: dict[str, Any], single: Client) -> None:
    answer = await single.post("/", envelope(method, FOR_AGENT, **more))
    assert is_refused(answer, 400, "Missing request body for JSON handler")


async def test_a_stop_whose_body_is_null(single: Client) -> None:
    answer = await single.post("/", envelope("agent/stop", {"agentId": "default", "threadId": "t"}, body=None))
    assert is_refused(answer, 400, "Missing request body for JSON handler")


@pytest.mark.parametrize("agent_id", ["zzz", " default", "default ", "Default", "a/b", "\u0000", "é", "x" * 100_000])
async def test_an_envelope_for_an_unknown_agent(agent_id: str, single: Client) -> None:
    answer = await single.post("/", envelope("agent/run", {"agentId": agent_id}, body=make_input()))
    assert answer.status == 404
    assert answer.json() == {"error": "Agent not found", "message": f"Agent '{agent_id}' does not exist"}


async def test_an_id_in_an_envelope_is_not_decoded(single: Client) -> None:
    answer = await single.post("/", envelope("agent/stop", {"agentId": "default", "threadId": "a%2Fb"}))
    assert answer.json()["message"] == "No active run for thread 'a%2Fb'."


@pytest.mark.parametrize("body", [[], 1, "x", {}, {"threadId": "t"}, "{", True])
async def test_an_envelope_with_a_body_that_is_not_an_input(body: Any, single: Client) -> None:
    answer = await single.post("/", envelope("agent/run", FOR_AGENT, body=body))
    assert answer.status == 400
    assert answer.json()["error"] == "Invalid request body"


async def test_an_envelope_with_a_body_nested_too_deeply(single: Client) -> None:
    for levels in (200, 1_000, 100_000):
        deep = b"[" * levels + b"]" * levels
        content = b'{"method":"agent/run","params":{"agentId":"default"},"body":{"state":%s}}' % deep
        assert (await single.post("/", content)).status == 400


# Thread routes in an envelope


def asking(path: Any, method: Any = "GET", **more: Any) -> dict[str, Any]:
    return envelope("resource/request", {"path": path, "httpMethod": method}, **more)


async def test_an_envelope_reaches_the_thread_routes(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT}, mode="single-route")
    for thread in ("t/ü", "other"):
        await client.post("/", envelope("agent/run", FOR_AGENT, body=make_input(thread, run=f"of {thread}")))

    async def ask(*args: Any, **more: Any) -> Any:
        answer = await client.post("/", asking(*args, **more))
        assert answer.status == 200, answer
        return answer.json()

    first = await ask("/threads?agentId=default&limit=1")
    second = await ask(f"/threads?limit=1&cursor={first['nextCursor']}")
    assert {thread["id"] for thread in first["threads"] + second["threads"]} == {"other", "t/ü"}
    assert second["nextCursor"] is None
    assert event_types((await ask("/threads/t%2F%C3%BC/events"))["events"]) == STREAM
    assert event_types((await ask("/threads/t%2Fü/events"))["events"]) == STREAM
    assert (await ask("/threads/t%2F%C3%BC/messages", "get"))["messages"][0]["content"] == "hello"
    assert (await ask("/threads/other/state", body={"ignored": True})) == {"state": None}
    assert (await ask("/threads/other", "patch", body={"name": "n"}))["name"] == "n"
    assert (await ask("/threads/other", "PATCH", body='{"name":"m"}'))["name"] == "m"
    assert (await ask("/threads/other/archive", "POST", body={"agentId": "default"}))["archived"] is True
    assert [thread["id"] for thread in (await ask("/threads"))["threads"]] == ["t/ü"]
    assert len((await ask("/threads?includeArchived=true"))["threads"]) == 2
    assert (await ask("/threads/other", "DELETE"))["deleted"] is True
    assert (await client.post("/", asking("/threads/clear", "POST"))).status == 204
    assert (await ask("/any/prefix/threads#part")) == {"threads": [], "nextCursor": None}
    assert (await client.post("/", asking("/threads/subscribe", "POST", body={}))).status == 422


@pytest.mark.parametrize(
    "path",
    [
        "threads", "//threads", "//evil.example/threads", "http://evil.example/threads", "/\\evil.example/threads",
        "\\threads", "?x", "./threads", "javascript:/threads", " /threads",
    ],
)  # fmt: skip
async def test_a_resource_path_must_be_relative_to_the_server(path: str, single: Client) -> None:
    assert is_refused(await single.post("/", asking(path)), 400, "Resource path must be Runtime-relative")


@pytest.mark.parametrize(
    "path",
    [
        "/", "/info", "/agent/default/run", "/agent/default/stop/t", "/agent/default/connect", "/transcribe",
        "/inspector-metadata", "/memories", "/annotate", "/cpk-debug-events", "/nothing", "/threads/a/b/c",
        "/threads/%zz/messages", "/threads/%FF", "/threads/info", "/healthz", "/metrics", "/[", "/http://[/threads/x/y",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_resource_request_reaches_only_thread_routes(path: str, method: str, single: Client) -> None:
    answer = await single.post("/", asking(path, method, body={}))
    assert answer.status == 404
    assert answer.json() == {"error": "Not found"}


@pytest.mark.parametrize(
    ("path", "method", "allowed"),
    [
        ("/threads", "POST", "GET"), ("/threads", "HEAD", "GET"), ("/threads/t", "GET", "PATCH, DELETE"),
        ("/threads/t", "put", "PATCH, DELETE"), ("/threads/t/messages", "DELETE", "GET"),
        ("/threads/t/archive", "GET", "POST"), ("/threads/clear", "GET", "POST"), ("/threads/subscribe", "x", "POST"),
    ],
)  # fmt: skip
async def test_a_resource_request_needs_a_method_of_the_route(
    path: str, method: str, allowed: str, single: Client
) -> None:
    answer = await single.post("/", asking(path, method))
    assert (answer.status, answer.headers["allow"]) == (405, allowed)
    assert answer.json() == {"error": "Method not allowed"}


@pytest.mark.parametrize(
    ("params", "missing"),
    [
        ({"httpMethod": "GET"}, "path"), ({"path": "/threads"}, "httpMethod"), ({}, "path"), (None, "path"),
        ({"path": 1, "httpMethod": "GET"}, "path"), ({"path": "/threads", "httpMethod": " "}, "httpMethod"),
        ({"path": "/threads", "httpMethod": ["GET"]}, "httpMethod"), ("/threads", "path"),
    ],
)  # fmt: skip
async def test_a_resource_request_needs_its_params(params: Any, missing: str, single: Client) -> None:
    answer = await single.post("/", envelope("resource/request", params))
    assert is_refused(answer, 400, f"Missing or invalid parameter '{missing}'")


# The endpoint itself


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/info", "/anything"])
async def test_the_single_route_accepts_only_post(method: str, path: str, memory_factory: MemoryFactory) -> None:
    client = client_of(memory_factory(), {"default": AGENT}, mode="single-route")
    answer = await client.send(method, path)
    assert (answer.status, answer.headers["allow"], answer.json()) == (405, "POST", {"error": "Method not allowed"})


@pytest.mark.parametrize("path", ["/api", "/api/", "/api/anything", "/api/info"])
@pytest.mark.parametrize("base", ["/api", "/api/"])
async def test_the_single_route_is_every_path_below_the_base_path(
    path: str, base: str, memory_factory: MemoryFactory
) -> None:
    client = client_of(memory_factory(), {"default": AGENT}, mode="single-route", base_path=base)
    assert (await client.post(path, envelope("info"))).status == 200


@pytest.mark.parametrize("path", ["/", "/apis", "/x/api", "/info"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_single_route_is_not_outside_its_base_path(
    path: str, method: str, memory_factory: MemoryFactory
) -> None:
    client = client_of(memory_factory(), {"default": AGENT}, mode="single-route", base_path="/api")
    answer = await client.send(method, path, envelope("info"))
    assert (answer.status, answer.json()) == (404, {"error": "Not found"})


async def test_a_server_with_both_modes_answers_both(memory_factory: MemoryFactory) -> None:
    client = client_of(memory_factory(), {"default": AGENT}, mode="both")
    assert "singleRoute" not in (await client.get("/info")).json()
    assert "singleRoute" in (await client.post("/", envelope("info"))).json()
    run = await client.post("/", envelope("agent/run", FOR_AGENT, body=make_input()))
    assert event_types(run.events()) == STREAM
    assert event_types((await client.get("/threads/t1/events")).json()["events"]) == STREAM
    plain = await client.post("/", make_input(run="r2"))
    assert event_types(plain.events()) == STREAM
    assert (await client.get("/nothing")).status == 404
    assert (await client.post("/info", envelope("info"))).status == 405


# A single-route client at a multi-route server

MISPLACED = "single_route_envelope_against_multi_route_runtime"


@pytest.fixture
def multi(memory_factory: MemoryFactory) -> Client:
    return client_of(memory_factory(), {"default": AGENT})


@pytest.mark.parametrize("method", ROUTES.envelope_methods)
@pytest.mark.parametrize("path", ["/", "/unknown", "/a/b"])
async def test_an_envelope_at_a_multi_route_server_gets_an_explanation(method: str, path: str, multi: Client) -> None:
    answer = await multi.post(path, envelope(method))
    assert answer.status == 404
    assert answer.json()["error"] == "Not found"
    assert answer.json()["code"] == MISPLACED
    assert 'mode: "single-route"' in answer.json()["message"]


@pytest.mark.parametrize(
    "content",
    [
        {"method": "x"}, {"method": "RUN"}, {}, {"method": None}, {"method": ["info"]}, ["info"], "info", None, 1,
        b"{", b"", b"[" * 100_000, b'{"method":"info"', {"params": {"method": "info"}},
    ],
)  # fmt: skip
async def test_a_body_that_is_not_an_envelope_gets_a_plain_404(content: Any, multi: Client) -> None:
    answer = await multi.post("/", content)
    assert (answer.status, answer.json()) == (404, {"error": "Not found"})


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
async def test_only_a_post_can_be_an_envelope(method: str, multi: Client) -> None:
    answer = await multi.send(method, "/", envelope("info"))
    assert (answer.status, answer.json()) == (404, {"error": "Not found"})


async def test_only_json_can_be_an_envelope(multi: Client) -> None:
    answer = await multi.post("/", envelope("info"), headers={"content-type": "text/plain"})
    assert (answer.status, answer.json()) == (404, {"error": "Not found"})


async def test_an_envelope_at_a_known_path_goes_to_that_route(multi: Client) -> None:
    answer = await multi.post("/agent/default/run", envelope("info"))
    assert answer.json()["error"] == "Invalid request body"
    assert (await multi.post("/info", envelope("info"))).status == 405
