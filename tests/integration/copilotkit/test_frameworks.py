"""Agents of pydantic-ai and LangGraph, read by published clients."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING

import pytest

from agentrunner import SqliteAgentRunner
from support.copilotkit import BARE, Client, fine
from support.copilotkit_server import (
    Served,
    served_by,
    user,
    without_ids,
)
from support.nodejs import needs_node

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = needs_node


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The agents of tests/real_agents.py, served."""
    with warnings.catch_warnings():
        # langchain and langgraph deprecate what ag-ui-langgraph and they themselves call.
        warnings.simplefilter("ignore")
        from support import real_agents

        agents = real_agents.agents()
    with served_by(SqliteAgentRunner(tmp_path_factory.mktemp("real") / "t.db"), **agents) as server:
        yield server


REAL = ("http-1.0.0", "http-0.0.59", "core-auto")


@pytest.mark.parametrize("kind", REAL)
@pytest.mark.parametrize("agent", ["scripted", "test-model"])
def test_pydantic_ai(real, node, kind, agent, thread):
    client = Client(node, kind, real.url, thread, agent)
    assert fine(client.run("Lisbon"))
    question, call, result, answer = client.messages
    city = "Lisbon" if agent == "scripted" else "a"
    assert question == user("Lisbon")
    assert json.loads(call["toolCalls"][0]["function"]["arguments"]) == {"city": city}
    assert (result["role"], result["content"]) == ("tool", f"sunny in {city}")
    assert result["toolCallId"] == call["toolCalls"][0]["id"]
    assert answer["content"] == (f"It is sunny in {city}" if agent == "scripted" else '{"weather":"sunny in a"}')
    if agent == "scripted":
        # Its second run reads the first from the client's messages.
        assert fine(client.run("Porto"))
        assert without_ids(*client.messages)[-1] == "It is sunny in Porto"
        assert len(client.messages) == 8
    fresh = Client(node, kind, real.url, thread, agent)
    assert fine(fresh.connect())
    assert fresh.held == client.held
    assert fine(client.connect())
    assert client.held == fresh.held


@pytest.mark.parametrize("approved", [True, False])
@pytest.mark.parametrize("kind", REAL)
# ag-ui-langgraph calls what LangGraph 1 deprecates.
@pytest.mark.filterwarnings("ignore:.*get_config_jsonschema")
def test_langgraph_asks_and_goes_on(real, node, kind, approved, thread):
    client = Client(node, kind, real.url, thread, "langgraph")
    seen = client.run("milk")
    assert fine(seen)
    assert seen["outcomes"] == ["interrupt"]
    [interrupt] = client.view()["pendingInterrupts"]
    assert "Order milk?" in json.dumps(interrupt)

    fresh = Client(node, kind, real.url, thread, "langgraph")
    assert fine(fresh.connect())
    assert fresh.held == client.held
    answer = [{"interruptId": interrupt["id"], "status": "resolved", "payload": {"approved": approved}}]
    seen = fresh.run(resume=answer)
    assert fine(seen)
    assert fresh.view()["pendingInterrupts"] == []
    outcome = "milk ordered" if approved else "nothing ordered"
    roles = [(message["role"], message.get("content", "")) for message in fresh.messages]
    assert roles == [
        ("user", "milk"), ("assistant", "I ask first."), ("tool", outcome), ("assistant", f"Done: {outcome}"),
    ]  # fmt: skip
    [call] = fresh.messages[1]["toolCalls"]
    assert json.loads(call["function"]["arguments"]) == {"item": "milk"}

    last = Client(node, kind, real.url, thread, "langgraph")
    seen = last.connect()
    assert fine(seen)
    assert seen["outcomes"] == [None, None]
    assert last.held == fresh.held
    assert fine(last.connect())
    assert last.held == fresh.held


@pytest.mark.parametrize("kind", BARE)
@pytest.mark.parametrize("agent", ["scripted", "test-model", "langgraph"])
@pytest.mark.parametrize("is_edit", [False, True], ids=["regenerate", "edit"])
@pytest.mark.filterwarnings("ignore:.*get_config_jsonschema")
def test_a_reload_shows_what_the_page_showed_after_a_change(real, node, kind, agent, is_edit, thread):
    client = Client(node, kind, real.url, thread, agent)

    def run(message: str | None = None) -> None:
        assert fine(client.run(message))
        for interrupt in client.view()["pendingInterrupts"]:
            answer = {"interruptId": interrupt["id"], "status": "resolved", "payload": {"approved": True}}
            assert fine(client.run(resume=[answer]))

    run("Lisbon")
    run("Porto")
    question = client.messages.index(user("Porto"))
    kept = [*client.messages[:question], user("Rome" if is_edit else "Porto")]
    discarded = {message["id"] for message in client.messages[question + 1 :]}
    client.keep(kept)
    run()
    for other in BARE:
        fresh = Client(node, other, real.url, thread, agent)
        assert fine(fresh.connect())
        assert fresh.held == client.held
    if agent != "langgraph":
        # LangGraph keeps what was left behind, and returns it in its own snapshots.
        assert client.messages[: len(kept)] == kept
        assert discarded.isdisjoint(message["id"] for message in client.messages)


@pytest.mark.filterwarnings("ignore:.*get_config_jsonschema")
def test_langgraph_runs_do_not_meet(real, node, thread):
    clients = {item: Client(node, "http-1.0.0", real.url, f"{thread} {item}", "langgraph") for item in "abcdef"}
    assert fine(*(run.join() for run in [client.running(item) for item, client in clients.items()]))
    answers = []
    for client in clients.values():
        [interrupt] = client.view()["pendingInterrupts"]
        answers.append([{"interruptId": interrupt["id"], "status": "resolved", "payload": {"approved": True}}])
    runs = [client.running(resume=answer) for client, answer in zip(clients.values(), answers, strict=True)]
    assert fine(*(run.join() for run in runs))
    for item, client in clients.items():
        assert [one.get("content") for one in client.messages][2:] == [f"{item} ordered", f"Done: {item} ordered"]
