"""The server driven by the published clients: @ag-ui/client 1.0.0, and @copilotkit/core 1.75.0 on 0.0.59."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from agentrunner import AgentRunner, InMemoryAgentRunner, SqliteAgentRunner
from agentrunner.server import create_app
from support.agents import agent_with
from support.copilotkit import BARE, KINDS, PROXIED, Client, Gate, Node, Refused, Stage, ThreadList, fine
from support.events import run_finished, text_message, tool_call
from support.inputs import make_input
from support.nodejs import needs_node
from support.paths import child_environment
from support.serving import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from ag_ui.core import RunAgentInput

pytestmark = needs_node

TRANSPORTS = ("rest", "single", "auto")
each_kind = pytest.mark.parametrize("kind", KINDS)
each_proxied = pytest.mark.parametrize("kind", PROXIED)


class Spy:
    """An app that remembers what it was asked."""

    def __init__(self, app: Any) -> None:
        self.state = app.state
        self._app = app
        self._asked: list[tuple[str, str, Any]] = []
        self._more = threading.Condition()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""

        async def heard() -> Any:
            nonlocal body
            message = await receive()
            if message["type"] == "http.request":
                body += message.get("body", b"")
                if not message.get("more_body"):
                    with self._more:
                        path = scope["raw_path"].decode()
                        self._asked.append((scope["method"], path, json.loads(body) if body else None))
                        self._more.notify_all()
            return message

        await self._app(scope, heard, send)

    def bodies(self, part: str) -> list[Any]:
        """Give the bodies posted whose path or content has a text."""
        return [body for _, path, body in self._asked if part in path or part in json.dumps(body)]

    def wait(self, part: str, count: int) -> None:
        """Wait until that many such were posted."""
        with self._more:
            assert self._more.wait_for(lambda: len(self.bodies(part)) >= count, 20)


class Served:
    """A server under test, and the agent on it."""

    def __init__(self, url: str, stage: Stage, spy: Spy) -> None:
        self.url, self.stage, self.spy = url, stage, spy


@contextlib.contextmanager
def served_by(runner: AgentRunner, mode: Any = "both", **agents: Any) -> Iterator[Served]:
    stage = Stage()
    spy = Spy(create_app(runner, {"default": stage, **agents}, mode=mode, shutdown_seconds=0.1))
    with serving(spy) as url:
        yield Served(url, stage, spy)


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """The packages; clients and their scripts last as long as the module."""
    node = Node()
    yield node
    node.close()


@pytest.fixture(scope="module", params=["sqlite", "memory"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server on each store."""
    file = tmp_path_factory.mktemp("stock") / "threads.db"
    with served_by(SqliteAgentRunner(file) if request.param == "sqlite" else InMemoryAgentRunner()) as server:
        yield server


@pytest.fixture(scope="module")
def in_memory() -> Iterator[Served]:
    """A server on the store in memory, for what no store makes a difference to."""
    with served_by(InMemoryAgentRunner()) as server:
        yield server


_threads = itertools.count()


@pytest.fixture
def thread() -> str:
    """A thread no other test has, with what a URL has to encode."""
    return f"thread/ü {next(_threads)}%"


def reasoning(message: str, *deltas: str) -> list[dict[str, Any]]:
    return [
        {"type": "REASONING_START", "messageId": message},
        {"type": "REASONING_MESSAGE_START", "messageId": message, "role": "reasoning"},
        *({"type": "REASONING_MESSAGE_CONTENT", "messageId": message, "delta": delta} for delta in deltas),
        {"type": "REASONING_MESSAGE_END", "messageId": message},
        {"type": "REASONING_END", "messageId": message},
    ]


def everything(n: int) -> list[dict[str, Any]]:
    """Give one of each kind a client makes something of; `n` keeps the ids of runs apart."""
    return [
        {"type": "STEP_STARTED", "stepName": "plan"},
        *reasoning(f"think{n}", "let me ", "see"),
        {"type": "STEP_FINISHED", "stepName": "plan"},
        *text_message(f"say{n}", "Hel", "lo"),
        *tool_call(f"call{n}", "book", '{"n":', "1}", result="booked"),
        {"type": "STATE_SNAPSHOT", "snapshot": {"run": n, "seats": [1]}},
        {"type": "STATE_DELTA", "delta": [{"op": "add", "path": "/seats/-", "value": 2}]},
        {"type": "ACTIVITY_SNAPSHOT", "messageId": f"act{n}", "activityType": "PLAN", "content": {"done": 0}},
        {
            "type": "ACTIVITY_DELTA", "messageId": f"act{n}", "activityType": "PLAN",
            "patch": [{"op": "replace", "path": "/done", "value": 1}],
        },
        {"type": "CUSTOM", "name": "note", "value": {"any": None}},
        *text_message(f"end{n}", "Good", "bye"),
    ]  # fmt: skip


def told(n: int) -> list[dict[str, Any]]:
    """Give the messages that `everything(n)` is to a client."""
    call = {"id": f"call{n}", "type": "function", "function": {"name": "book", "arguments": '{"n":1}'}}
    return [
        {"id": f"think{n}", "role": "reasoning", "content": "let me see"},
        {"id": f"say{n}", "role": "assistant", "content": "Hello"},
        {"id": f"call{n}", "role": "assistant", "toolCalls": [call]},
        {"id": f"call{n}-result", "role": "tool", "toolCallId": f"call{n}", "content": "booked"},
        {"id": f"act{n}", "role": "activity", "activityType": "PLAN", "content": {"done": 1}},
        {"id": f"end{n}", "role": "assistant", "content": "Goodbye"},
    ]


def user(message: str) -> dict[str, Any]:
    return {"id": message, "role": "user", "content": message}


def said(*messages: dict[str, Any]) -> list[Any]:
    """Give what messages say, without their ids."""
    return [message.get("content") or message["toolCalls"][0]["function"] for message in messages]


# Run, and connect afterwards


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
    assert client.held == ([user("hi"), *told(1)], {"run": 1, "seats": [1, 2]}, [])
    assert fine(client.run("more"))
    assert client.held == ([user("hi"), *told(1), user("more"), *told(2)], {"run": 2, "seats": [1, 2]}, [])
    # The agent saw what the client had; activities are not for agents, and clients keep them back.
    given = [message.id for message in served.stage.inputs[thread][1].messages]
    assert given == ["hi", "think1", "say1", "call1", "call1-result", "end1", "more"]
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
    assert client.held == ([user("hi"), *told(1)], {"run": 1, "seats": [1, 2]}, [])
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
    assert said(*client.messages) == ["hi", "Hello"]


def test_the_core_moves_between_threads(in_memory, node, thread):
    other = f"{thread} other"
    for name, n in ((thread, 1), (other, 2)):
        in_memory.stage.play(name, *everything(n))
        assert fine(Client(node, "core-rest", in_memory.url, name).run("hi"))
    client = Client(node, "core-auto", in_memory.url, thread)
    for name, n in ((thread, 1), (other, 2), (thread, 1)):
        client.ask("move", threadId=name)
        assert fine(client.connect())
        assert client.held == ([user("hi"), *told(n)], {"run": n, "seats": [1, 2]}, [])


@pytest.mark.parametrize("kind", [kind for kind in PROXIED if kind.startswith("core")])
def test_a_tool_of_the_page_is_called_and_its_result_goes_on(in_memory, node, kind, thread):
    in_memory.stage.play(thread, *text_message("ask", "Which?"), *tool_call("pick", "choose", '{"of":2}'))
    tool = {"name": "choose", "description": "", "answer": "the second"}
    client = Client(node, kind, in_memory.url, thread, tools=[tool])
    assert fine(client.run("hi"))
    first, second = in_memory.stage.inputs[thread]
    assert [tool.name for tool in first.tools] == ["choose"]
    assert said(*client.messages) == [
        "hi", "Which?", {"name": "choose", "arguments": '{"of":2}'}, "the second", "Hello",
    ]  # fmt: skip
    assert second.messages[-1].content == "the second"
    fresh = Client(node, kind, in_memory.url, thread)
    assert fine(fresh.connect())
    assert fresh.held == client.held


# Stop


@each_proxied
def test_a_client_stops_its_own_run(served, node, kind, thread):
    gate = Gate()
    served.stage.play(thread, *text_message("m1", "Hel")[:2], gate)
    client = Client(node, kind, served.url, thread)
    run = client.running("hi")
    client.until("Hel")
    client.stop()
    seen = run.join()
    assert fine(seen)
    assert gate.cancelled.is_set()
    assert seen["types"][-1] == "RUN_FINISHED"
    [asked] = [body for body in served.spy.bodies("stop") if thread in json.dumps(body, ensure_ascii=False)] or [
        served.spy.bodies("/stop/")[-1]
    ]
    # In an envelope, or alone: only this very run was asked to stop.
    assert asked.get("body", asked) == {"runId": served.stage.inputs[thread][0].run_id}
    assert said(*client.messages) == ["hi", "Hel"]
    assert fine(client.run("again"))
    fresh = Client(node, kind, served.url, thread)
    assert fine(fresh.connect())
    assert said(*fresh.messages) == ["hi", "Hel", "again", "Hello"]
    assert fresh.held == client.held


@each_proxied
def test_a_reader_stops_whatever_runs_on_the_thread(served, node, kind, thread):
    gate = Gate()
    served.stage.play(thread, *text_message("m1", "Hel")[:2], gate)
    client = Client(node, kind, served.url, thread)
    run = client.running("hi")
    reader = Client(node, kind, served.url, thread)
    gate.wait()
    connect = reader.connecting()
    reader.until("Hel")
    reader.stop()
    assert fine(run.join(), connect.join())
    assert gate.cancelled.is_set()
    assert reader.held == client.held
    assert fine(reader.run("again"))
    assert said(*reader.messages) == ["hi", "Hel", "again", "Hello"]


@each_proxied
def test_a_stop_where_nothing_runs_does_nothing(in_memory, node, kind, thread):
    client = Client(node, kind, in_memory.url, thread)
    assert fine(client.run("hi"))
    client.stop()
    assert fine(client.run("again"))
    assert said(*client.messages) == ["hi", "Hello", "again", "Hello"]


@pytest.mark.parametrize("kind", BARE)
def test_a_bare_client_that_aborts_only_leaves(served, node, kind, thread):
    gate = Gate()
    served.stage.play(thread, *text_message("m1", "Hel")[:2], gate, *text_message("m1", "lo")[1:])
    client = Client(node, kind, served.url, thread)
    run = client.running("hi")
    client.until("Hel")
    client.stop()
    assert "refused" not in run.join()
    reader = Client(node, kind, served.url, thread)
    connect = reader.connecting()
    reader.until("Hel")
    gate.open()
    assert fine(connect.join())
    assert not gate.cancelled.is_set()
    assert said(*reader.messages) == ["hi", "Hello"]


# Reconnect


@each_kind
def test_a_reconnect_doubles_nothing(served, node, kind, thread):
    served.stage.play(thread, *everything(1))
    served.stage.play(thread, *everything(2))
    client = Client(node, kind, served.url, thread)
    assert fine(client.run("hi"))
    # The one that ran, then again; and with a run in between that it did not see.
    for _ in range(2):
        assert fine(client.connect())
        assert client.held == ([user("hi"), *told(1)], {"run": 1, "seats": [1, 2]}, [])
    other = Client(node, kind, served.url, thread)
    assert fine(other.connect(), other.run("more"))
    for _ in range(2):
        assert fine(client.connect())
        assert client.held == other.held
        assert client.held == ([user("hi"), *told(1), user("more"), *told(2)], {"run": 2, "seats": [1, 2]}, [])


@pytest.mark.parametrize("reader_kind", ["its own", "fresh"])
@each_kind
def test_a_reconnect_during_a_run_doubles_nothing(served, node, kind, reader_kind, thread):
    """Cut off within reasoning, text, arguments, behind the result, and come back."""
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
        given = event.get("delta") or event.get("snapshot") or event.get("content")
        reader.until(given if isinstance(given, str) else json.dumps(given, separators=(",", ":")))
        reader.ask("detach")
        under_way.join()
        under_way = reader.connecting()
        gate.open()
    assert fine(under_way.join())
    assert reader.held == ([user("hi"), *told(1)], {"run": 1, "seats": [1, 2]}, [])
    if reader is not client:
        assert fine(run.join())
        assert client.held == reader.held


# Two at once


BUSY = 'HTTP 409: {"error":"Thread lock denied","code":"agent_thread_locked","message":"Thread already running"}'


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
        assert seen["reported"][-1] == ["agent_run_failed", BUSY]
    else:
        assert seen["refused"] == BUSY
        assert seen["status"] == 409
        assert seen["payload"] == json.loads(BUSY.removeprefix("HTTP 409: "))
    assert not gate.cancelled.is_set()
    gate.open()
    assert fine(run.join())
    # The message is still the client's: its next run carries it.
    assert fine(other.run("please"))
    assert [message.id for message in served.stage.inputs[thread][-1].messages] == ["me too", "please"]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("core")])
def test_what_only_the_client_has_survives_a_reconnect(in_memory, node, kind, thread):
    """A message whose run was refused, in the middle of a chat that went on elsewhere; the core begins with none."""
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
    assert sorted(said(*client.messages)) == ["Hello", "hi", "me too", "more"]
    assert said(*client.messages)[:3] == ["hi", "Hello", "me too"]


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
            assert said(*client.messages) == ["hi", "first"]
            assert said(*other.messages) == [f"me too, {kind}", "second"]
            fresh = Client(node, kind, server.url, kind)
            assert fine(fresh.connect())
            assert said(*fresh.messages) == ["hi", "first", f"me too, {kind}", "second"]


# What goes wrong


@each_kind
def test_an_error_of_the_agent_arrives_and_the_thread_goes_on(served, node, kind, thread):
    served.stage.play(thread, *text_message("m1", "Hel")[:2], ValueError("the model is out of tea"))
    client = Client(node, kind, served.url, thread)
    seen = client.run("hi")
    [[message, _]] = seen["runErrors"]
    assert message == "the model is out of tea"
    assert said(*client.messages) == ["hi", "Hel"]
    assert "refused" not in client.run("again")
    assert said(*client.messages) == ["hi", "Hel", "again", "Hello"]
    for other in {kind, *BARE}:
        fresh = Client(node, other, served.url, thread)
        seen = fresh.connect()
        assert seen["types"][-1] == "RUN_FINISHED"
        assert seen["runErrors"] == [[message, seen["runErrors"][0][1]]]
        assert fresh.held == client.held


ODD = {
    "an outcome it does not know": [run_finished("", "", outcome={"type": "cancelled"})],
    "calls left open": [
        *tool_call("call", "ask", "{}"),
        run_finished("", "", outcome={"type": "success", "pendingToolCallIds": ["call"]}),
    ],
    "a kind it does not know": [
        {"type": "WEATHER_REPORT", "sunny": True}, *text_message("m1", "behind"),
        {"type": "SUBAGENT_STARTED", "subagentRunId": "s", "name": "helper", "input": {"of": "tomorrow"}},
        {"type": "SUBAGENT_FINISHED", "subagentRunId": "s"}, *text_message("m2", "behind it"),
    ],
    "null for what is left out": [
        {"type": "TEXT_MESSAGE_START", "messageId": "m1", "role": "assistant", "timestamp": None, "rawEvent": None},
        *text_message("m1", "behind")[1:],
        {"type": "TOOL_CALL_START", "toolCallId": "call", "toolCallName": "ask", "parentMessageId": None},
        *tool_call("call", "ask", "{}")[1:],
        {"type": "TOOL_CALL_RESULT", "toolCallId": "call", "messageId": "r", "content": "so", "role": None},
        {"type": "STATE_SNAPSHOT", "snapshot": {"null": None}, "timestamp": None},
        run_finished("", "", outcome=None, result=None),
    ],
}  # fmt: skip
"""What clients of 0.0.59 cannot read: without the server's help they drop all that comes behind it."""


@pytest.mark.parametrize("odd", ODD)
@each_kind
def test_nothing_cuts_a_client_off(served, node, kind, odd, thread):
    script = [{k: v for k, v in event.items() if k not in ("threadId", "runId")} for event in ODD[odd]]
    served.stage.play(thread, *text_message("before", "Hello"), *script)
    client = Client(node, kind, served.url, thread)
    seen = client.run("hi")
    assert fine(seen)
    assert seen["types"][-1] == "RUN_FINISHED"
    texts = [event["messageId"] for event in script if event["type"] == "TEXT_MESSAGE_START"]
    held = client.messages
    assert [message["id"] for message in held if message["role"] == "assistant" and "content" in message] == [
        "before", *texts,
    ]  # fmt: skip
    calls = [call["id"] for message in held for call in message.get("toolCalls", [])]
    assert calls == [event["toolCallId"] for event in script if event["type"] == "TOOL_CALL_START"]
    if odd.startswith("null"):
        assert client.view()["state"] == {"null": None}
    assert fine(client.run("again"))
    # The whole thread comes through a replay as well, with whatever stands behind it.
    fresh = Client(node, kind, served.url, thread)
    assert fine(fresh.connect())
    assert fresh.held == client.held
    assert said(fresh.messages[-1]) == ["Hello"]


# Interrupts


ASKED = {"id": "i1", "reason": "confirmation", "message": "Book it?", "metadata": {"seats": 2}}
ANSWER = [{"interruptId": "i1", "status": "resolved", "payload": {"approved": True}}]
ASKING = (
    *text_message("ask", "May I?"),
    {"type": "RUN_FINISHED", "outcome": {"type": "interrupt", "interrupts": [ASKED]}},
)


@each_kind
def test_an_interrupt_is_pending_until_it_is_answered(served, node, kind, thread):
    served.stage.play(thread, *ASKING)
    client = Client(node, kind, served.url, thread)
    seen = client.run("hi")
    assert fine(seen)
    assert seen["outcomes"] == ["interrupt"]
    assert client.view()["pendingInterrupts"] == [ASKED]

    reloaded = Client(node, kind, served.url, thread)
    assert fine(reloaded.connect())
    assert reloaded.held == client.held
    if not kind.startswith("core"):
        # Back with its messages, as after a lost connection; the core's agents begin with none.
        back = Client(node, kind, served.url, thread, initialMessages=client.messages)
        assert fine(back.connect())
        assert back.held == client.held

    # An answer that fails leaves it pending, for who answered and for who comes.
    served.stage.play(thread, ValueError("the restaurant does not answer"))
    assert reloaded.run(resume=ANSWER)["runErrors"]
    assert reloaded.view()["pendingInterrupts"] == [ASKED]
    fresh = Client(node, kind, served.url, thread)
    assert fresh.connect()["outcomes"] == ["interrupt"]
    assert fresh.view()["pendingInterrupts"] == [ASKED]

    # While the answer is worked on it is offered to nobody, nor afterwards.
    gate = Gate()
    served.stage.play(thread, *text_message("done", "Book")[:2], gate, *text_message("done", "ed")[1:])
    run = reloaded.running(resume=ANSWER)
    gate.wait()
    watching = Client(node, kind, served.url, thread)
    connect = watching.connecting()
    watching.until("Book")
    assert watching.view()["pendingInterrupts"] == []
    gate.open()
    seen = [run.join(), connect.join()]
    assert all("refused" not in one for one in seen)
    assert seen[0]["outcomes"] == [None]
    assert "interrupt" not in seen[1]["outcomes"]
    [entry] = served.stage.inputs[thread][-1].resume
    assert (entry.interrupt_id, entry.status, entry.payload) == ("i1", "resolved", {"approved": True})

    last = Client(node, kind, served.url, thread)
    seen = last.connect()
    assert seen["outcomes"] == [None, None]
    assert said(*last.messages) == ["hi", "May I?", "Booked"]
    assert last.held == watching.held == reloaded.held
    assert fine(last.run("thanks"))


@each_kind
def test_a_second_question_is_the_one_that_is_pending(in_memory, node, kind, thread):
    second = ASKED | {"id": "i2", "message": "And a taxi?"}
    in_memory.stage.play(thread, *ASKING)
    in_memory.stage.play(thread, {"type": "RUN_FINISHED", "outcome": {"type": "interrupt", "interrupts": [second]}})
    client = Client(node, kind, in_memory.url, thread)
    assert fine(client.run("hi"), client.run(resume=ANSWER))
    assert client.view()["pendingInterrupts"] == [second]
    fresh = Client(node, kind, in_memory.url, thread)
    seen = fresh.connect()
    assert fine(seen)
    assert seen["outcomes"] == [None, "interrupt"]
    assert fresh.held == client.held
    cancelled = [{"interruptId": "i2", "status": "cancelled"}]
    assert fine(fresh.run(resume=cancelled))
    assert in_memory.stage.inputs[thread][-1].resume[0].status == "cancelled"
    assert fresh.view()["pendingInterrupts"] == []


@pytest.mark.parametrize("kind", ["core-rest", "core-single"])
def test_an_answer_under_the_id_of_the_run_that_asked(in_memory, node, kind, thread):
    """So the stock `useInterrupt` sends it."""
    in_memory.stage.play(thread, *ASKING)
    client = Client(node, kind, in_memory.url, thread)
    assert fine(client.run("hi"))
    asked = in_memory.stage.inputs[thread][0].run_id
    assert fine(client.run(resume=ANSWER, runId=asked))
    assert said(*client.messages) == ["hi", "May I?", "Hello"]
    fresh = Client(node, kind, in_memory.url, thread)
    assert fine(fresh.connect())
    assert fresh.held == client.held


# The list of threads


def fill(server: Served, mode: str, count: int) -> set[str]:
    """Run once on each of so many threads; give their ids."""
    names = [f"t/ü {n}" for n in range(count)]
    with httpx.Client(base_url=server.url) as client:
        for name in names:
            body = make_input(name, f"{name}-run", ["hi"])
            if mode == "single-route":
                asked = {"method": "agent/run", "params": {"agentId": "default"}, "body": body}
                assert client.post("/", json=asked).status_code == 200
            else:
                assert client.post("/agent/default/run", json=body).status_code == 200
    return set(names)


@pytest.mark.parametrize("store", ["sqlite", "memory"])
@pytest.mark.parametrize(
    ("mode", "transport", "found"),
    [
        ("both", "rest", "rest"), ("both", "single", "single"), ("both", "auto", "rest"),
        ("multi-route", "auto", "rest"), ("single-route", "auto", "single"),
    ],
)  # fmt: skip
def test_the_thread_list(node, store, mode, transport, found, tmp_path):
    runner = SqliteAgentRunner(tmp_path / "t.db") if store == "sqlite" else InMemoryAgentRunner()
    with served_by(runner, mode) as server:
        filled = fill(server, mode, 45)
        # As one page, in the server's order: what was used in the same millisecond the store sorts by id.
        names = [thread["id"] for thread in ThreadList(node, server.url, transport, limit=100).shown()["threads"]]
        assert len(names) == 45
        assert set(names) == filled
        listed = ThreadList(node, server.url, transport)
        assert listed.info["transport"] == found
        # By these the hooks decide whether there is a list, and whether it can be changed.
        assert listed.info["endpoints"] == {"list": True, "inspect": True, "mutations": True, "realtimeMetadata": False}

        def ids() -> list[str]:
            return [thread["id"] for thread in listed.shown()["threads"]]

        assert ids() == names[:20]
        assert listed.shown()["more"]
        listed.do("fetchNextPage")
        assert ids() == names[:40]
        shown = listed.do("fetchNextPage")
        assert ids() == names
        assert not shown["more"]
        assert not shown.get("error")
        assert not shown.get("fetchMoreError")

        def others_see() -> dict[str, tuple[Any, Any]]:
            threads = ThreadList(node, server.url, transport, limit=100).shown()["threads"]
            return {thread["id"]: (thread["name"], thread["archived"]) for thread in threads}

        untouched = dict.fromkeys(names, (None, False))
        name = names[30]
        listed.do("renameThread", name, "Grüße")
        assert others_see() == untouched | {name: ("Grüße", False)}
        listed.do("archiveThread", name)
        assert others_see() == untouched | {name: ("Grüße", True)}
        assert name in ids()
        active = ThreadList(node, server.url, transport, limit=100, includeArchived=False).shown()["threads"]
        assert {thread["id"] for thread in active} == {*names} - {name}
        listed.do("unarchiveThread", name)
        assert others_see() == untouched | {name: ("Grüße", False)}
        listed.do("deleteThread", name)
        assert name not in ids()
        del untouched[name]
        assert others_see() == untouched
        # What was deleted is empty for a client, and its id free for another chat.
        client = Client(node, f"core-{transport}", server.url, name)
        assert client.connect()["types"] == []
        assert fine(client.run("anew"))
        assert said(*client.messages) == ["anew", "Hello"]
        listed.do("refetchThreads")
        assert ids()[0] == name


@pytest.mark.parametrize("transport", ["rest", "single"])
def test_a_running_thread_is_not_deleted_and_the_list_shows_it_again(node, transport):
    gate = Gate()
    with served_by(InMemoryAgentRunner()) as server:
        server.stage.play("busy", gate)
        client = Client(node, f"proxied-{transport}", server.url, "busy")
        run = client.running("hi")
        gate.wait()
        listed = ThreadList(node, server.url, transport)
        with pytest.raises(Refused, match="Request failed: 409"):
            listed.do("deleteThread", "busy")
        assert [thread["id"] for thread in listed.shown()["threads"]] == ["busy"]
        gate.open()
        assert fine(run.join())
        assert listed.do("deleteThread", "busy")["threads"] == []


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
            assert said(*fresh.messages) == ["hi", "Hello"]
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
    """As in somebody's own app; the URL is given with a slash at its end or without."""
    stage = Stage()
    app = create_app(InMemoryAgentRunner(), {"default": stage}, mode="both")
    outer = Starlette(routes=[Mount("/api/copilotkit", app=app)], lifespan=app.router.lifespan_context)
    with serving(outer) as url:
        for kind in PROXIED:
            client = Client(node, kind, f"{url}/api/copilotkit{slash}", kind)
            assert fine(client.run("hi"))
            fresh = Client(node, kind, f"{url}/api/copilotkit{slash}", kind)
            assert fine(fresh.connect())
            assert said(*fresh.messages) == ["hi", "Hello"]


@pytest.mark.parametrize("plain", ["", "/", "/default"])
@pytest.mark.parametrize("kind", BARE)
def test_a_bare_client_runs_as_on_any_ag_ui_server(in_memory, node, kind, plain, thread):
    client = Client(node, kind, in_memory.url, thread, plain=plain)
    assert fine(client.run("hi"), client.run("more"))
    assert said(*client.messages) == ["hi", "Hello", "more", "Hello"]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_suggestions(node, transport):
    async def agent(input: RunAgentInput) -> AsyncIterator[dict[str, Any]]:
        asked = [tool.name for tool in input.tools]
        args = json.dumps({"suggestions": [{"title": "More", "message": f"than {len(input.messages) - 1}"}]})
        made = tool_call("c", "copilotkitSuggest", args[:9], args[9:])
        events = made if asked == ["copilotkitSuggest"] else text_message("m", "Hello")
        async for event in agent_with(*events)(input):
            yield event

    with served_by(InMemoryAgentRunner(), default=agent) as server:
        assert fine(Client(node, f"core-{transport}", server.url, "chat").run("hi"))
        question = {"op": "suggestions", "url": server.url, "transport": transport, "threadId": "chat"}
        assert node.ask("core", question) == [{"title": "More", "message": "than 2", "isLoading": False}]
        shown = [thread["id"] for thread in ThreadList(node, server.url, transport).shown()["threads"]]
        if transport != "single":
            assert shown == ["chat"]
        # Over the single route the core asks by a run on a thread of its own.
        assert len(shown) == (2 if transport == "single" else 1)


# Agents of real frameworks


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
        assert said(*client.messages)[-1] == "It is sunny in Porto"
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
    [asked] = client.view()["pendingInterrupts"]
    assert "Order milk?" in json.dumps(asked)

    fresh = Client(node, kind, real.url, thread, "langgraph")
    assert fine(fresh.connect())
    assert fresh.held == client.held
    answer = [{"interruptId": asked["id"], "status": "resolved", "payload": {"approved": approved}}]
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


@pytest.mark.filterwarnings("ignore:.*get_config_jsonschema")
def test_langgraph_runs_do_not_meet(real, node, thread):
    clients = {item: Client(node, "http-1.0.0", real.url, f"{thread} {item}", "langgraph") for item in "abcdef"}
    assert fine(*(run.join() for run in [client.running(item) for item, client in clients.items()]))
    answers = []
    for client in clients.values():
        [asked] = client.view()["pendingInterrupts"]
        answers.append([{"interruptId": asked["id"], "status": "resolved", "payload": {"approved": True}}])
    runs = [client.running(resume=answer) for client, answer in zip(clients.values(), answers, strict=True)]
    assert fine(*(run.join() for run in runs))
    for item, client in clients.items():
        assert [one.get("content") for one in client.messages][2:] == [f"{item} ordered", f"Done: {item} ordered"]


# The server ends and comes back


@each_kind
def test_another_server_on_the_file_serves_the_thread(node, kind, tmp_path):
    with served_by(SqliteAgentRunner(tmp_path / "t.db")) as server:
        server.stage.play("t", *everything(1), ASKING[-1])
        client = Client(node, kind, server.url, "t")
        assert fine(client.run("hi"))
    with served_by(SqliteAgentRunner(tmp_path / "t.db")) as server:
        fresh = Client(node, kind, server.url, "t")
        assert fine(fresh.connect())
        assert fresh.held == client.held
        assert fresh.view()["pendingInterrupts"] == [ASKED]
        server.stage.play("t", *everything(2))
        assert fine(fresh.run(resume=ANSWER))
        assert fresh.messages == [user("hi"), *told(1), *told(2)]


def test_a_live_run_is_ended_and_its_readers_told(node, tmp_path):
    gate = Gate()
    with served_by(SqliteAgentRunner(tmp_path / "t.db")) as server:
        server.stage.play("t", *text_message("m1", "Hel")[:2], gate)
        clients = [Client(node, kind, server.url, "t") for kind in ("proxied-rest", *BARE)]
        under_way = [clients[0].running("hi")]
        gate.wait()
        under_way += [client.connecting() for client in clients[1:]]
        for client in clients:
            client.until("Hel")
    for client, work in zip(clients, under_way, strict=True):
        [[message, code]] = work.join()["runErrors"]
        assert code == "INTERRUPTED", (client.kind, message)
        assert said(*client.messages) == ["hi", "Hel"]


HUNG = """
import sys
from agentrunner import SqliteAgentRunner
from agentrunner.server import create_app
from support.events import text_message
from support.paths import child_environment
from support.serving import serving
from support.copilotkit import Gate, Stage

stage = Stage()
for thread in sys.argv[2:]:
    stage.play(thread, *text_message("m1", "Hel")[:2], Gate())
with serving(create_app(SqliteAgentRunner(sys.argv[1]), {"default": stage}, mode="both")) as url:
    print(url, flush=True)
    sys.stdin.read()
"""


def test_a_killed_server_leaves_a_run_that_was_interrupted(node, tmp_path):
    file = tmp_path / "t.db"
    child = subprocess.Popen(
        [sys.executable, "-c", HUNG, file, *KINDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=child_environment(),
    )  # fmt: skip
    with child:
        url = child.stdout.readline().strip()
        clients = {kind: Client(node, kind, url, kind) for kind in KINDS}
        runs = {kind: client.running("hi") for kind, client in clients.items()}
        for client in clients.values():
            client.until("Hel")
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    for kind, run in runs.items():
        # A connection that breaks is no end of a run.
        seen = run.join()
        assert "refused" in seen or seen["reported"], kind
        assert seen["types"][-1] == "TEXT_MESSAGE_CONTENT"
    with served_by(SqliteAgentRunner(file)) as server:
        for kind in KINDS:
            fresh = Client(node, kind, server.url, kind)
            [[_, code]] = fresh.connect()["runErrors"]
            assert code == "INTERRUPTED"
            assert said(*fresh.messages) == ["hi", "Hel"]
            back = clients[kind]
            if not kind.startswith("core"):
                # The page that was open all the time comes back with its messages.
                back = Client(node, kind, server.url, kind, initialMessages=back.messages)
                assert [code for _, code in back.connect()["runErrors"]] == ["INTERRUPTED"]
                assert back.messages == fresh.messages
            assert "refused" not in fresh.run("again")
            assert said(*fresh.messages) == ["hi", "Hel", "again", "Hello"]
