"""The 7 tests of the reference's SQLite runner."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

from support.agents import Gate, agent_with, scripted_agent
from support.events import event_types, run_finished, run_started, text_message
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import SqliteAgentRunner

    Factory = Callable[..., SqliteAgentRunner]

SAID = ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "RUN_FINISHED"]


def ids(event: dict[str, Any]) -> list[str]:
    return [message["id"] for message in event["input"]["messages"]]


async def test_emits_run_started_and_agent_events(sqlite_factory: Factory) -> None:
    stream = await sqlite_factory().run(agent_with(*text_message("m1", "Hello")), make_input())
    assert event_types(await collect(stream)) == SAID


async def test_attaches_only_new_messages_on_subsequent_runs(sqlite_factory: Factory) -> None:
    runner = sqlite_factory()
    await collect(await runner.run(agent_with(), make_input(run="r1", messages=["existing"])))
    second = await collect(await runner.run(agent_with(), make_input(run="r2", messages=["existing", "new"])))
    assert ids(second[0]) == ["new"]
    with closing(sqlite3.connect(runner.path)) as db:
        rows = db.execute("SELECT run_id, parent_run_id, events, input FROM agent_runs ORDER BY id").fetchall()
    assert [(run, parent, ids(json.loads(events)[0])) for run, parent, events, _ in rows] == [
        ("r1", None, ["existing"]),
        ("r2", "r1", ["new"]),
    ]
    assert [m["id"] for m in json.loads(rows[1][3])["messages"]] == ["existing", "new"]


async def test_preserves_agent_provided_input(sqlite_factory: Factory) -> None:
    own = make_input(messages=["of-the-agent"], state={"own": True})
    agent = scripted_agent([run_started(input=own), run_finished()])
    events = await collect(await sqlite_factory().run(agent, make_input(messages=["of-the-request"])))
    assert events == [run_started(input=own), run_finished()]


async def test_persists_events_across_runner_instances(sqlite_factory: Factory) -> None:
    first = sqlite_factory()
    await collect(await first.run(agent_with(*text_message("m1", "Hello")), make_input()))
    await first.aclose()
    assert event_types(await collect(await sqlite_factory().connect("t1"))) == SAID


async def test_returns_false_when_stopping_a_thread_that_is_not_running(sqlite_factory: Factory) -> None:
    assert await sqlite_factory().stop("nowhere") is False


async def test_stops_an_active_run_and_completes_streams(sqlite_factory: Factory) -> None:
    runner = sqlite_factory()
    gate = Gate(text_message("m1", "Hello")[:2])
    stream = await runner.run(gate, make_input())
    reader = await runner.connect("t1")
    await gate.reached.wait()
    assert await runner.is_running("t1") is True
    assert await runner.stop("t1") is True
    for events in (await collect(stream), await collect(reader)):
        assert events[-1] == run_finished()
    assert await runner.is_running("t1") is False
    assert gate.cancelled


async def test_closes_open_text_and_tool_events_when_stopping(sqlite_factory: Factory) -> None:
    runner = sqlite_factory()
    call = {"type": "TOOL_CALL_START", "toolCallId": "c1", "toolCallName": "search"}
    gate = Gate([text_message("m1", "Hello")[0], call])
    stream = await runner.run(gate, make_input())
    await gate.reached.wait()
    assert await runner.stop("t1")
    events = await collect(stream)
    assert event_types(events)[-5:] == [
        "TEXT_MESSAGE_END", "TOOL_CALL_ARGS", "TOOL_CALL_END", "TOOL_CALL_RESULT", "RUN_FINISHED",
    ]  # fmt: skip
    assert json.loads(events[-2]["content"])["status"] == "stopped"
