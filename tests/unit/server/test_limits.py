"""Requests that are refused: too large, too slow, nested too deeply, or from another site."""

from __future__ import annotations

import dataclasses
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner.server import Cors, Limits, create_app
from support.agents import agent_with
from support.events import text_message
from support.inputs import make_input
from support.wire import client

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import AgentRunner


def app_of(runner: AgentRunner, agent: Any = None, **options: Any) -> Any:
    return create_app(runner, {"default": agent or agent_with(*text_message("m", "hello"))}, **options)


@pytest.fixture
def runner(memory_factory: Callable[..., AgentRunner]) -> AgentRunner:
    return memory_factory()


@pytest.mark.parametrize(
    "field", [field.name for field in dataclasses.fields(Limits) if field.name != "keep_alive_seconds"]
)
@pytest.mark.parametrize("value", [0, -1, float("nan"), None, "5", True])
def test_a_limit_must_be_positive(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        Limits(**{field: value})


@pytest.mark.parametrize("value", [-1, 2147483.648, float("nan")])
def test_the_keep_alive_must_fit_a_javascript_timer(value: float) -> None:
    with pytest.raises(ValueError, match="keep_alive_seconds"):
        Limits(keep_alive_seconds=value)


ENVELOPE = '{"method":"agent/run","params":{"agentId":"default"},"body":%s}'


@pytest.mark.parametrize("depth", [129, 255, 300, 1000, 2000, 1_000_000])
async def test_deeply_nested_json_is_refused_everywhere(depth: int, runner: AgentRunner) -> None:
    deep = json.dumps(make_input()).replace('"forwardedProps": {}', f'"forwardedProps": {"[" * depth + "]" * depth}')
    async with client(app_of(runner, mode="both")) as http:
        for path, body in (
            ("/agent/default/run", deep), ("/agent/default/suggest", deep), ("/", deep), ("/", ENVELOPE % deep),
        ):  # fmt: skip
            answer = await http.post(path, content=body, headers={"content-type": "application/json"})
            assert answer.status_code == 400, path
        for method, path in (("PATCH", "/threads/t"), ("POST", "/agent/default/stop/t"), ("POST", "/transcribe")):
            answer = await http.request(method, path, content=deep, headers={"content-type": "application/json"})
            assert answer.status_code in (400, 404, 503), path
    assert await runner.threads.list() == []


@pytest.mark.parametrize("field", ["threadId", "runId"])
@pytest.mark.parametrize("path", ["/agent/default/run", "/agent/default/suggest"])
async def test_an_id_may_be_as_long_as_the_limit_and_no_byte_longer(field: str, path: str, runner: AgentRunner) -> None:
    async with client(app_of(runner)) as http:
        for value, status in (
            ("é" * 512, 200),
            ("x" * 1024, 200),
            ("é" * 512 + "x", 400),
            ("x" * 1025, 400),
            ("", 400),
        ):
            answer = await http.post(path, json=make_input(f"t{len(value)}", f"r{len(value)}") | {field: value})
            assert answer.status_code == status, value
            assert status == 200 or answer.json()["error"] == "Invalid request body"


@pytest.mark.parametrize("thread", ["a/b", "a\nb", "a\r\n\r\nb", "\x1b[31m", "%2F", "..", " ", "\u2028", "🙂"])
async def test_a_thread_with_any_id_can_be_reached(thread: str, runner: AgentRunner) -> None:
    from urllib.parse import quote

    at = f"/threads/{quote(thread, safe='').replace('.', '%2E')}"
    async with client(app_of(runner)) as http:
        assert (await http.post("/agent/default/run", json=make_input(thread))).status_code == 200
        assert (await http.get(f"{at}/messages")).json() == {
            "messages": [{"id": "m", "role": "assistant", "content": "hello"}]
        }
        assert (await http.patch(at, json={"name": thread})).json()["id"] == thread
        assert (await http.request("DELETE", at)).json() == {"threadId": thread, "deleted": True}


async def test_a_path_cannot_forge_a_line_of_the_log(runner: AgentRunner, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "agentrunner.access")
    async with client(app_of(runner)) as http:
        await http.get("/threads/%0aINFO%20all%20is%20well%1b%5b31m%E2%80%A8/messages")
    (record,) = [record for record in caplog.records if record.name == "agentrunner.access"]
    assert record.getMessage() == "GET /threads/%0AINFO%20all%20is%20well%1B%5B31m%E2%80%A8/messages 404"


UNSAFE = [
    ("POST", "/agent/default/run"), ("POST", "/agent/default/connect"), ("POST", "/agent/default/suggest"),
    ("POST", "/agent/default/stop/t"), ("POST", "/threads/clear"), ("POST", "/threads/t/archive"),
    ("PATCH", "/threads/t"), ("DELETE", "/threads/t"), ("POST", "/transcribe"), ("POST", "/threads/subscribe"),
    ("POST", "/"), ("POST", "/default"), ("POST", "/no/such/path"),
]  # fmt: skip


@pytest.mark.parametrize("site", ["cross-site", "same-site", "rubbish"])
@pytest.mark.parametrize("origin", ["https://evil.example", "null", None])
async def test_the_page_of_another_site_can_change_nothing(site: str, origin: str | None, runner: AgentRunner) -> None:
    headers = {"sec-fetch-site": site} | ({"origin": origin} if origin else {})
    closed: list[Any] = [None, False, Cors(origin="https://good.example"), Cors(origin=["https://good.example"])]
    for cors in [*closed, Cors(origin=lambda _: None)]:
        async with client(app_of(runner, mode="both", cors=cors), **headers) as http:
            for method, path in UNSAFE:
                answer = await http.request(method, path, json=make_input())
                assert answer.status_code == 403, (path, cors)
                assert answer.json()["error"] == "Cross-origin request refused"
    assert await runner.threads.list() == []


async def test_a_page_that_cors_allows_can_do_everything(runner: AgentRunner) -> None:
    origin = "https://good.example"
    allowing: list[Any] = [True, Cors(origin=origin), Cors(origin=["x", origin]), Cors(origin=lambda asking: asking)]
    for number, cors in enumerate([*allowing, Cors(origin=origin, credentials=True)]):
        app = app_of(runner, mode="both", cors=cors)
        async with client(app, **{"sec-fetch-site": "cross-site", "origin": origin}) as http:
            for method, path in UNSAFE:
                body = make_input(f"t{number}", f"{number}{path}")
                answer = await http.request(method, path.replace("/t", f"/t{number}"), json=body)
                assert answer.status_code != 403, (path, cors)
                assert answer.headers["access-control-allow-origin"] in ("*", origin)


@pytest.mark.parametrize("site", ["same-origin", "none", None])
async def test_pages_of_the_same_site_and_clients_without_a_browser_can_do_everything(
    site: str | None, runner: AgentRunner
) -> None:
    async with client(app_of(runner, mode="both"), **({"sec-fetch-site": site} if site else {})) as http:
        for method, path in UNSAFE:
            answer = await http.request(method, path, json=make_input(run=path))
            assert answer.status_code != 403, path


async def test_reading_requests_are_left_to_the_browsers_rules(runner: AgentRunner) -> None:
    async with client(app_of(runner), **{"sec-fetch-site": "cross-site", "origin": "https://evil.example"}) as http:
        answer = await http.get("/threads")
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers
