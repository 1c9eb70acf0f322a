"""What is refused, with a typed error and nothing written; and what is kept exactly though it looks odd."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import (
    AgentRunner,
    InvalidCursor,
    InvalidInput,
    SqliteAgentRunner,
    StoreCorrupt,
    StoreError,
    StoreTooNew,
)
from support.agents import agent_with, scripted_agent
from support.events import event_types, run_finished, run_started, text_message
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def nested(depth: int) -> dict[str, Any]:
    """Give an event so many levels deep, its own object counted."""
    value: Any = 1
    for _ in range(depth - 1):
        value = [value]
    return {"type": "CUSTOM", "name": "deep", "value": value}


async def unharmed(runner: AgentRunner) -> None:
    """Check that another thread, run before, is as it was and goes on."""
    assert [thread.thread_id for thread in await runner.threads.list()] == ["other"]
    assert event_types(await runner.threads.events("other")) == [
        "RUN_STARTED",
        *event_types(text_message("m", "x")),
        "RUN_FINISHED",
    ]
    await collect(await runner.run(agent_with(), make_input("other", "o2")))


# Inputs

INPUTS: dict[str, Any] = {
    "no input": None,
    "a list": [make_input()],
    "a number": 7,
    "text": "t1",
    "empty": {},
    "no thread": {k: v for k, v in make_input().items() if k != "threadId"},
    "no run": {k: v for k, v in make_input().items() if k != "runId"},
    "empty thread": make_input(thread=""),
    "empty run": make_input(run=""),
    "long thread": make_input(thread="x" * 1025),
    "long run": make_input(run="é" * 513),
    "long message id": make_input(messages=["m" * 1025]),
    "empty message id": make_input(messages=[{"id": "", "role": "user", "content": "x"}]),
    "thread of another type": {**make_input(), "threadId": 1},
    "surrogate thread": make_input(thread="\ud800"),
    "surrogate run": make_input(run="r\udfff"),
    "surrogate message id": make_input(messages=["\ud800"]),
    "NaN": make_input(state={"n": float("nan")}),
    "infinity": make_input(forwardedProps={"n": float("inf")}),
    "bytes that are no text": make_input(state={"n": b"\xff"}),
    "an object": make_input(state={"n": object()}),
    "messages of another type": make_input(state={}, tools=7),
}


@pytest.mark.parametrize("given", INPUTS.values(), ids=INPUTS.keys())
async def test_an_input_is_refused_and_nothing_is_written(runner: AgentRunner, given: Any) -> None:
    await collect(await runner.run(agent_with(*text_message("m", "x")), make_input("other", "o1")))
    asked = []

    async def agent(input: Any) -> Any:
        asked.append(input)
        yield run_started()

    with pytest.raises(InvalidInput):
        await runner.run(agent, given)
    assert asked == []
    await unharmed(runner)
    await collect(await runner.run(agent_with(), make_input()))


@pytest.mark.parametrize("name", ["x" * 1024, "é" * 512, "🙂" * 256])
async def test_an_id_of_one_kib_is_not_too_long(runner: AgentRunner, name: str) -> None:
    assert event_types(await collect(await runner.run(agent_with(), make_input(name, f"{name[:-1]}r")))) == [
        "RUN_STARTED",
        "RUN_FINISHED",
    ]
    assert [thread.thread_id for thread in await runner.threads.list()] == [name]


# Cursors


@pytest.mark.parametrize(
    "cursor", ["", ".", "1.", ".1", "1.2.3", "-1", " 1", "1e3", "٣", "9" * 40, "\0", "\ud800", "1\n2"]
)
async def test_a_cursor_that_is_none_is_refused(runner: AgentRunner, cursor: str) -> None:
    await collect(await runner.run(agent_with(), make_input()))
    with pytest.raises(InvalidCursor):
        await runner.connect("t1", after=cursor)


# Events

START = {"type": "TEXT_MESSAGE_START", "role": "assistant"}
EVENTS: dict[str, Any] = {
    "not JSON": b"not json",
    "JSON cut off": b'{"type":"CUSTOM"',
    "two values": b'{"type":"CUSTOM","name":"a","value":1}{}',
    "no bytes": b"",
    "not UTF-8": b'{"type":"CUSTOM","name":"\xff","value":1}',
    "a list": b"[]",
    "a list of events": [run_started()],
    "a string": b'"TEXT"',
    "a number": 5,
    "None": None,
    "an object": object(),
    "no type": {"name": "x"},
    "a type that is no text": {"type": 7},
    "a type that is null": b'{"type":null}',
    "no message id": START,
    "an empty message id": {**START, "messageId": ""},
    "a message id that is no text": {**START, "messageId": 7},
    "a message id over the limit": {**START, "messageId": "x" * 1025},
    "no tool call id": {"type": "TOOL_CALL_START", "toolCallName": "x"},
    "an empty tool call id": {"type": "TOOL_CALL_START", "toolCallName": "x", "toolCallId": ""},
    "NaN": {"type": "CUSTOM", "name": "x", "value": float("nan")},
    "NaN below": {"type": "CUSTOM", "name": "x", "value": {"a": [1, (2, float("nan"))]}},
    "infinity": {"type": "CUSTOM", "name": "x", "value": [float("-inf")]},
    "NaN in JSON": b'{"type":"CUSTOM","name":"x","value":NaN}',
    "too deep": nested(129),
    "far too deep": b'{"type":"CUSTOM","name":"x","value":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "too long": {"type": "CUSTOM", "name": "x", "value": "y" * 2000},
    "a str that cannot be UTF-8": '{"type":"CUSTOM","name":"\ud800","value":1}',
    "a value JSON has no word for": {"type": "CUSTOM", "name": "x", "value": {1, 2}},
}


@pytest.mark.parametrize("event", EVENTS.values(), ids=EVENTS.keys())
async def test_an_event_is_refused_and_what_came_before_is_kept(
    runner_factory: Callable[..., AgentRunner], event: Any
) -> None:
    runner = runner_factory(max_event_bytes=1500 if event is EVENTS["too long"] else 1_000_000)
    await collect(await runner.run(agent_with(*text_message("m", "x")), make_input("other", "o1")))
    agent = scripted_agent(
        [
            run_started(),
            text_message("m1", "kept")[0],
            text_message("m1", "kept")[1],
            event,
            *text_message("late", "never"),
        ]
    )
    events = await collect(await runner.run(agent, make_input()))
    assert event_types(events) == [
        "RUN_STARTED",
        *event_types(text_message("m1", "kept"))[:2],
        "TEXT_MESSAGE_END",
        "RUN_ERROR",
    ]
    assert events[-1]["code"] == "INVALID_EVENT"
    assert events[-1]["message"]
    assert await runner.is_running("t1") is False
    assert await collect(await runner.connect("t1")) == events
    await collect(await runner.run(agent_with(*text_message("m2", "x")), make_input(run="r2")))
    assert [thread.runs for thread in await runner.threads.list()] == [2, 1]
    assert event_types(await runner.threads.events("other"))[-1] == "RUN_FINISHED"


@pytest.mark.parametrize(
    ("before", "event", "rule"),
    [
        ([], text_message("m1", "x")[1], "TEXT_MESSAGE_START"),
        ([], text_message("m1", "x")[2], "TEXT_MESSAGE_START"),
        ([text_message("m1")[0]], text_message("m1")[0], "already"),
        ([], {"type": "TOOL_CALL_ARGS", "toolCallId": "m1", "delta": "{"}, "TOOL_CALL_START"),
        ([], {"type": "TOOL_CALL_END", "toolCallId": "m1"}, "TOOL_CALL_START"),
        ([text_message("m1")[0]], run_finished(), "still active"),
        ([], {"type": "STEP_FINISHED", "stepName": "m1"}, "step"),
        ([{"type": "STEP_STARTED", "stepName": "m1"}], run_finished(), "step"),
        ([], {"type": "REASONING_END", "messageId": "m1"}, "REASONING_START"),
        ([], {"type": "REASONING_MESSAGE_CONTENT", "messageId": "m1", "delta": "x"}, "REASONING_MESSAGE_START"),
        ([], run_started(), "RUN_STARTED"),
        ([], {"type": "SUBAGENT_FINISHED", "subagentRunId": "m1"}, "SUBAGENT"),
        ([], {"type": "TEXT_MESSAGE_CHUNK", "delta": "x"}, "messageId"),
    ],
    ids=str,
)
async def test_an_event_out_of_sequence_ends_the_run_with_the_rule(
    runner: AgentRunner, before: list[Any], event: Any, rule: str
) -> None:
    agent = scripted_agent([run_started(), *before, event, *text_message("late", "never")])
    events = await collect(await runner.run(agent, make_input()))
    assert events[1 : 1 + len(before)] == before
    assert (events[-1]["type"], events[-1]["code"]) == ("RUN_ERROR", "INVALID_EVENT_SEQUENCE")
    assert rule in events[-1]["message"]
    assert event["type"] in events[-1]["message"]
    assert "late" not in json.dumps(events)
    assert await collect(await runner.connect("t1")) == events
    await collect(await runner.run(agent_with(), make_input(run="r2")))


async def test_what_is_no_agent_ends_the_run(runner: AgentRunner, caplog: pytest.LogCaptureFixture) -> None:
    for n, agent in enumerate([lambda _: 7, lambda _: [run_started()], object()]):
        events = await collect(await runner.run(agent, make_input(run=f"r{n}")))
        assert event_types(events) == ["RUN_ERROR"]
    assert "failed" in caplog.text
    await collect(await runner.run(agent_with(), make_input(run="good")))


# Kept exactly

ODD = [
    'quote"s', "back\\slash", "sl/ash/../..", "line\nbreak\r\n", "tab\t\x01", "' OR 1=1; --", "名前", "مرحبا", "🙂",
    " ", "%2e%2e", "data: x\n\n", "<script>", "\u2028", "e\u0301", "\ufeff",
]  # fmt: skip


async def test_an_id_with_a_nul_is_kept_or_refused(runner: AgentRunner) -> None:
    odd = "nul\0id"
    for given in (make_input(odd, "r1"), make_input("t", odd), make_input("m", "r2", messages=[odd])):
        try:
            await collect(await runner.run(agent_with(), given))
        except InvalidInput:
            # PostgreSQL has no text with one.
            assert given["threadId"] not in {thread.thread_id for thread in await runner.threads.list()}
        else:
            started = (await runner.threads.events(given["threadId"]))[0].to_dict()
            assert (started["threadId"], started["runId"]) == (given["threadId"], given["runId"])


@pytest.mark.parametrize("odd", ODD, ids=ascii)
async def test_ids_of_any_script_are_kept(runner: AgentRunner, odd: str) -> None:
    given = make_input(odd, f"run {odd}", messages=[f"message {odd}"])
    events = await collect(await runner.run(agent_with(*text_message(odd, odd)), given))
    assert (events[0]["threadId"], events[0]["runId"]) == (odd, f"run {odd}")
    assert events[1:-1] == text_message(odd, odd)
    assert await collect(await runner.connect(odd)) == events
    assert [m["id"] for m in await runner.threads.messages(odd)] == [f"message {odd}", odd]
    assert [thread.thread_id for thread in await runner.threads.list()] == [odd]
    more = make_input(odd, "r2", messages=[f"message {odd}", "new"])
    assert [m["id"] for m in (await collect(await runner.run(agent_with(), more)))[0]["input"]["messages"]] == ["new"]
    await runner.threads.rename(odd, odd)
    assert (await runner.threads.list())[0].name == odd
    await runner.threads.delete(odd)
    assert await runner.threads.list() == []


KEPT = [
    b'{"type":"CUSTOM","name":"nul","value":"a\\u0000b"}',
    b'{"type":"CUSTOM","name":"half","value":"\\ud83d"}',
    b'{"type":"CUSTOM","name":"null","value":null}',
    b'{"value":1,"zebra":2,"name":"order","apple":{"z":1,"a":2},"type":"CUSTOM"}',
    b'{"type":"CUSTOM","name":"big","value":123456789012345678901234567890}',
    b'{"type":"CUSTOM","name":"exact","value":[1.0,1e2,0.1000,-0.0,1E400]}',
    b'{"type":"CUSTOM","name":"same key twice","value":{"a":1,"a":2}}',
    b'{"type":"CUSTOM","name":"escaped","value":"\\u00e9\\/"}',
    b'{"type":"BRAND_NEW","messageId":"","anything":[{"deep":null}]}',
    b'{"type":"","odd":true}',
    b'{"type":"message","content":"opaque"}',
    b'{"type":"STATE_SNAPSHOT","snapshot":null}',
    json.dumps(nested(100), separators=(",", ":")).encode(),
]


@pytest.mark.parametrize("data", KEPT, ids=lambda data: data[:60].decode())
async def test_an_event_is_kept_byte_for_byte(runner: AgentRunner, data: bytes) -> None:
    live = [bytes(event) async for event in await runner.run(agent_with(data), make_input())]
    assert live[1] == data
    stored = [bytes(event) async for event in await runner.connect("t1")]
    assert stored[1] == data
    assert len(stored) == 3


async def test_halves_of_a_character_join(runner: AgentRunner) -> None:
    one, two = (
        b'{"type":"TEXT_MESSAGE_CONTENT","messageId":"m1","delta":"\\u%s"}' % half for half in (b"d83d", b"de42")
    )
    live = await runner.run(agent_with(text_message("m1")[0], one, two, text_message("m1")[1]), make_input())
    assert [bytes(event) async for event in live][2:4] == [one, two]
    (message,) = await runner.threads.messages("t1")
    assert message["content"] == "🙂"


async def test_a_big_integer_of_a_dict_is_kept(runner: AgentRunner) -> None:
    event = {"type": "CUSTOM", "name": "big", "value": 2**100 + 1}
    seen = (await collect(await runner.run(agent_with(event), make_input())))[1]
    assert repr(seen) == repr(event)


async def test_fields_that_are_none_are_never_written(runner: AgentRunner) -> None:
    from ag_ui.core import CustomEvent, StateSnapshotEvent, TextMessageStartEvent

    start = {**text_message("m1")[0], "timestamp": None, "name": None, "subagentRunId": None, "metadata": None}
    null = json.dumps({**start, "messageId": "m2"}).encode()
    end = [{"type": "TEXT_MESSAGE_END", "messageId": f"m{n}"} for n in (1, 2, 3)]
    model = TextMessageStartEvent(message_id="m3", role="assistant", timestamp=None, name=None)
    kept = [CustomEvent(name="n", value=None), StateSnapshotEvent(snapshot=None)]
    agent = agent_with(start, end[0], null, end[1], model, end[2], *kept)
    events = await collect(await runner.run(agent, make_input()))
    assert events[1:7:2] == [{**text_message("m1")[0], "messageId": f"m{n}"} for n in (1, 2, 3)]
    assert events[7:9] == [
        {"type": "CUSTOM", "name": "n", "value": None},
        {"type": "STATE_SNAPSHOT", "snapshot": None},
    ]
    assert await collect(await runner.connect("t1")) == events


# Files


def test_a_path_must_be_said() -> None:
    for path in (":memory:", ""):
        with pytest.raises(ValueError, match="needs a file"):
            SqliteAgentRunner(path)


async def refused(path: Path, error: type[StoreError]) -> str:
    runner = SqliteAgentRunner(path)
    with pytest.raises(error) as refusal:
        await runner.threads.list()
    assert type(refusal.value) is error
    await runner.aclose()
    return str(refusal.value)


async def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "letter.txt"
    path.write_bytes(b"Dear reader, " * 1000)
    await refused(path, StoreCorrupt)
    assert path.read_bytes() == b"Dear reader, " * 1000


async def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 999")
    assert "999" in await refused(path, StoreTooNew)
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
        assert db.execute("PRAGMA user_version").fetchone() == (999,)


async def test_a_directory_and_a_missing_one_are_refused(tmp_path: Path) -> None:
    assert str(tmp_path) in await refused(tmp_path, StoreError)
    await refused(tmp_path / "missing" / "threads.db", StoreError)
    assert list(tmp_path.iterdir()) == []


FORKS = """
import asyncio, os, sys, traceback
from agentrunner import RunnerClosed, SqliteAgentRunner, SqliteStore, StoreForked

async def refused(verb, refusal):
    try:
        await verb
    except refusal as error:
        print(type(error).__name__, error, flush=True)
    else:
        raise AssertionError("nothing was refused")

def child(loop, store, runner):
    try:
        # On the inherited loop, then on a new one, as `asyncio.run` in the child makes it.
        loop.run_until_complete(refused(runner.threads.list(), StoreForked))
        asyncio.run(refused(store.threads(10, None, False, None, None), StoreForked))
        asyncio.run(refused(runner.threads.list(), RunnerClosed))
        asyncio.run(store.aclose())
        return 7
    except BaseException:
        traceback.print_exc()
        return 9

loop = asyncio.new_event_loop()
store, runner = SqliteStore(sys.argv[1]), SqliteAgentRunner(sys.argv[1])
loop.run_until_complete(store.open())
assert loop.run_until_complete(runner.threads.list()) == []
pid = os.fork()
if pid == 0:
    os._exit(child(loop, store, runner))
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
# The parent's are as good as before.
assert loop.run_until_complete(store.threads(10, None, False, None, None)) == []
assert loop.run_until_complete(runner.threads.list()) == []
loop.run_until_complete(runner.aclose())
loop.run_until_complete(store.aclose())
loop.close()
sys.exit(code)
"""


def test_a_store_is_refused_after_a_fork_and_the_parent_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORKS, str(tmp_path / "threads.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, env=os.environ)
    assert done.returncode == 7, done.stderr
    words = [line.split()[0] for line in done.stdout.splitlines()]
    assert words == ["StoreForked", "StoreForked", "RunnerClosed"]
