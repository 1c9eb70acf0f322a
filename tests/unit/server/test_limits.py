"""What is refused: too large, too slow, too deep, from elsewhere, to everyone; and what a bad command line is told."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.middleware.trustedhost import TrustedHostMiddleware
from typer.testing import CliRunner

from agentrunner.cli import app as cli
from agentrunner.server import Cors, Limits, create_app, uvicorn_server
from support.agents import agent_with
from support.events import text_message
from support.inputs import make_input
from support.wire import client, connected, request, served, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agentrunner import AgentRunner

TOO_LARGE = {"error": "Request body too large", "message": "A body has at most 1000 bytes"}
SLOW = {"error": "Request body too slow"}


def app_of(runner: AgentRunner, agent: Any = None, **options: Any) -> Any:
    return create_app(runner, {"default": agent or agent_with(*text_message("m", "hello"))}, **options)


@pytest.fixture
def runner(memory_factory: Callable[..., AgentRunner]) -> AgentRunner:
    return memory_factory()


def padded(size: int, run: str = "r1") -> bytes:
    """A run's input of exactly so many bytes."""
    body = json.dumps(make_input(run=run)).encode()
    return body + b" " * (size - len(body))


@pytest.mark.parametrize("field", ["body_bytes", "body_seconds", "stalled_seconds"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_limit_is_positive(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        Limits(**{field: value})


@pytest.mark.parametrize("value", [-1, 2147483.648, float("nan")])
def test_the_keep_alive_is_a_timers(value: float) -> None:
    with pytest.raises(ValueError, match="keep_alive_seconds"):
        Limits(keep_alive_seconds=value)


async def test_a_body_is_as_long_as_allowed_and_no_byte_longer(runner: AgentRunner) -> None:
    async with client(app_of(runner, limits=Limits(body_bytes=1000))) as http:
        for path in ("/agent/default/run", "/agent/default/connect", "/agent/default/stop/t", "/threads/clear", "/"):
            for size, refused in ((1000, False), (1001, True)):
                answer = await http.post(path, content=padded(size, f"{path}{size}"))
                assert (answer.status_code == 413) == refused, path
                assert not refused or answer.json() == TOO_LARGE
        answer = await http.request("DELETE", "/threads/t", content=padded(1001))
        assert (answer.status_code, answer.json()) == (413, TOO_LARGE)


async def test_a_body_in_chunks_is_counted_as_it_comes(runner: AgentRunner) -> None:
    async with served(app_of(runner, limits=Limits(body_bytes=1000))) as address, connected(address) as wire:
        said = request("POST", "/agent/default/run", **{"transfer-encoding": "chunked"})
        await wire.send(said.replace(b"content-length: 0\r\n", b""))
        # The refusal comes while the body, which never ends, is still being sent.
        answering = asyncio.create_task(wire.answer())
        while not answering.done():
            await wire.send(b"64\r\n" + b" " * 100 + b"\r\n")
            await asyncio.sleep(0)
        answer = answering.result()
        assert (answer.status, answer.json) == (413, TOO_LARGE)


async def test_a_gibibyte_that_is_only_claimed_is_refused_before_any_of_it_comes(runner: AgentRunner) -> None:
    async with served(app_of(runner)) as address:
        for path in ("/agent/default/run", "/", "/threads/clear", "/no/such/path"):
            for length in (1 << 30, 10**18, 10**30):
                async with connected(address) as wire:
                    await wire.send(request("POST", path, **{"content-length": str(length)}))
                    status = (await wire.answer()).status
                    # Some lengths are beyond what the HTTP parser takes.
                    assert status == (413 if length < 1 << 64 else 400)


async def test_a_gibibyte_that_is_really_sent_is_not_kept(runner: AgentRunner) -> None:
    async with served(app_of(runner)) as address, connected(address) as wire:
        await wire.send(request("POST", "/agent/default/run", **{"content-length": str(1 << 30)}))
        assert (await wire.answer()).status == 413
        before, block = resident(), bytes(1 << 20)
        try:
            for _ in range(256):
                await wire.send(block)
        except ConnectionError:
            pass
        assert resident() - before < 16 << 20


def resident() -> int:
    """This process's memory in bytes now."""
    with open("/proc/self/statm", "rb") as figures:  # noqa: PTH123 - as it is here, not a file to be made
        return int(figures.read().split()[1]) * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_body_in_endless_chunks_leaves_the_memory_flat(runner: AgentRunner) -> None:
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        block = bytes(1 << 20)
        while sent < 1 << 30:
            sent += len(block)
            yield block

    before = resident()
    async with client(app_of(runner)) as http, aclosing(endless()) as body:
        answer = await http.post("/agent/default/run", content=body)
    assert answer.status_code == 413
    assert sent <= 16 << 20
    assert resident() - before < 32 << 20


async def test_a_body_that_takes_too_long_is_refused_and_its_connection_closed(runner: AgentRunner) -> None:
    async with served(app_of(runner, limits=Limits(body_seconds=0.2))) as address, connected(address) as wire:
        await wire.send(request("POST", "/agent/default/run", **{"content-length": "1000"}) + b"{")
        answer = await wire.answer()
        assert (answer.status, answer.json) == (408, SLOW)
        # Who dribbles on is not listened to.
        assert answer.headers["connection"] == "close"
        assert await wire.closed()


async def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_error(
    runner: AgentRunner, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "agentrunner.access")
    async with served(app_of(runner)) as address:
        async with connected(address) as wire:
            await wire.send(request("POST", "/agent/default/run", **{"content-length": "1000"}) + b"{")
            wire.vanish()
        await until(lambda: any(record.name == "agentrunner.access" for record in caplog.records))
    (record,) = [record for record in caplog.records if record.name == "agentrunner.access"]
    assert getattr(record, "status", None) == 499
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "GZIP", "identity, gzip", "x"])
async def test_a_compressed_body_is_refused(coding: str, runner: AgentRunner) -> None:
    async with client(app_of(runner)) as http:
        answer = await http.post("/agent/default/run", json=make_input(), headers={"content-encoding": coding})
        assert answer.status_code == 415
        assert answer.json()["error"] == "Unsupported content encoding"
        answer = await http.post("/agent/default/run", json=make_input(), headers={"content-encoding": " Identity "})
        assert answer.status_code == 200


ENVELOPE = '{"method":"agent/run","params":{"agentId":"default"},"body":%s}'


@pytest.mark.parametrize("depth", [129, 255, 300, 1000, 2000, 1_000_000])
async def test_what_is_nested_too_deep_is_refused_in_every_form(depth: int, runner: AgentRunner) -> None:
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
async def test_an_id_is_as_long_as_allowed_and_no_byte_longer(field: str, path: str, runner: AgentRunner) -> None:
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


@pytest.mark.parametrize("thread", ["a/b", "a\nb", "a\r\n\r\nb", "\0", "\x1b[31m", "%2F", "..", " ", "\u2028", "🙂"])
async def test_a_thread_of_any_name_can_be_reached(thread: str, runner: AgentRunner) -> None:
    from urllib.parse import quote

    at = f"/threads/{quote(thread, safe='').replace('.', '%2E')}"
    async with client(app_of(runner)) as http:
        assert (await http.post("/agent/default/run", json=make_input(thread))).status_code == 200
        assert (await http.get(f"{at}/messages")).json() == {
            "messages": [{"id": "m", "role": "assistant", "content": "hello"}]
        }
        assert (await http.patch(at, json={"name": thread})).json()["id"] == thread
        assert (await http.request("DELETE", at)).json() == {"threadId": thread, "deleted": True}


async def test_a_path_writes_no_line_into_the_log(runner: AgentRunner, caplog: pytest.LogCaptureFixture) -> None:
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
async def test_another_sites_page_changes_nothing(site: str, origin: str | None, runner: AgentRunner) -> None:
    headers = {"sec-fetch-site": site} | ({"origin": origin} if origin else {})
    closed: list[Any] = [None, False, Cors(origin="https://good.example"), Cors(origin=["https://good.example"])]
    for cors in [*closed, Cors(origin=lambda _: None)]:
        async with client(app_of(runner, mode="both", cors=cors), **headers) as http:
            for method, path in UNSAFE:
                answer = await http.request(method, path, json=make_input())
                assert answer.status_code == 403, (path, cors)
                assert answer.json()["error"] == "Cross-origin request refused"
    assert await runner.threads.list() == []


async def test_a_page_that_cors_allows_may_do_everything(runner: AgentRunner) -> None:
    origin = "https://good.example"
    allowing: list[Any] = [True, Cors(origin=origin), Cors(origin=["x", origin]), Cors(origin=lambda asking: asking)]
    for number, cors in enumerate([*allowing, Cors(credentials=True)]):
        app = app_of(runner, mode="both", cors=cors)
        async with client(app, **{"sec-fetch-site": "cross-site", "origin": origin}) as http:
            for method, path in UNSAFE:
                body = make_input(f"t{number}", f"{number}{path}")
                answer = await http.request(method, path.replace("/t", f"/t{number}"), json=body)
                assert answer.status_code != 403, (path, cors)
                assert answer.headers["access-control-allow-origin"] in ("*", origin)


@pytest.mark.parametrize("site", ["same-origin", "none", None])
async def test_ones_own_page_and_what_is_no_browser_may_do_everything(site: str | None, runner: AgentRunner) -> None:
    async with client(app_of(runner, mode="both"), **({"sec-fetch-site": site} if site else {})) as http:
        for method, path in UNSAFE:
            answer = await http.request(method, path, json=make_input(run=path))
            assert answer.status_code != 403, path


async def test_reading_is_left_to_the_browsers_own_rules(runner: AgentRunner) -> None:
    async with client(app_of(runner), **{"sec-fetch-site": "cross-site", "origin": "https://evil.example"}) as http:
        answer = await http.get("/threads")
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers


# `agentrunner serve`, up to the server itself

HOSTS = ["localhost", "LocalHost:8000", "127.0.0.1", "127.0.0.1:8000", "[::1]", "[::1]:8000"]
FOREIGN = ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example:8000", "", "[", "10.0.0.1"]


@pytest.fixture
def run_by_uvicorn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `serve` hands to uvicorn, which is not run."""
    found: list[Any] = []
    monkeypatch.setattr(uvicorn_server.UvicornServer, "run", lambda self: found.append(self))
    monkeypatch.setattr(uvicorn_server, "configure_logging", lambda _: None)
    return found


@pytest.mark.parametrize("host", uvicorn_server.LOOPBACK_HOSTS)
async def test_on_loopback_only_its_own_names_get_in(host: str, runner: AgentRunner, run_by_uvicorn: list[Any]) -> None:
    uvicorn_server.serve(app_of(runner), host=host)
    app = run_by_uvicorn[0].config.app
    for name in HOSTS + FOREIGN:
        async with client(app) as http:
            answer = await http.get("/info", headers={"host": name})
            assert answer.status_code == (200 if name in HOSTS else 400), name


async def test_with_authentication_or_beyond_loopback_any_name_gets_in(
    runner: AgentRunner, run_by_uvicorn: list[Any]
) -> None:
    uvicorn_server.serve(app_of(runner, authenticate=lambda _: None), host="127.0.0.1")
    uvicorn_server.serve(app_of(runner), host="0.0.0.0")  # noqa: S104 - what is asked about
    assert not any(isinstance(server.config.app, TrustedHostMiddleware) for server in run_by_uvicorn)
    for name in FOREIGN:
        async with client(run_by_uvicorn[0].config.app) as http:
            assert (await http.get("/threads/clear", headers={"host": name})).status_code in (401, 405)


MODULE = """
import agentrunner.harness
from agentrunner import InMemoryAgentRunner
from agentrunner.harness import Harness
from agentrunner.server import Principal
async def agent(input):
    yield {}
agents = {"one": agent, "two": agent}
class rooms:
    agent = agent
def who(request):
    return Principal("x")
nothing = {}
number = 7
mixed = {"one": agent, "two": 2}
def harness(runner) -> Harness:
    return Harness(runner, agents)
def quoted(runner) -> "agentrunner.harness.Harness":
    return Harness(runner, agents)
def failing(runner) -> Harness:
    return Harness(runner, {})
def other(runner) -> Harness:
    return Harness(InMemoryAgentRunner(), agents)
def none(runner) -> Harness:
    pass
ready = Harness(InMemoryAgentRunner(), agents)
"""


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_by_uvicorn: list[Any]) -> Any:
    """Run `agentrunner serve` in a folder with modules; give its exit code and what it said."""
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("import no_such_module_at_all")
    (tmp_path / "worse.py").write_text("def (")
    (tmp_path / "fails.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("mine", "broken", "worse", "fails"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli, ["serve", *arguments], env={"COLUMNS": "1000", "NO_COLOR": "1"})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return run


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.com", ""])  # noqa: S104
def test_a_public_host_needs_authentication_or_a_word(host: str, serve: Any, run_by_uvicorn: list[Any]) -> None:
    code, said = serve("mine:agents", "--db", "x.db", "--host", host)
    assert code == 2
    assert "--authenticate" in said
    assert "--open-to-everyone" in said
    assert not run_by_uvicorn
    assert serve("mine:agents", "--db", "x.db", "--host", host, "--open-to-everyone")[0] == 0
    assert serve("mine:agents", "--db", "x.db", "--host", host, "--authenticate", "mine:who")[0] == 0
    assert [server.config.host for server in run_by_uvicorn] == [host, host]


def test_on_loopback_neither_is_needed(serve: Any, run_by_uvicorn: list[Any]) -> None:
    for host in uvicorn_server.LOOPBACK_HOSTS:
        assert serve("mine:agents", "--db", "x.db", "--host", host)[0] == 0
    assert len(run_by_uvicorn) == 3


@pytest.mark.parametrize(
    ("place", "agents"),
    [
        ("mine:agents", ["one", "two"]),
        ("mine:agent", ["default"]),
        ("mine:rooms.agent", ["default"]),
        ("mine:harness", ["one", "two"]),
        ("mine:quoted", ["one", "two"]),
    ],
)
def test_what_is_served_is_named(place: str, agents: list[str], serve: Any, run_by_uvicorn: list[Any]) -> None:
    code, said = serve(place, "--db", "x.db")
    assert code == 0
    assert f"agents {', '.join(agents)} at http://127.0.0.1:8000/" in said
    server = run_by_uvicorn[0].config.app.app.context
    assert list(server.agents) == agents
    assert (server.harness is not None) == (place in ("mine:harness", "mine:quoted"))


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("mine", ["MODULE:NAME", "'mine'"]),
        (":agents", ["MODULE:NAME", "':agents'"]),
        ("mine:", ["MODULE:NAME", "'mine:'"]),
        ("", ["MODULE:NAME"]),
        ("nowhere:agents", ["no module 'nowhere'"]),
        ("mine.deeper:agents", ["no module"]),
        ("mine:nobody", ["'mine'", "'nobody'"]),
        ("mine:rooms.other", ["'rooms.other'"]),
        ("mine:agents:more", ["'agents:more'"]),
        (".mine:agents", ["MODULE:NAME"]),
        ("broken:agents", ["no module 'no_such_module_at_all'", "'broken:agents'"]),
        ("worse:agents", ["worse.py", "SyntaxError"]),
        ("fails:agents", ["ZeroDivisionError"]),
        ("mine:nothing", ["at least one"]),
        ("mine:number", ["'default'", "not 7"]),
        ("mine:mixed", ["'two'", "not 2"]),
        ("mine:failing", ["'mine:failing' failed to make a Harness", "ValueError: a harness has at least one agent"]),
        ("mine:other", ["another runner"]),
        ("mine:none", ["or a harness"]),
        ("mine:ready", ["'mine:ready' is a Harness", "(runner) -> Harness"]),
    ],
)
def test_a_wrong_place_is_named_in_a_line(place: str, words: list[str], serve: Any, run_by_uvicorn: list[Any]) -> None:
    code, said = serve(place, "--db", "x.db")
    assert code == 2
    assert all(word in said for word in words), said
    assert "Traceback" not in said
    assert not run_by_uvicorn


def test_authenticate_is_a_function(serve: Any) -> None:
    code, said = serve("mine:agents", "--db", "x.db", "--authenticate", "mine:number")
    assert code == 2
    assert "authenticate must be a function, not 7" in said


def test_a_base_path_starts_with_a_slash(serve: Any) -> None:
    code, said = serve("mine:agents", "--db", "x.db", "--base-path", "api")
    assert code == 2
    assert "base_path" in said


@pytest.mark.parametrize("port", ["-1", "65536"])
def test_a_port_is_one(port: str, serve: Any) -> None:
    assert serve("mine:agents", "--db", "x.db", "--port", port)[0] == 2


async def test_refusals_are_the_same_over_a_real_connection(runner: AgentRunner) -> None:
    async with (
        served(app_of(runner, limits=Limits(body_bytes=1000))) as (host, port),
        httpx.AsyncClient(base_url=f"http://{host}:{port}") as http,
    ):
        answer = await http.post("/agent/default/run", content=padded(2000))
        assert (answer.status_code, answer.json()) == (413, TOO_LARGE)
        assert (await http.get("/info")).status_code == 200
