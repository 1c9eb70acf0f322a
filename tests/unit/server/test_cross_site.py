"""Requests that browsers send for pages of other sites, with and without `Sec-Fetch-Site`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Mount

from agentrunner.server import Cors, create_app
from support.agents import agent_with
from support.events import text_message
from support.inputs import make_input

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import AgentRunner

PAGE = "https://page.example"
CHANGES = [
    ("POST", "/agent/default/run"), ("POST", "/agent/default/stop/t"), ("POST", "/threads/clear"),
    ("PATCH", "/threads/t"), ("DELETE", "/threads/t"), ("POST", "/transcribe"), ("POST", "/"), ("POST", "/default"),
]  # fmt: skip


@pytest.fixture
def runner(memory_factory: Callable[..., AgentRunner]) -> AgentRunner:
    return memory_factory()


def client(runner: AgentRunner, url: str = "http://chat.example", **options: Any) -> httpx.AsyncClient:
    app = create_app(runner, {"default": agent_with(*text_message("m", "hello"))}, **options)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=url)


SAME = [
    ("http://chat.example", "http://chat.example"), ("http://chat.example", "http://CHAT.example:80"),
    ("http://chat.example", "https://chat.example"),  # behind a proxy that speaks TLS
    ("http://chat.example:8000", "http://chat.example:8000"), ("https://chat.example", "https://chat.example:443"),
    ("http://[::1]:8000", "http://[::1]:8000"),
]  # fmt: skip
FOREIGN = [
    ("http://chat.example", "http://evil.example"), ("http://chat.example", "http://chat.example:8080"),
    ("http://chat.example", "http://chat.example.evil.example"), ("http://chat.example", "null"),
    ("http://chat.example:8000", "http://chat.example"), ("https://chat.example", "http://chat.example"),
    ("http://chat.example", "chrome-extension://chat.example"), ("http://chat.example", "http://evil@chat.example:99"),
    ("http://chat.example", "http://["), ("http://chat.example", ""), ("http://chat.example", "http://chat.example:x"),
]  # fmt: skip


@pytest.mark.fault("C2")
@pytest.mark.parametrize(("url", "origin"), SAME + FOREIGN)
async def test_without_sec_fetch_site_the_origin_must_be_the_host(url: str, origin: str, runner: AgentRunner) -> None:
    headers = {"origin": origin, "x-forwarded-host": "evil.example"}
    async with client(runner, url, mode="both") as http:
        for method, path in CHANGES:
            answer = await http.request(method, path, json=make_input(run=path), headers=headers)
            assert (answer.status_code == 403) == ((url, origin) in FOREIGN), path
        assert (await http.get("/threads", headers=headers)).status_code == 200


@pytest.mark.fault("C2")
@pytest.mark.parametrize(
    "content_type",
    [None, "text/plain", "application/x-www-form-urlencoded", "text/plain; x=application/json", "multipart/form-data"],
)
async def test_a_body_that_a_form_can_send_is_refused(content_type: str | None, runner: AgentRunner) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    async with client(runner, mode="both") as http:
        for method, path in CHANGES:
            answer = await http.request(method, path, content=json.dumps(make_input()), headers=headers)
            assert answer.status_code == {"/transcribe": 503}.get(path, 415), path
        answer = await http.post("/threads/clear")
        assert answer.status_code == 204
        for json_type in ("application/json", "application/json; charset=utf-8", "Application/JSON"):
            answer = await http.post("/threads/clear", content=b"{}", headers={"content-type": json_type})
            assert answer.status_code == 204


@pytest.mark.fault("C3")
@pytest.mark.parametrize(
    "options", [{}, {"origin": "*"}, {"origin": ""}, {"origin": ["*"]}, {"origin": {"https://a.example", "*"}}]
)
def test_credentials_need_named_origins(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="credentials=True needs the origins"):
        Cors(credentials=True, **options)


@pytest.mark.fault("C3")
@pytest.mark.parametrize("cors", [True, Cors(), Cors(origin="*"), Cors(origin=["*"]), Cors(origin=lambda _: "*")])
@pytest.mark.parametrize(
    ("extra", "status"),
    [
        ({}, 200), ({"authorization": "Bearer x"}, 200), ({"cookie": "session=1"}, 403),
        ({"authorization": "Basic eDp5"}, 403), ({"authorization": "negotiate x"}, 403),
    ],
)  # fmt: skip
async def test_any_page_may_use_the_server_but_not_with_what_a_browser_adds(
    cors: Any, extra: dict[str, str], status: int, runner: AgentRunner
) -> None:
    async with client(runner, cors=cors) as http:
        for site in ({"sec-fetch-site": "cross-site"}, {}):
            headers = {"origin": PAGE, **site, **extra}
            answer = await http.post("/agent/default/run", json=make_input(run=f"r{len(site)}"), headers=headers)
            assert answer.status_code == status
        # The server's own pages keep their cookies.
        own = {"origin": "http://chat.example", **extra}
        assert (await http.post("/agent/default/run", json=make_input(run="own"), headers=own)).status_code == 200


@pytest.mark.fault("C4")
async def test_a_page_that_the_outer_app_allows_may_use_the_server(runner: AgentRunner) -> None:
    agents = create_app(runner, {"default": agent_with(*text_message("m", "hello"))}, cors="outer")
    allowing = Middleware(CORSMiddleware, allow_origins=[PAGE], allow_methods=["*"], allow_headers=["*"])
    outer = Starlette(routes=[Mount("/copilotkit", agents)], middleware=[allowing])
    transport = httpx.ASGITransport(outer)
    async with httpx.AsyncClient(transport=transport, base_url="http://chat.example/copilotkit") as http:
        for site in ({"sec-fetch-site": "cross-site"}, {}):
            for origin, status in ((PAGE, 200), ("https://evil.example", 400)):
                asks = {"origin": origin, "access-control-request-method": "POST"}
                answer = await http.options("/agent/default/run", headers={**asks, **site})
                assert answer.status_code == status
            headers = {"origin": PAGE, **site}
            answer = await http.post("/agent/default/run", json=make_input(run=f"r{len(site)}"), headers=headers)
            assert answer.status_code == 200
            assert answer.headers["access-control-allow-origin"] == PAGE
            # No preflight comes before these, so the outer app was not asked.
            assert (await http.post("/threads/clear", headers=headers)).status_code == 403
            form = await http.post("/transcribe", files={"audio": b"x"}, headers=headers)
            assert form.status_code == 403


@pytest.mark.fault("C4")
async def test_the_refusal_names_the_options_that_allow_the_page(runner: AgentRunner) -> None:
    async with client(runner) as http:
        answer = await http.post("/agent/default/run", json=make_input(), headers={"origin": PAGE})
    assert 'cors=Cors(origin="' in answer.json()["message"]
    assert 'cors="outer"' in answer.json()["message"]
