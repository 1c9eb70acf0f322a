"""`agentrunner serve`, up to the server itself."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("starlette")

from typer.testing import CliRunner

from agentrunner.cli import app as cli
from agentrunner.server import uvicorn_server

if TYPE_CHECKING:
    from pathlib import Path

MODULE = """
import agentrunner.harness
from agentrunner import InMemoryAgentRunner
from agentrunner.harness import Harness
from agentrunner.server import Principal, create_app
async def agent(input):
    yield {}
agents = {"one": agent, "two": agent}
class team:
    agent = agent
class Robot:
    async def run(self, input):
        yield {}
robot = Robot()
async def asgi(scope, receive, send):
    pass
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
app = create_app(InMemoryAgentRunner(), agents)
"""


@pytest.fixture
def uvicorn_servers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return the servers that `serve` hands to uvicorn, which does not run them."""
    servers: list[Any] = []
    monkeypatch.setattr(uvicorn_server.UvicornServer, "run", lambda self: servers.append(self))
    monkeypatch.setattr(uvicorn_server, "configure_logging", lambda _: None)
    return servers


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uvicorn_servers: list[Any]) -> Any:
    """Return a function that runs `agentrunner serve` in a folder with modules."""
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("import no_such_module_at_all")
    (tmp_path / "worse.py").write_text("def (")
    (tmp_path / "fails.py").write_text("1 / 0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for module in ("mine", "broken", "worse", "fails"):
        monkeypatch.delitem(sys.modules, module, raising=False)

    def run(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli, ["serve", *arguments], env={"COLUMNS": "1000", "NO_COLOR": "1"})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return run


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.2", "example.com", ""])  # noqa: S104
def test_public_host_needs_authentication_or_consent(host: str, serve: Any, uvicorn_servers: list[Any]) -> None:
    code, out = serve("mine:agents", "--db", "x.db", "--host", host)
    assert code == 2
    assert "--authenticate" in out
    assert "--open-to-everyone" in out
    assert not uvicorn_servers
    assert serve("mine:agents", "--db", "x.db", "--host", host, "--open-to-everyone")[0] == 0
    assert serve("mine:agents", "--db", "x.db", "--host", host, "--authenticate", "mine:who")[0] == 0
    assert [server.config.host for server in uvicorn_servers] == [host, host]


def test_loopback_needs_neither(serve: Any, uvicorn_servers: list[Any]) -> None:
    for host in uvicorn_server.LOOPBACK_HOSTS:
        assert serve("mine:agents", "--db", "x.db", "--host", host)[0] == 0
    assert len(uvicorn_servers) == 3


@pytest.mark.parametrize(
    ("name", "agents"),
    [
        ("mine:agents", ["one", "two"]),
        ("mine:agent", ["default"]),
        ("mine:team.agent", ["default"]),
        ("mine:robot", ["default"]),
        ("mine:harness", ["one", "two"]),
        ("mine:quoted", ["one", "two"]),
    ],
)
def test_served_agents_are_named(name: str, agents: list[str], serve: Any, uvicorn_servers: list[Any]) -> None:
    code, out = serve(name, "--db", "x.db")
    assert code == 0
    assert f"agents {', '.join(agents)} at http://127.0.0.1:8000/" in out
    server = uvicorn_servers[0].config.app.app.context
    assert list(server.agents) == agents
    assert (server.harness is not None) == (name in ("mine:harness", "mine:quoted"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mine", ["MODULE:NAME", "'mine'"]),
        (":agents", ["MODULE:NAME", "':agents'"]),
        ("mine:", ["MODULE:NAME", "'mine:'"]),
        ("", ["MODULE:NAME"]),
        ("nowhere:agents", ["no module 'nowhere'"]),
        ("mine.deeper:agents", ["no module"]),
        ("mine:missing", ["'mine'", "'missing'"]),
        ("mine:team.other", ["'team.other'"]),
        ("mine:agents:more", ["'agents:more'"]),
        (".mine:agents", ["MODULE:NAME"]),
        ("broken:agents", ["no module 'no_such_module_at_all'", "'broken:agents'"]),
        ("worse:agents", ["worse.py", "SyntaxError"]),
        ("fails:agents", ["ZeroDivisionError"]),
        ("mine:nothing", ["at least one"]),
        ("mine:number", ["'mine:number' is no agent but 7", "async generator function"]),
        ("mine:Robot", ["'mine:Robot' is no agent but <class", "an object with such a `run` method"]),
        ("mine:app", ["'mine:app' is an ASGI app", "a dict of agents by id", "uvicorn mine:app"]),
        ("mine:asgi", ["'mine:asgi' is an ASGI app"]),
        ("mine:mixed", ["'two'", "not int"]),
        ("mine:failing", ["'mine:failing' failed to make a Harness", "ValueError: a harness needs at least one agent"]),
        ("mine:other", ["different runners"]),
        ("mine:none", ["or a Harness"]),
        ("mine:ready", ["'mine:ready' is a Harness", "(runner) -> Harness"]),
    ],
)
def test_wrong_module_or_name_is_one_line(name: str, words: list[str], serve: Any, uvicorn_servers: list[Any]) -> None:
    code, out = serve(name, "--db", "x.db")
    assert code == 2
    assert all(word in out for word in words), out
    assert "Traceback" not in out
    assert not uvicorn_servers


def test_authenticate_must_be_a_function(serve: Any) -> None:
    code, out = serve("mine:agents", "--db", "x.db", "--authenticate", "mine:number")
    assert code == 2
    assert "authenticate must be a function, or a FastAPI dependency, not 7" in out


def test_base_path_must_start_with_a_slash(serve: Any) -> None:
    code, out = serve("mine:agents", "--db", "x.db", "--base-path", "api")
    assert code == 2
    assert "base_path" in out


@pytest.mark.parametrize("port", ["-1", "65536"])
def test_port_must_be_in_range(port: str, serve: Any) -> None:
    assert serve("mine:agents", "--db", "x.db", "--port", port)[0] == 2
