"""`agentrunner serve`, up to uvicorn itself, and errors over a real connection."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.middleware.trustedhost import TrustedHostMiddleware
from typer.testing import CliRunner

from agentrunner.cli import app as cli
from agentrunner.server import Limits, create_app, uvicorn_server
from support.agents import agent_with
from support.events import text_message
from support.inputs import make_input
from support.wire import client, served

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agentrunner import AgentRunner
TOO_LARGE = {"error": "Request body too large", "message": "A body has at most 1000 bytes"}


def app_of(runner: AgentRunner, agent: Any = None, **options: Any) -> Any:
    return create_app(runner, {"default": agent or agent_with(*text_message("m", "hello"))}, **options)


@pytest.fixture
def runner(memory_factory: Callable[..., AgentRunner]) -> AgentRunner:
    return memory_factory()


def padded(size: int, run: str = "r1") -> bytes:
    """Return a run's input of exactly this many bytes."""
    body = json.dumps(make_input(run=run)).encode()
    return body + b" " * (size - len(body))


HOSTS = ["localhost", "LocalHost:8000", "127.0.0.1", "127.0.0.1:8000", "[::1]", "[::1]:8000"]
FOREIGN = ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example:8000", "", "[", "10.0.0.1"]


@pytest.fixture
def run_by_uvicorn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collect what `serve` passes to uvicorn, without running it."""
    found: list[Any] = []
    monkeypatch.setattr(uvicorn_server.UvicornServer, "run", lambda self: found.append(self))
    monkeypatch.setattr(uvicorn_server, "configure_logging", lambda _: None)
    return found


@pytest.mark.parametrize("host", uvicorn_server.LOOPBACK_HOSTS)
async def test_on_loopback_only_loopback_names_are_answered(
    host: str, runner: AgentRunner, run_by_uvicorn: list[Any]
) -> None:
    uvicorn_server.serve(app_of(runner), host=host)
    app = run_by_uvicorn[0].config.app
    for name in HOSTS + FOREIGN:
        async with client(app) as http:
            answer = await http.get("/info", headers={"host": name})
            assert answer.status_code == (200 if name in HOSTS else 400), name


async def test_with_authentication_or_on_a_public_host_any_name_is_answered(
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
    """Run `agentrunner serve` in a folder with modules; return its exit code and its output."""
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
def test_a_public_host_needs_authentication_or_an_explicit_option(
    host: str, serve: Any, run_by_uvicorn: list[Any]
) -> None:
    code, said = serve("mine:agents", "--db", "x.db", "--host", host)
    assert code == 2
    assert "--authenticate" in said
    assert "--open-to-everyone" in said
    assert not run_by_uvicorn
    assert serve("mine:agents", "--db", "x.db", "--host", host, "--open-to-everyone")[0] == 0
    assert serve("mine:agents", "--db", "x.db", "--host", host, "--authenticate", "mine:who")[0] == 0
    assert [server.config.host for server in run_by_uvicorn] == [host, host]


def test_a_loopback_host_needs_neither(serve: Any, run_by_uvicorn: list[Any]) -> None:
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
def test_the_served_agents_are_printed(place: str, agents: list[str], serve: Any, run_by_uvicorn: list[Any]) -> None:
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
        ("mine:failing", ["'mine:failing' failed to make a Harness", "ValueError: a harness needs at least one agent"]),
        ("mine:other", ["another runner"]),
        ("mine:none", ["or a harness"]),
        ("mine:ready", ["'mine:ready' is a Harness", "(runner) -> Harness"]),
    ],
)
def test_a_wrong_location_is_named_in_one_line(
    place: str, words: list[str], serve: Any, run_by_uvicorn: list[Any]
) -> None:
    code, said = serve(place, "--db", "x.db")
    assert code == 2
    assert all(word in said for word in words), said
    assert "Traceback" not in said
    assert not run_by_uvicorn


def test_authenticate_must_be_a_function(serve: Any) -> None:
    code, said = serve("mine:agents", "--db", "x.db", "--authenticate", "mine:number")
    assert code == 2
    assert "authenticate must be a function, not 7" in said


def test_a_base_path_must_start_with_a_slash(serve: Any) -> None:
    code, said = serve("mine:agents", "--db", "x.db", "--base-path", "api")
    assert code == 2
    assert "base_path" in said


@pytest.mark.parametrize("port", ["-1", "65536"])
def test_a_port_must_be_valid(port: str, serve: Any) -> None:
    assert serve("mine:agents", "--db", "x.db", "--port", port)[0] == 2


async def test_errors_are_the_same_over_a_real_connection(runner: AgentRunner) -> None:
    async with (
        served(app_of(runner, limits=Limits(body_bytes=1000))) as (host, port),
        httpx.AsyncClient(base_url=f"http://{host}:{port}") as http,
    ):
        answer = await http.post("/agent/default/run", content=padded(2000))
        assert (answer.status_code, answer.json()) == (413, TOO_LARGE)
        assert (await http.get("/info")).status_code == 200
