"""The thread routes: the contents of a thread, and changes to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import fold
from support.agents import Gate, agent_with
from support.asgi import client_of
from support.backends import embedded, in_memory
from support.events import event_types, run_started, text_message, tool_call
from support.inputs import make_input

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ag_ui.core import RunAgentInput

    from agentrunner import AgentRunner, InMemoryAgentRunner
    from support.asgi import Answer, Client

    MemoryFactory = Callable[..., InMemoryAgentRunner]
AGENT = agent_with(*text_message("m1", "hello"), {"type": "STATE_SNAPSHOT", "snapshot": {"n": 1}})
MISSING = {"error": "Thread not found"}


async def ran(client: Client, *threads: str, agent: str = "default") -> None:
    for thread in threads:
        answer = await client.post(f"/agent/{agent}/run", make_input(thread, f"run of {thread}"))
        assert answer.status == 200


async def ids(client: Client, query: str = "") -> list[str]:
    return [thread["id"] for thread in (await client.get(f"/threads{query}")).json()["threads"]]


async def test_messages_have_flat_tool_calls(runner: AgentRunner) -> None:
    agent = agent_with(
        *text_message("m1", "let me ", "see"),
        *({**event, "parentMessageId": "m1"} for event in tool_call("c1", "search", '{"q":', '"x"}')),
        {"type": "TOOL_CALL_RESULT", "toolCallId": "c1", "messageId": "c1-result", "role": "tool", "content": "found"},
    )
    client = client_of(runner, {"default": agent})
    system = {"id": "s", "role": "system", "content": "be kind", "name": "sys"}
    await client.post("/agent/default/run", make_input(messages=[system, "hi"]))
    assert (await client.get("/threads/t1/messages")).json() == {
        "messages": [
            {"id": "s", "role": "system", "content": "be kind"},
            {"id": "hi", "role": "user", "content": "hi"},
            {
                "id": "m1",
                "role": "assistant",
                "content": "let me see",
                "toolCalls": [{"id": "c1", "name": "search", "args": '{"q":"x"}'}],
            },
            {"id": "c1-result", "role": "tool", "content": "found", "toolCallId": "c1"},
        ]
    }


@embedded
@pytest.mark.parametrize(
    "message",
    [
        {"id": "x", "role": "assistant", "toolCalls": "x"}, {"id": "x", "role": "assistant", "toolCalls": [1, None,
        {}]},
        {"id": "x", "role": "assistant", "toolCalls": [{"id": "c", "function": "f"}]}, {"id": "x", "role": "assistant"},
        {"id": "x", "role": "tool"}, {"id": "x", "role": "user", "content": [{"type": "text", "text": "t"}]},
        {"id": "x", "role": "alien", "content": {"a": [None]}}, {"id": "x", "content": None}, {"id": "x", "role": 5},
    ],
)  # fmt: skip
async def test_snapshot_messages_of_any_shape_are_returned(message: Any, runner: AgentRunner) -> None:
    client = client_of(runner, {"default": agent_with({"type": "MESSAGES_SNAPSHOT", "messages": [message]})})
    await ran(client, "t1")
    answer = await client.get("/threads/t1/messages")
    assert answer.status == 200
    assert [shown.get("id") for shown in answer.json()["messages"]] in (["x"], [])


async def test_events_are_those_of_a_replay(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT})
    await client.post("/agent/default/run", make_input(messages=["hi"]))
    events = (await client.get("/threads/t1/events")).json()["events"]
    replay = await client.post("/agent/default/connect", make_input(run="c", protocolVersion="1.0"))
    assert events == replay.events()
    assert event_types(events)[:2] == ["RUN_STARTED", "TEXT_MESSAGE_START"]


async def test_the_contents_of_a_live_thread_are_current(runner: AgentRunner) -> None:
    gate = Gate([*text_message("m1", "so far"), {"type": "STATE_SNAPSHOT", "snapshot": {"n": 1}}])
    client = client_of(runner, {"default": gate})
    async with client.open("POST", "/agent/default/run", make_input()) as run:
        await run.until(b"STATE_SNAPSHOT")
        events = (await client.get("/threads/t1/events")).json()["events"]
        assert event_types(events)[0] == "RUN_STARTED"
        assert "RUN_FINISHED" not in event_types(events)
        assert (await client.get("/threads/t1/messages")).json()["messages"][0]["content"] == "so far"
        assert (await client.get("/threads/t1/state")).json() == {"state": {"n": 1}}
        gate.open()
        await run.answer()


@embedded
@pytest.mark.parametrize(
    ("snapshot", "shown"),
    [({"n": 1}, {"n": 1}), ({}, None), ([], []), ([1], [1]), (None, None), ("x", "x"), (0, 0), ({"a": None},
    {"a": None})],
)  # fmt: skip
async def test_a_state_of_any_type(snapshot: Any, shown: Any, runner: AgentRunner) -> None:
    client = client_of(runner, {"default": agent_with({"type": "STATE_SNAPSHOT", "snapshot": snapshot})})
    await ran(client, "t1")
    assert (await client.get("/threads/t1/state")).json() == {"state": shown}


async def test_a_state_includes_its_patches(runner: AgentRunner) -> None:
    patch = {"type": "STATE_DELTA", "delta": [{"op": "add", "path": "/more", "value": [1]}]}
    client = client_of(runner, {"default": agent_with({"type": "STATE_SNAPSHOT", "snapshot": {"n": 1}}, patch)})
    await ran(client, "t1")
    assert (await client.get("/threads/t1/state")).json() == {"state": {"n": 1, "more": [1]}}


async def test_no_state_is_null(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": agent_with(*text_message("m1", "x"))})
    await ran(client, "t1")
    assert (await client.get("/threads/t1/state")).json() == {"state": None}


async def test_unusual_numbers_and_texts_are_returned_unchanged(runner: AgentRunner) -> None:
    async def odd(input: RunAgentInput) -> AsyncIterator[Any]:
        yield run_started(input.thread_id, input.run_id)
        state = b'{"long":123456789012345678901234567890,"half":"\\ud800","big":1e999}'
        yield b'{"type":"STATE_SNAPSHOT","snapshot":%s}' % state
        for event in text_message("m1", "😀"):
            yield event
        yield {"type": "RUN_FINISHED", "threadId": input.thread_id, "runId": input.run_id}

    client = client_of(runner, {"default": odd})
    await ran(client, "t1")
    events = await client.get("/threads/t1/events")
    assert b"123456789012345678901234567890" in events.body
    assert b"\\ud800" in events.body
    state = (await client.get("/threads/t1/state")).json()["state"]
    assert state == {"long": 123456789012345678901234567890, "half": "\ud800", "big": None}
    assert (await client.get("/threads/t1/messages")).json()["messages"][0]["content"] == "😀"


async def test_a_thread_is_renamed(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT})
    await ran(client, "t1")
    (before,) = (await client.get("/threads")).json()["threads"]
    for name in ("a name", "ü€😀", "x" * 1024, "<b>", "a\nb", " "):
        answer = await client.send("PATCH", "/threads/t1", {"agentId": "default", "name": name})
        assert (answer.status, answer.json()) == (200, before | {"name": name})
        assert (await client.get("/threads")).json()["threads"] == [answer.json()]
    for none in ("", None):
        await client.send("PATCH", "/threads/t1", {"name": "x"})
        assert (await client.send("PATCH", "/threads/t1", {"name": none})).json()["name"] is None


async def test_a_thread_is_archived_and_unarchived(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT})
    await ran(client, "t1")
    for _ in range(2):
        answer = await client.post("/threads/t1/archive", {"agentId": "default"})
        assert answer.json() == {"threadId": "t1", "archived": True}
        assert await ids(client) == []
    answer = await client.send("PATCH", "/threads/t1", {"agentId": "default", "archived": False})
    assert answer.json()["archived"] is False
    assert await ids(client) == ["t1"]
    answer = await client.send("PATCH", "/threads/t1", {"archived": True, "name": "both"})
    assert (answer.json()["archived"], answer.json()["name"]) == (True, "both")


@embedded
@pytest.mark.parametrize("content", [None, b"", {}, {"agentId": "default"}, {"other": 1}, {"archived": None}])
async def test_a_change_that_changes_nothing(content: Any, runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT})
    await ran(client, "t1")
    await client.send("PATCH", "/threads/t1", {"name": "kept"})
    (before,) = (await client.get("/threads")).json()["threads"]
    assert (await client.send("PATCH", "/threads/t1", content)).json() == before


@pytest.mark.parametrize("content", [None, b"", {}, {"agentId": "default"}])
async def test_a_thread_is_deleted(content: Any, runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT})
    await ran(client, "t1", "t2")
    answer = await client.send("DELETE", "/threads/t1", content)
    assert (answer.status, answer.json()) == (200, {"threadId": "t1", "deleted": True})
    assert await ids(client, "?includeArchived=true") == ["t2"]
    # Its id can be used again for a new thread.
    assert (
        event_types((await client.post("/agent/default/run", make_input("t1", "new"))).events())[-1] == "RUN_FINISHED"
    )
    assert len((await client.get("/threads/t1/messages")).json()["messages"]) == 1


async def test_a_thread_with_a_live_run_cannot_be_deleted(runner: AgentRunner) -> None:
    gate = Gate()
    client = client_of(runner, {"default": gate})
    async with client.open("POST", "/agent/default/run", make_input()) as run:
        await gate.reached.wait()
        answer = await client.send("DELETE", "/threads/t1", {})
        assert (answer.status, answer.json()["code"]) == (409, "agent_thread_locked")
        # Other changes are made, and stay.
        assert (await client.send("PATCH", "/threads/t1", {"name": "live"})).json()["name"] == "live"
        gate.open()
        assert event_types((await run.answer()).events()) == ["RUN_STARTED", "RUN_FINISHED"]
    assert (await client.get("/threads")).json()["threads"][0]["name"] == "live"


@pytest.mark.parametrize("content", [None, {}, b"", b"not json", {"agentId": 1}])
async def test_clear_deletes_all_threads_that_are_not_running(content: Any, runner: AgentRunner) -> None:
    gate = Gate()
    client = client_of(runner, {"default": AGENT, "slow": gate})
    await ran(client, "t1", "t2")
    async with client.open("POST", "/agent/slow/run", make_input("t3", "r3")) as run:
        await gate.reached.wait()
        answer = await client.post("/threads/clear", content)
        assert (answer.status, answer.body) == (204, b"")
        assert "content-type" not in answer.headers
        gate.open()
        assert event_types((await run.answer()).events()) == ["RUN_STARTED", "RUN_FINISHED"]
    assert await ids(client) == ["t3"]


CHANGES = [("PATCH", "/threads/t1"), ("DELETE", "/threads/t1"), ("POST", "/threads/t1/archive")]


@in_memory
@pytest.mark.parametrize(("method", "path"), CHANGES)
@pytest.mark.parametrize("content", [b"{", b"x", b"\xff", b"null", b"[]", b"1", b'"x"', b"{}{}", b"[" * 1_000_000])
async def test_a_change_must_be_an_object(method: str, path: str, content: bytes, runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT})
    await ran(client, "t1")
    answer = await client.send(method, path, content)
    assert (answer.status, answer.json()) == (400, {"error": "Invalid request body"})
    assert await ids(client) == ["t1"]


@pytest.mark.parametrize(("method", "path"), CHANGES)
@pytest.mark.parametrize("agent_id", ["", " ", "a b", "a/b", "ü", "x" * 129, 1, True, [], {}, "a\n"])
async def test_an_agent_id_in_a_change_must_have_plain_characters(
    method: str, path: str, agent_id: Any, memory_factory: MemoryFactory
) -> None:
    client = client_of(memory_factory(), {"default": AGENT})
    await ran(client, "t1")
    answer = await client.send(method, path, {"agentId": agent_id})
    assert (answer.status, answer.json()) == (400, {"error": "Valid agentId is required"})
    assert await ids(client) == ["t1"]


@pytest.mark.parametrize("name", [1, True, [], {}, ["x"], "x" * 1025, "€" * 342])
async def test_a_name_must_be_a_short_string(name: Any, memory_factory: MemoryFactory) -> None:
    client = client_of(memory_factory(), {"default": AGENT})
    await ran(client, "t1")
    answer = await client.send("PATCH", "/threads/t1", {"name": name, "archived": True})
    assert (answer.status, answer.json()["error"]) == (400, "Invalid name")
    assert await ids(client) == ["t1"], "nothing of it is done"


@pytest.mark.parametrize("archived", [1, 0, "true", "", [], {}])
async def test_archived_must_be_true_or_false(archived: Any, memory_factory: MemoryFactory) -> None:
    client = client_of(memory_factory(), {"default": AGENT})
    await ran(client, "t1")
    answer = await client.send("PATCH", "/threads/t1", {"name": "x", "archived": archived})
    assert (answer.status, answer.json()["error"]) == (400, "Invalid archived")
    assert (await client.get("/threads")).json()["threads"][0]["name"] is None, "nothing of it is done"


@pytest.mark.parametrize(
    ("method", "path"),
    [*CHANGES, ("GET", "/threads/t1/messages"), ("GET", "/threads/t1/events"), ("GET", "/threads/t1/state")],
)
async def test_an_unknown_thread(method: str, path: str, runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT})
    await ran(client, "t2")
    answer = await client.send(method, path, None if method == "GET" else {"name": "x", "archived": True})
    assert (answer.status, answer.json()) == (404, MISSING)
    assert await ids(client) == ["t2"]


async def test_subscriptions_are_refused(memory_factory: MemoryFactory) -> None:
    answer: Answer = await client_of(memory_factory(), {"default": AGENT}).post("/threads/subscribe", {})
    assert (answer.status, answer.json()) == (422, {"error": "Thread subscriptions are not available"})


async def test_messages_are_the_fold_of_a_replay(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT})
    for n in range(3):
        await client.post("/agent/default/run", make_input(run=f"r{n}", messages=[f"u{n}"]))
    replay = fold((await client.post("/agent/default/connect", make_input(run="c"))).events())
    shown = (await client.get("/threads/t1/messages")).json()["messages"]
    assert [message["id"] for message in shown] == [message["id"] for message in replay.messages]
    assert (await client.get("/threads/t1/state")).json()["state"] == replay.state
