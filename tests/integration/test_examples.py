"""Each example does what `examples/README.md` says."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from support import nodejs
from support.events import event_types
from support.inputs import make_input
from support.serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from types import ModuleType

    Load = Callable[[str], ModuleType]

from support.paths import BROWSER, EXAMPLES

REACT = EXAMPLES / "react"
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")

AGENT = "/copilotkit/agent/default"
REPLY = "I have put milk and bread on the list. Anything else?"

# ag-ui-langgraph calls what LangGraph 1 deprecates.
deprecated = pytest.mark.filterwarnings("ignore:.*get_config_jsonschema")


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Return a function that imports an example anew, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def load_example(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load_example


@contextlib.asynccontextmanager
async def using(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Run an app in this process, with its lifespan, and yield a client of it."""
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        yield http


async def events(http: httpx.AsyncClient, verb: str, input: dict[str, Any]) -> list[dict[str, Any]]:
    response = await http.post(f"{AGENT}/{verb}", json=input)
    assert response.status_code == 200, response.text
    return [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]


def user(text: str) -> dict[str, Any]:
    return {"id": f"user-{text}", "role": "user", "content": text}


def words(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in messages if message.get("content")]


async def test_pydantic_ai_example_keeps_its_threads_after_a_restart(load: Load) -> None:
    async with using(load("fastapi_pydantic_ai").app) as http:
        ran = await events(http, "run", make_input(messages=[user("milk and bread")]))
        assert "".join(event.get("delta", "") for event in ran if event["type"] == "TEXT_MESSAGE_CONTENT") == REPLY
        assert [event["snapshot"] for event in ran if event["type"] == "STATE_SNAPSHOT"] == [
            {"items": ["milk", "bread"]}
        ]
        assert (await http.get("/lists/t1")).json() == {"items": ["milk", "bread"]}
        # The user has removed an item on the page, and sends another message.
        more = make_input(run="r2", messages=[user("eggs")], state={"items": ["bread"]})
        assert event_types(await events(http, "run", more))[-1] == "RUN_FINISHED"
    async with using(load("fastapi_pydantic_ai").app) as http:
        assert (await http.get("/lists/t1")).json() == {"items": ["bread", "eggs"]}
        connected = await events(http, "connect", make_input(run="r3"))
        assert event_types(connected).count("RUN_FINISHED") == 2
        shown = words((await http.get("/copilotkit/threads/t1/messages")).json()["messages"])
        assert [text for role, text in shown if role != "tool"] == [
            "milk and bread", REPLY, "eggs", REPLY.replace("milk and bread", "eggs"),
        ]  # fmt: skip


@deprecated
@pytest.mark.parametrize(("answer", "reply", "items"), [
    ({"status": "resolved", "payload": {"approved": True}}, "tea: ordered.", ["tea"]),
    ({"status": "resolved", "payload": {"approved": False}}, "Nothing was ordered.", []),
    ({"status": "cancelled"}, "Nothing was ordered.", []),
], ids=["approved", "declined", "cancelled"])  # fmt: skip
async def test_langgraph_example_asks_and_continues_with_the_answer(
    load: Load, answer: dict[str, Any], reply: str, items: list[str]
) -> None:
    async with using(load("fastapi_langgraph").app) as http:
        ran = await events(http, "run", make_input(messages=[user("tea")]))
        interrupt = ran[-1]["outcome"]["interrupts"][0]
        assert interrupt["message"] == "Order tea?"
        assert (await http.get("/lists/t1")).json() == {"items": []}
        # A page that connects again shows the question until it is answered.
        assert (await events(http, "connect", make_input()))[-1]["outcome"]["interrupts"] == [interrupt]
        resumed = make_input(run="r2", messages=[user("tea")], resume=[{"interruptId": interrupt["id"]} | answer])
        assert event_types(await events(http, "run", resumed))[-1] == "RUN_FINISHED"
        assert (await http.get("/lists/t1")).json() == {"items": items}
        connected = await events(http, "connect", make_input())
        assert not any("outcome" in event for event in connected if event["type"] == "RUN_FINISHED")
        shown = words((await http.get("/copilotkit/threads/t1/messages")).json()["messages"])
    assert shown == [("user", "tea"), ("assistant", "I ask before I order."), ("tool", reply), ("assistant", reply)]


@deprecated
async def test_langgraph_example_continues_from_threads_db(load: Load) -> None:
    """The checkpointer loses its state with the process; the thread keeps its own."""
    async with using(load("fastapi_langgraph").app) as http:
        await events(http, "run", make_input(messages=[user("tea")]))
    restarted = load("fastapi_langgraph")
    async with using(restarted.app) as http:
        messages = (await http.get("/copilotkit/threads/t1/messages")).json()["messages"]
        assert words(messages) == [("user", "tea"), ("assistant", "I ask before I order.")]
        request = make_input(run="r2", messages=[user("tea"), user("eggs")], state={"items": ["rice"]})
        ran = await events(http, "run", request)
        assert ran[-1]["outcome"]["interrupts"][0]["message"] == "Order eggs?"
        graph_state = await restarted.graph.aget_state({"configurable": {"thread_id": "t1"}})
        assert [message.text for message in graph_state.values["messages"]] == ["tea", "eggs", "I ask before I order."]
        assert graph_state.values["items"] == ["rice"]
        deleted = await http.request("DELETE", "/copilotkit/threads/t1", json={"agentId": "default"})
        assert deleted.json()["deleted"] is True
        assert (await restarted.graph.aget_state({"configurable": {"thread_id": "t1"}})).values != {}
        await restarted.graph.checkpointer.adelete_thread("t1")
        assert (await restarted.graph.aget_state({"configurable": {"thread_id": "t1"}})).values == {}


async def request_approval(load: Load, run: str = "r1") -> dict[str, Any]:
    """Run the approvals example until it asks, and return the interrupt."""
    async with using(load("approvals").app) as http:
        ran = await events(http, "run", make_input(run=run, messages=[user("tea and milk")]))
        [interrupt] = ran[-1]["outcome"]["interrupts"]
        assert interrupt["message"] == "Allow 'order' to run?"
        return interrupt


@pytest.mark.parametrize(("answer", "reply", "ordered"), [
    ({"payload": {"approved": True}}, "I have ordered tea and milk.", ["tea and milk"]),
    ({"payload": {"approved": True, "editedArgs": {"items": ["tea"]}}}, "I have ordered tea.", ["tea"]),
    ({"payload": {"approved": False}}, "Nothing was ordered.", []),
], ids=["approved", "edited", "rejected"])  # fmt: skip
async def test_approvals_example_continues_after_a_restart(
    load: Load, answer: dict[str, Any], reply: str, ordered: list[str]
) -> None:
    interrupt = await request_approval(load)
    restarted = load("approvals")
    async with using(restarted.app) as http:
        resumed = make_input(run="r2", resume=[{"interruptId": interrupt["id"], "status": "resolved"} | answer])
        ran = await events(http, "run", resumed)
        assert "".join(event.get("delta", "") for event in ran) == reply
        assert list(restarted.ordered.values()) == ordered
        assert (await http.get("/approvals")).json() == []


async def test_approvals_example_is_decided_by_its_own_route(load: Load) -> None:
    interrupt = await request_approval(load)
    restarted = load("approvals")
    async with using(restarted.app) as http:
        waiting = {"id": f"r1/{interrupt['id']}", "thread": "t1", "tool": "order", "input": {"items": ["tea", "milk"]}}
        assert (await http.get("/approvals")).json() == [waiting]
        path = f"/approvals/{waiting['id']}"
        decided = await http.post(path, json={"decision": "edit", "items": ["rice"]})
        assert decided.json() == {"state": "completed", "content": "I have ordered rice."}
        assert (await http.post(path, json={"decision": "reject"})).status_code == 409
        assert (await http.post("/approvals/r1/other", json={"decision": "approve"})).status_code == 404
        assert list(restarted.ordered.values()) == ["rice"]
        shown = words((await http.get("/copilotkit/threads/t1/messages")).json()["messages"])
    assert shown[-1] == ("assistant", "I have ordered rice.")


@pytest.fixture(scope="module")
def page() -> Path:
    """Check the types of the React example and build it, unless it is up to date."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed: the React example was neither built nor driven")
    nodejs.install(REACT)
    built = REACT / "dist" / "index.html"
    sources = [path for path in (*REACT.iterdir(), *(REACT / "src").iterdir()) if path.is_file()]
    if not built.exists() or built.stat().st_mtime < max(path.stat().st_mtime for path in sources):
        subprocess.run(["npm", "run", "build", "--prefix", REACT, "--", "--logLevel", "error"], check=True)
    return built


@pytest.fixture
def served_page(page: Path) -> Callable[[str], contextlib.AbstractContextManager[str]]:
    """Return a function that serves the built page and forwards `/copilotkit` to a server."""

    @contextlib.contextmanager
    def at(agents: str) -> Iterator[str]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        vite = subprocess.Popen(
            ["node", "node_modules/vite/bin/vite.js", "preview", "--host", "127.0.0.1", "--port", str(port)],
            cwd=REACT,
            env=os.environ | {"AGENTS": agents, "NO_COLOR": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert vite.stdout is not None
            assert any("http://" in line for line in vite.stdout), "vite did not start"
            yield f"http://127.0.0.1:{port}/"
        finally:
            vite.terminate()
            vite.communicate()

    return at


def test_react_example_builds(page: Path) -> None:
    assert "<script" in page.read_text()


@deprecated
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: the React example was not driven")
@pytest.mark.parametrize(
    ("example", "scenario"),
    [
        ("fastapi_pydantic_ai", "chat"),
        ("fastapi_pydantic_ai", "threads"),
        ("fastapi_langgraph", "approval"),
        ("approvals", "waiting"),
    ],
)
def test_react_example_in_a_browser(
    load: Load, served_page: Callable[[str], contextlib.AbstractContextManager[str]], example: str, scenario: str
) -> None:
    nodejs.install(BROWSER)
    with serving(load(example).app) as agents, served_page(agents) as url:
        done = subprocess.run(
            ["node", BROWSER / "react.mjs", url, scenario, os.environ.get("SHOTS", "")],
            env=os.environ | {"CHROMIUM": CHROMIUM},
            capture_output=True,
            text=True,
            timeout=30,
        )
    assert done.returncode == 0, done.stderr
