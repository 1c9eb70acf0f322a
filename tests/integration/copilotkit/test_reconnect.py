"""Published clients reconnect to a thread, or use it at the same time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import InMemoryAgentRunner, SqliteAgentRunner
from agentrunner.server.responses import BUSY_THREAD_ADVICE
from support.copilotkit import KINDS, Client, Gate, fine
from support.copilotkit_server import (
    each_kind,
    everything,
    expected_messages,
    served_by,
    user,
    without_ids,
)
from support.events import text_message
from support.nodejs import needs_node

if TYPE_CHECKING:
    pass
pytestmark = needs_node


@each_kind
def test_a_reconnect_doubles_nothing(served, node, kind, thread):
    served.stage.play(thread, *everything(1))
    served.stage.play(thread, *everything(2))
    client = Client(node, kind, served.url, thread)
    assert fine(client.run("hi"))
    # The one that ran, then again; and with a run in between that it did not see.
    for _ in range(2):
        assert fine(client.connect())
        assert client.held == ([user("hi"), *expected_messages(1)], {"run": 1, "seats": [1, 2]}, [])
    other = Client(node, kind, served.url, thread)
    assert fine(other.connect(), other.run("more"))
    for _ in range(2):
        assert fine(client.connect())
        assert client.held == other.held
        assert client.held == (
            [user("hi"), *expected_messages(1), user("more"), *expected_messages(2)],
            {"run": 2, "seats": [1, 2]},
            [],
        )


@pytest.mark.parametrize("reader_kind", ["its own", "fresh"])
@each_kind
def test_a_reconnect_during_a_run_doubles_nothing(served, node, kind, reader_kind, thread):
    """Disconnect within reasoning, text and arguments, and after the result; then reconnect."""
    script: list[Any] = []
    gates = []
    for event in everything(1):
        script.append(event)
        if event["type"].endswith(("_CONTENT", "_ARGS", "_RESULT", "_SNAPSHOT")):
            gates.append((Gate(), event))
            script.append(gates[-1][0])
    served.stage.play(thread, *script)
    client = Client(node, kind, served.url, thread)
    run = client.running("hi")
    if reader_kind == "fresh":
        reader = Client(node, kind, served.url, thread)
        gates[0][0].wait()
        under_way = reader.connecting()
    else:
        reader, under_way = client, run
    for gate, event in gates:
        gate.wait()
        content = event.get("delta") or event.get("snapshot") or event.get("content")
        reader.until(content if isinstance(content, str) else json.dumps(content, separators=(",", ":")))
        reader.ask("detach")
        under_way.join()
        under_way = reader.connecting()
        gate.open()
    assert fine(under_way.join())
    assert reader.held == ([user("hi"), *expected_messages(1)], {"run": 1, "seats": [1, 2]}, [])
    if reader is not client:
        assert fine(run.join())
        assert client.held == reader.held


# Two at once


BUSY = {"error": "Thread lock denied", "code": "agent_thread_locked", "message": "Thread already running"}


@each_kind
def test_a_busy_thread_is_refused_visibly(served, node, kind, thread):
    gate = Gate()
    served.stage.play(thread, gate)
    served.stage.play(thread, *everything(2))
    client = Client(node, kind, served.url, thread)
    run = client.running("hi")
    gate.wait()
    other = Client(node, kind, served.url, thread)
    seen = other.run("me too")
    if kind.startswith("core"):
        code, text = seen["reported"][-1]
        assert code == "agent_run_failed"
    else:
        text = seen["refused"]
        assert seen["status"] == 409
        assert seen["payload"] == json.loads(text.removeprefix("HTTP 409: "))
    body = json.loads(text.removeprefix("HTTP 409: "))
    assert body == BUSY | {"details": BUSY_THREAD_ADVICE}
    assert not gate.cancelled.is_set()
    gate.open()
    assert fine(run.join())
    # The message is still the client's: its next run carries it.
    assert fine(other.run("please"))
    assert [message.id for message in served.stage.inputs[thread][-1].messages] == ["me too", "please"]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("core")])
def test_a_reconnect_keeps_messages_that_only_the_client_has(in_memory, node, kind, thread):
    """Refuse a message's run in the middle of a chat that another client continues.

    The core client is left out, because it starts with no messages.
    """
    client, other = (Client(node, kind, in_memory.url, thread) for _ in range(2))
    gate = Gate()
    assert fine(client.run("hi"), other.connect())
    in_memory.stage.play(thread, gate)
    run = other.running("more")
    gate.wait()
    assert client.run("me too")["status"] == 409
    connect = client.connecting()
    client.until("more")
    gate.open()
    assert fine(run.join(), connect.join())
    assert sorted(without_ids(*client.messages)) == ["Hello", "hi", "me too", "more"]
    assert without_ids(*client.messages)[:3] == ["hi", "Hello", "me too"]


@pytest.mark.parametrize("store", ["sqlite", "memory"])
def test_a_run_waits_for_its_turn_where_the_server_says_so(node, store, tmp_path):
    sqlite = store == "sqlite"
    options: dict[str, Any] = {"on_concurrent_run": "enqueue"}
    runner = SqliteAgentRunner(tmp_path / "t.db", **options) if sqlite else InMemoryAgentRunner(**options)
    with served_by(runner) as server:
        for kind in KINDS:
            gate = Gate()
            server.stage.play(kind, *text_message("m1", "first"), gate)
            server.stage.play(kind, *text_message("m2", "second"))
            client, other = (Client(node, kind, server.url, kind) for _ in range(2))
            run = client.running("hi")
            gate.wait()
            waiting = other.running(f"me too, {kind}")
            server.spy.wait(f"me too, {kind}", 1)
            assert other.view()["isRunning"]
            assert len(server.stage.inputs[kind]) == 1
            gate.open()
            assert fine(run.join(), waiting.join())
            assert without_ids(*client.messages) == ["hi", "first"]
            assert without_ids(*other.messages) == [f"me too, {kind}", "second"]
            fresh = Client(node, kind, server.url, kind)
            assert fine(fresh.connect())
            assert without_ids(*fresh.messages) == ["hi", "first", f"me too, {kind}", "second"]
