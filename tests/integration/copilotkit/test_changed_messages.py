"""A client that has changed its messages: every later reader gets what its page shows.

These are the cases of docs/spec/branches.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.copilotkit import BARE, Client, fine
from support.copilotkit_server import user
from support.events import text_message, tool_call
from support.nodejs import needs_node

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.copilotkit_server import Served

pytestmark = needs_node
each_kind = pytest.mark.parametrize("kind", [*BARE, "proxied-rest", "core-single"])

Messages = list[dict[str, Any]]


def regenerate(messages: Messages) -> Messages:
    return messages[:-1]


def regenerate_first(messages: Messages) -> Messages:
    return messages[:1]


def edit(messages: Messages) -> Messages:
    return [*messages[:-2], user("other")]


def edit_in_place(messages: Messages) -> Messages:
    return [*messages[:-2], messages[-2] | {"content": "another question"}]


def edit_above(messages: Messages) -> Messages:
    return [messages[0] | {"content": "another question"}, *messages[1:], user("more")]


def rewrite_answer(messages: Messages) -> Messages:
    return [messages[0], messages[1] | {"content": "What the user makes of it"}, *messages[2:], user("more")]


def remove(messages: Messages) -> Messages:
    return [messages[0], *messages[2:], user("more")]


def swap_turns(messages: Messages) -> Messages:
    return [*messages[2:4], *messages[:2], user("more")]


CHANGES = [
    regenerate, regenerate_first, edit, edit_in_place, edit_above, rewrite_answer, remove, swap_turns,
]  # fmt: skip


def say(served: Served, thread: str, name: str) -> None:
    served.stage.play(thread, *text_message(name, f"{name} says ", "more"))


def texts(messages: Messages) -> list[tuple[str, str, Any]]:
    return [(message["id"], message["role"], message.get("content")) for message in messages]


def check_readers(served: Served, node: Any, client: Client, thread: str) -> None:
    """Check that every reader ends with the client's messages and state."""
    for kind in {client.kind, *BARE}:
        fresh = Client(node, kind, served.url, thread)
        assert fine(fresh.connect())
        assert texts(fresh.messages) == texts(client.messages), kind
        assert fresh.view()["state"] == client.view()["state"], kind


@each_kind
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_thread_is_what_its_client_shows(
    served: Served, node: Any, kind: str, thread: str, change: Callable[[Messages], Messages]
) -> None:
    client = Client(node, kind, served.url, thread)
    for name in ("a1", "a2"):
        say(served, thread, name)
        assert fine(client.run(f"question {name}"))
    kept = change(client.messages)
    client.keep(kept)
    say(served, thread, "a3")
    assert fine(client.run())
    agent_messages = served.stage.inputs[thread][-1].messages
    assert [message.id for message in agent_messages] == [message["id"] for message in kept]
    assert [message.content for message in agent_messages] == [message["content"] for message in kept]
    assert texts(client.messages)[:-1] == texts(kept)
    check_readers(served, node, client, thread)
    # The thread goes on from there, and nothing is said of the change again.
    say(served, thread, "a4")
    seen = client.run("last")
    assert fine(seen)
    assert "MESSAGES_SNAPSHOT" not in seen["types"]
    check_readers(served, node, client, thread)


@each_kind
def test_a_result_stays_beside_its_call(served: Served, node: Any, kind: str, thread: str) -> None:
    client = Client(node, kind, served.url, thread)
    served.stage.play(thread, *tool_call("c1", "look", "{}"), *text_message("m2", "Meanwhile"))
    assert fine(client.run("hi"))
    call, text = client.messages[1:]
    result = {"id": "t1", "role": "tool", "toolCallId": "c1", "content": "found"}
    client.keep([client.messages[0], call, result, text])
    say(served, thread, "a3")
    assert fine(client.run())
    assert [message["id"] for message in client.messages] == ["hi", call["id"], "t1", "m2", "a3"]
    check_readers(served, node, client, thread)


@each_kind
def test_clients_that_leave_messages_out_change_nothing(served: Served, node: Any, kind: str, thread: str) -> None:
    client = Client(node, kind, served.url, thread)
    result = {"type": "TOOL_CALL_RESULT", "messageId": "t1", "toolCallId": "c1", "content": "found"}
    served.stage.play(thread, *tool_call("c1", "look", "{}"), result, *text_message("m2", "Well"))
    assert fine(client.run("hi"))
    say(served, thread, "a2")
    assert fine(client.run("more"))
    whole = client.messages
    windows: list[Callable[[Messages], Messages]] = [
        lambda messages: [message for message in messages if message["role"] != "tool"],
        lambda messages: messages[-2:],
        lambda messages: messages[-1:],
        lambda _: [],
    ]
    for number, window in enumerate(windows):
        kept = window(whole)
        client.keep(kept)
        say(served, thread, f"b{number}")
        seen = client.run(f"new {number}")
        assert fine(seen)
        assert "MESSAGES_SNAPSHOT" not in seen["types"]
        whole = [*whole, *client.messages[len(kept) :]]
    fresh = Client(node, kind, served.url, thread)
    assert fine(fresh.connect())
    assert texts(fresh.messages) == texts(whole)
