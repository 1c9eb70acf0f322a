"""Published clients run agents, connect to threads and end with the same messages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.copilotkit import BARE, PROXIED, Client, Gate, fine
from support.copilotkit_server import (
    each_kind,
    everything,
    expected_messages,
    user,
    without_ids,
)
from support.events import text_message, tool_call
from support.nodejs import needs_node

if TYPE_CHECKING:
    pass
pytestmark = needs_node


@each_kind
def test_runs_come_out_right_and_a_fresh_client_ends_with_the_same(served, node, kind, thread):
    served.stage.play(thread, *everything(1))
    served.stage.play(thread, *everything(2))
    client = Client(node, kind, served.url, thread)
    first = client.run("hi")
    assert fine(first)
    assert first["types"][0] == "RUN_STARTED"
    assert first["types"][-1] == "RUN_FINISHED"
    assert "CUSTOM" in first["types"]
    assert client.held == ([user("hi"), *expected_messages(1)], {"run": 1, "seats": [1, 2]}, [])
    second = client.run("more")
    assert fine(second)
    # The client sends the thread's own messages, and the run says nothing about them.
    assert second["types"].count("MESSAGES_SNAPSHOT") == first["types"].count("MESSAGES_SNAPSHOT")
    assert client.held == (
        [user("hi"), *expected_messages(1), user("more"), *expected_messages(2)],
        {"run": 2, "seats": [1, 2]},
        [],
    )
    # The agent saw what the client had; activities are not for agents, and clients keep them back.
    message_ids = [message.id for message in served.stage.inputs[thread][1].messages]
    assert message_ids == ["hi", "think1", "say1", "call1", "call1-result", "end1", "more"]
    for other in {kind, *BARE}:
        fresh = Client(node, other, served.url, thread)
        assert fine(fresh.connect())
        assert fresh.held == client.held, other


@each_kind
def test_readers_of_a_live_run_end_with_the_same(served, node, kind, thread):
    gate = Gate()
    first, second = everything(1)[:8], everything(1)[8:]
    served.stage.play(thread, *first, gate, *second)
    client = Client(node, kind, served.url, thread)
    run = client.running("hi")
    gate.wait()
    readers = [Client(node, other, served.url, thread) for other in (kind, kind, *BARE, "core-rest")]
    connects = [reader.connecting() for reader in readers]
    for reader in readers:
        reader.until("let me see")
        assert reader.messages[0] == user("hi")
    gate.open()
    assert fine(run.join(), *(connect.join() for connect in connects))
    assert client.held == ([user("hi"), *expected_messages(1)], {"run": 1, "seats": [1, 2]}, [])
    for reader in readers:
        assert reader.held == client.held, reader.kind


@each_kind
def test_an_unknown_thread_is_empty(served, node, kind, thread):
    client = Client(node, kind, served.url, thread)
    seen = client.connect()
    assert fine(seen)
    assert seen["types"] == []
    assert client.held == ([], {}, [])
    # As a chat does it: connect first, then the first message.
    assert fine(client.run("hi"))
    assert without_ids(*client.messages) == ["hi", "Hello"]


def test_the_core_moves_between_threads(in_memory, node, thread):
    other = f"{thread} other"
    for name, n in ((thread, 1), (other, 2)):
        in_memory.stage.play(name, *everything(n))
        assert fine(Client(node, "core-rest", in_memory.url, name).run("hi"))
    client = Client(node, "core-auto", in_memory.url, thread)
    for name, n in ((thread, 1), (other, 2), (thread, 1)):
        client.ask("move", threadId=name)
        assert fine(client.connect())
        assert client.held == ([user("hi"), *expected_messages(n)], {"run": n, "seats": [1, 2]}, [])


@pytest.mark.parametrize("kind", [kind for kind in PROXIED if kind.startswith("core")])
def test_a_tool_of_the_page_is_called_and_its_result_goes_on(in_memory, node, kind, thread):
    in_memory.stage.play(thread, *text_message("ask", "Which?"), *tool_call("pick", "choose", '{"of":2}'))
    tool = {"name": "choose", "description": "", "answer": "the second"}
    client = Client(node, kind, in_memory.url, thread, tools=[tool])
    assert fine(client.run("hi"))
    first, second = in_memory.stage.inputs[thread]
    assert [tool.name for tool in first.tools] == ["choose"]
    assert without_ids(*client.messages) == [
        "hi", "Which?", {"name": "choose", "arguments": '{"of":2}'}, "the second", "Hello",
    ]  # fmt: skip
    assert second.messages[-1].content == "the second"
    fresh = Client(node, kind, in_memory.url, thread)
    assert fine(fresh.connect())
    assert fresh.held == client.held
