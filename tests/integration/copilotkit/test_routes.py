"""Published clients find the server's routes, and its suggestions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from agentrunner import InMemoryAgentRunner
from agentrunner.server import create_app
from support.agents import agent_with
from support.copilotkit import BARE, KINDS, PROXIED, Client, Gate, Stage, ThreadList, fine
from support.copilotkit_server import (
    served_by,
    without_ids,
)
from support.events import text_message, tool_call
from support.nodejs import needs_node
from support.serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ag_ui.core import RunAgentInput
pytestmark = needs_node


TRANSPORTS = ("rest", "single", "auto")


# How a client finds out which routes there are


@pytest.mark.parametrize(
    ("mode", "kinds"),
    [
        ("multi-route", ("proxied-rest", "proxied-auto", "core-rest", "core-auto", *BARE)),
        ("single-route", ("proxied-single", "proxied-auto", "core-single", "core-auto")),
        ("both", KINDS),
    ],
)
def test_each_client_finds_its_way(node, mode, kinds):
    with served_by(InMemoryAgentRunner(), mode) as server:
        for kind in kinds:
            client = Client(node, kind, server.url, kind)
            assert fine(client.run("hi"))
            fresh = Client(node, kind, server.url, kind)
            assert fine(fresh.connect())
            assert without_ids(*fresh.messages) == ["hi", "Hello"]
            if kind in BARE:
                continue
            gate = Gate()
            server.stage.play(kind, gate)
            run = client.running("more")
            gate.wait()
            client.stop()
            assert fine(run.join())
            assert gate.cancelled.is_set()


def test_the_wrong_transport_is_refused_visibly(node):
    with served_by(InMemoryAgentRunner(), "multi-route") as server:
        seen = Client(node, "proxied-single", server.url, "t").run("hi")
        assert seen["status"] == 404
        assert seen["payload"]["code"] == "single_route_envelope_against_multi_route_runtime"
    with served_by(InMemoryAgentRunner(), "single-route") as server:
        assert Client(node, "proxied-rest", server.url, "t").run("hi")["refused"].startswith("HTTP 4")


@pytest.mark.parametrize("slash", ["", "/"])
def test_below_a_mount(node, slash):
    """Mount the app in another app; clients use the URL with and without a final slash."""
    stage = Stage()
    app = create_app(InMemoryAgentRunner(), {"default": stage}, mode="both")
    outer = Starlette(routes=[Mount("/api/copilotkit", app=app)], lifespan=app.router.lifespan_context)
    with serving(outer) as url:
        for kind in PROXIED:
            client = Client(node, kind, f"{url}/api/copilotkit{slash}", kind)
            assert fine(client.run("hi"))
            fresh = Client(node, kind, f"{url}/api/copilotkit{slash}", kind)
            assert fine(fresh.connect())
            assert without_ids(*fresh.messages) == ["hi", "Hello"]


@pytest.mark.parametrize("plain", ["", "/", "/default"])
@pytest.mark.parametrize("kind", BARE)
def test_a_bare_client_runs_as_on_any_ag_ui_server(in_memory, node, kind, plain, thread):
    client = Client(node, kind, in_memory.url, thread, plain=plain)
    assert fine(client.run("hi"), client.run("more"))
    assert without_ids(*client.messages) == ["hi", "Hello", "more", "Hello"]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_suggestions(node, transport):
    async def agent(input: RunAgentInput) -> AsyncIterator[dict[str, Any]]:
        tool_names = [tool.name for tool in input.tools]
        args = json.dumps({"suggestions": [{"title": "More", "message": f"than {len(input.messages) - 1}"}]})
        suggestion_call = tool_call("c", "copilotkitSuggest", args[:9], args[9:])
        events = suggestion_call if tool_names == ["copilotkitSuggest"] else text_message("m", "Hello")
        async for event in agent_with(*events)(input):
            yield event

    with served_by(InMemoryAgentRunner(), default=agent) as server:
        assert fine(Client(node, f"core-{transport}", server.url, "chat").run("hi"))
        question = {"op": "suggestions", "url": server.url, "transport": transport, "threadId": "chat"}
        assert node.ask("core", question) == [{"title": "More", "message": "than 2", "isLoading": False}]
        shown = [thread["id"] for thread in ThreadList(node, server.url, transport).view()["threads"]]
        if transport != "single":
            assert shown == ["chat"]
        # Over the single route the core asks by a run on a thread of its own.
        assert len(shown) == (2 if transport == "single" else 1)
