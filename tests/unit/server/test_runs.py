"""`run`: what it takes, what it streams, and what goes on when nobody listens."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import current_run
from agentrunner.server import Limits
from support.agents import Gate, agent_with, scripted_agent
from support.asgi import Client, client_of, frames_of
from support.events import event_types, run_started, text_message, tool_call
from support.inputs import make_input

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ag_ui.core import RunAgentInput

    from agentrunner import AgentRunner, InMemoryAgentRunner

    Factory = Callable[..., AgentRunner]
    MemoryFactory = Callable[..., InMemoryAgentRunner]

AGENT = agent_with(*text_message("m1", "hel", "lo"))
STREAM = [
    "RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END",
    "RUN_FINISHED",
]  # fmt: skip
RUN = "/agent/default/run"
LOCKED = {"error": "Thread lock denied", "code": "agent_thread_locked", "message": "Thread already running"}


class Asked:
    """An agent that notes what it was asked."""

    def __init__(self) -> None:
        self.inputs: list[RunAgentInput] = []
        self.headers: list[Any] = []

    async def run(self, input: RunAgentInput) -> AsyncIterator[Any]:
        self.inputs.append(input)
        self.headers.append(dict(current_run().headers))
        async for event in AGENT(input):
            yield event


# The stream


async def test_a_run_is_streamed_as_server_sent_events(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT})
    answer = await client.post(RUN, make_input(messages=["hi"]))
    assert answer.headers == {
        "content-type": "text/event-stream",
        "cache-control": "no-cache",
        "connection": "keep-alive",
        "x-accel-buffering": "no",
    }
    assert event_types(answer.events()) == STREAM
    assert answer.events()[0]["input"] == make_input(messages=["hi"])
    assert [cursor for cursor, _ in answer.frames()] == ["1", "2", "3", "4", "5", "6"]


@pytest.mark.parametrize("http_version", ["1.0", "2"])
async def test_only_http_1_1_keeps_a_connection_by_a_header(http_version: str, memory_factory: MemoryFactory) -> None:
    client = Client(client_of(memory_factory(), {"default": AGENT}).app, http_version=http_version)
    answer = await client.post(RUN, make_input())
    assert "connection" not in answer.headers
    assert event_types(answer.events()) == STREAM


@pytest.mark.parametrize(
    "accept", ["text/event-stream", "*/*", "application/json", "application/vnd.ag-ui.event+proto"]
)
async def test_whatever_is_accepted_it_is_events(accept: str, memory_factory: MemoryFactory) -> None:
    client = client_of(memory_factory(), {"default": AGENT})
    assert event_types((await client.post(RUN, make_input(), headers={"accept": accept})).events()) == STREAM


@pytest.mark.parametrize("content_type", ["application/json", "text/plain", "", "application/xml"])
async def test_a_body_is_json_whatever_it_is_said_to_be(content_type: str, memory_factory: MemoryFactory) -> None:
    client = client_of(memory_factory(), {"default": AGENT})
    assert (
        event_types((await client.post(RUN, make_input(), headers={"content-type": content_type})).events()) == STREAM
    )


async def test_events_come_when_they_happen(runner: AgentRunner) -> None:
    gate = Gate(text_message("m1", "first"), text_message("m2", "second"))
    client = client_of(runner, {"default": gate})
    async with client.open("POST", RUN, make_input()) as run:
        await run.begun()
        so_far = event_types(event for _, event in frames_of(await run.until(b"TEXT_MESSAGE_END")))
        assert so_far == [*STREAM[:3], "TEXT_MESSAGE_END"]
        gate.open()
        assert len((await run.answer()).events()) == 8


async def test_what_text_holds_never_breaks_a_frame(runner: AgentRunner) -> None:
    tricky = "a\nb\r\nc\n\nd\r\re\u2028f\u2029g\x00h\x85id: 9\ndata: x\n\n😀"
    client = client_of(runner, {"default": agent_with(*text_message("m1", tricky))})
    (delta,) = [event["delta"] for event in (await client.post(RUN, make_input())).events() if "delta" in event]
    assert delta == tricky


async def test_a_large_event_comes_whole(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": agent_with(*text_message("m1", "x" * 1_000_000))})
    (delta,) = [event["delta"] for event in (await client.post(RUN, make_input())).events() if "delta" in event]
    assert len(delta) == 1_000_000


async def test_tool_calls_state_and_unknown_events_pass(runner: AgentRunner) -> None:
    events = [
        *tool_call("c1", "search", '{"q":', '"x"}', result="found"),
        {"type": "STATE_SNAPSHOT", "snapshot": {"n": 1}},
        {"type": "STATE_DELTA", "delta": [{"op": "replace", "path": "/n", "value": 2}]},
        {"type": "CUSTOM", "name": "n", "value": {"deep": [1, None]}},
    ]
    client = client_of(runner, {"default": agent_with(*events)})
    answer = await client.post(RUN, make_input(protocolVersion="1.0"))
    assert answer.events()[1:-1] == events


@pytest.mark.parametrize("verb", ["run", "suggest", "connect"])
async def test_a_client_of_the_older_generation_gets_what_it_can_read(verb: str, runner: AgentRunner) -> None:
    client = client_of(runner, {"default": agent_with({"type": "OF_THE_FUTURE"}, *text_message("m1", "x"))})
    if verb == "connect":
        await client.post(RUN, make_input(protocolVersion="1.0"))
    kinds = ["RUN_STARTED", "OF_THE_FUTURE", *event_types(text_message("m1", "x")), "RUN_FINISHED"]
    for version, expected in (({"protocolVersion": "1.0"}, kinds), ({}, [kinds[0], *kinds[2:]])):
        asked = make_input(f"t1{'' if verb == 'connect' else version}", f"r {verb} {version}", **version)
        answer = await client.post(f"/agent/default/{verb}", asked)
        assert event_types(answer.events()) == expected


# The agent


async def test_the_agent_gets_what_was_asked(memory_factory: MemoryFactory) -> None:
    agent = Asked()
    client = client_of(memory_factory(), {"default": agent})
    tool = {"name": "t", "description": "d", "parameters": {"type": "object"}}
    asked = make_input(
        messages=["hi"], state={"n": [1, None]}, tools=[tool], context=[{"description": "d", "value": "v"}],
        forwardedProps={"a": {"b": None}}, parentRunId="r0",
    )  # fmt: skip
    assert (await client.post(RUN, asked)).status == 200
    (got,) = agent.inputs
    assert json.loads(got.model_dump_json(by_alias=True, exclude_unset=True)) == asked


async def test_runs_of_one_agent_at_a_time_do_not_meet(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": Asked()})
    answers = await asyncio.gather(*(client.post(RUN, make_input(f"t{n}", f"r{n}")) for n in range(20)))
    for n, answer in enumerate(answers):
        assert event_types(answer.events()) == STREAM
        assert {event["runId"] for event in answer.events() if "runId" in event} == {f"r{n}"}


async def test_each_run_gets_a_clone_where_the_agent_has_one(memory_factory: MemoryFactory) -> None:
    class Cloned(Asked):
        made: list[Cloned] = []  # noqa: RUF012 - noted once for all

        def clone(self) -> Cloned:
            Cloned.made.append(Cloned())
            return Cloned.made[-1]

    agent = Cloned()
    client = client_of(memory_factory(), {"default": agent})
    for n in range(2):
        await client.post(RUN, make_input(run=f"r{n}"))
    await client.post("/agent/default/suggest", make_input())
    assert [len(one.inputs) for one in Cloned.made] == [1, 1, 1]
    assert not agent.inputs


async def test_an_agent_that_cannot_be_cloned_is_an_error_that_tells_nothing(memory_factory: MemoryFactory) -> None:
    class Stubborn(Asked):
        def clone(self) -> Any:
            raise RuntimeError("secret")

    answer = await client_of(memory_factory(), {"default": Stubborn()}).post(RUN, make_input())
    assert (answer.status, answer.json()) == (500, {"error": "internal_error"})


async def failing(input: RunAgentInput) -> AsyncIterator[Any]:
    yield run_started(input.thread_id, input.run_id)
    for event in text_message("m1", "half")[:2]:
        yield event
    raise RuntimeError("boom")


async def failing_at_once(input: RunAgentInput) -> AsyncIterator[Any]:
    raise RuntimeError("boom")
    yield


@pytest.mark.parametrize(
    ("agent", "kinds", "message"),
    [
        (failing, [*STREAM[:3], "TEXT_MESSAGE_END", "RUN_ERROR"], "boom"),
        (failing_at_once, ["RUN_ERROR"], "boom"),
        (lambda _: None, ["RUN_ERROR"], "an agent must return an async iterator of events, not NoneType"),
        (lambda _: [run_started()], ["RUN_ERROR"], "an agent must return an async iterator of events, not list"),
        (lambda: None, ["RUN_ERROR"], None),
        (scripted_agent([{"no": "type"}]), ["RUN_ERROR"], None),
        (scripted_agent([b"\xff"]), ["RUN_ERROR"], None),
        (scripted_agent([run_started(), 5]), ["RUN_STARTED", "RUN_ERROR"], None),
    ],
)
async def test_an_agent_that_fails_ends_its_stream_with_an_error(
    agent: Any, kinds: list[str], message: str | None, runner: AgentRunner
) -> None:
    client = client_of(runner, {"default": agent})
    answer = await client.post(RUN, make_input())
    assert event_types(answer.events()) == kinds
    assert message is None or answer.events()[-1]["message"] == message
    assert await runner.is_running("t1") is False


# What is refused


def issues(body: dict[str, Any]) -> list[Any]:
    assert body["error"] == "Invalid request body"
    found: list[Any] = json.loads(body["details"])
    assert all(set(issue) == {"code", "path", "message"} for issue in found)
    return found


MISSING = object()
WRONG = {
    "threadId": [MISSING, None, 1, 1.5, True, [], {}, ["t"], ""],
    "runId": [MISSING, None, 1, 1.5, True, [], {}, ["r"], ""],
    "messages": [MISSING, None, 1, "x", True, {}, [None], [1], ["x"], [[]], [{}]],
    "tools": [1, "x", True, {}, [None], [1], ["x"], [[]], [{}], [{"name": 1}]],
    "context": [1, "x", True, {}, [None], [1], ["x"], [[]], [{}], [{"value": 1}]],
    "parentRunId": [1, True, [], {}],
    "resume": [1, "x", True, {}, [None], [{}], [[]]],
    "protocolVersion": [1, True, [], {}],
}


@pytest.mark.parametrize("verb", ["run", "connect", "suggest"])
@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
async def test_a_field_of_a_wrong_kind_is_refused(
    verb: str, field: str, value: Any, memory_factory: MemoryFactory
) -> None:
    runner = memory_factory()
    asked = make_input() | {field: value}
    if value is MISSING:
        del asked[field]
    answer = await client_of(runner, {"default": AGENT}).post(f"/agent/default/{verb}", asked)
    if verb == "connect" and value == "":
        # No run comes of it, and such a thread has no events.
        assert answer.events() == []
        return
    assert answer.status == 400
    found = issues(answer.json())
    # An empty id is the runner's to refuse, which says where in words.
    assert value == "" or {issue["path"][0] for issue in found} == {field}
    assert await runner.threads.list() == []


MESSAGES = [
    {"id": 1, "role": "user", "content": "x"}, {"role": "user", "content": "x"}, {"id": "m", "content": "x"},
    {"id": "m", "role": "user"}, {"id": "m", "role": "nobody", "content": "x"}, {"id": "m", "role": 1, "content": "x"},
    {"id": "m", "role": "user", "content": 1}, {"id": "m", "role": "user", "content": [1]},
    {"id": "m", "role": "user", "content": [{"type": "nothing"}]}, {"id": "m", "role": "tool", "content": "x"},
    {"id": "m", "role": "assistant", "toolCalls": [{}]}, {"id": "m", "role": "assistant", "toolCalls": "x"},
    {"id": "m", "role": "assistant", "content": {"a": 1}}, {"id": ["m"], "role": "user", "content": "x"},
]  # fmt: skip


@pytest.mark.parametrize("message", MESSAGES)
async def test_a_message_of_a_wrong_kind_is_refused(message: Any, memory_factory: MemoryFactory) -> None:
    answer = await client_of(memory_factory(), {"default": AGENT}).post(RUN, make_input(messages=[message]))
    assert answer.status == 400
    assert all(issue["path"][:2] == ["messages", 0] for issue in issues(answer.json()))


@pytest.mark.parametrize("content", [b"null", b"[]", b"1", b'"x"', b"true"])
async def test_an_input_is_an_object(content: bytes, memory_factory: MemoryFactory) -> None:
    answer = await client_of(memory_factory(), {"default": AGENT}).post(RUN, content)
    assert (answer.status, issues(answer.json())[0]["path"]) == (400, [])


WHOLE = json.dumps(make_input()).encode()


def with_state(state: bytes) -> bytes:
    return WHOLE.replace(b'"state": {}', b'"state": ' + state)


@pytest.mark.parametrize("verb", ["run", "connect", "suggest"])
@pytest.mark.parametrize(
    "content",
    [
        b"", b" ", b"{", b"not json", b"\xff", b"\x00", WHOLE[:-1], WHOLE + b"}", WHOLE + WHOLE,
        b"\xef\xbb\xbf" + WHOLE,
        WHOLE.decode().encode("utf-16"), WHOLE.replace(b'"t1"', b'"\\ud800"'), b"'" + WHOLE,
        *map(
            with_state,
            [
                b"NaN", b"Infinity", b"-Infinity", b"{,}", b"[1,]", b'"\\ud800"', b'"\\udc00\\ud800"',
                b'"\xed\xa0\x80"',
                b'{"\\ud800":1}', b'"a\nb"', b"01", b"1.", b".1", b"+1", b"0x1", b"undefined", b"//\n1", b'"\\x41"',
                b"[" * 1_000_000, b"[" * 1_000_000 + b"]" * 1_000_000, b'{"a":' * 1_000_000 + b"1" + b"}" * 1_000_000,
            ],
        ),
    ],
    ids=lambda content: f"{len(content)} {content[:4]!r} {content[40:70]!r}" if isinstance(content, bytes) else content,
)  # fmt: skip
async def test_a_body_that_is_no_json_is_refused(verb: str, content: bytes, memory_factory: MemoryFactory) -> None:
    answer = await client_of(memory_factory(), {"default": AGENT}).post(f"/agent/default/{verb}", content)
    assert answer.status == 400
    assert answer.json()["error"] == "Invalid request body"
    assert answer.json()["details"]


async def test_numbers_beyond_what_json_readers_keep_are_no_error(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT})
    for n, number in enumerate((b"1e999", b"-1e999", b"1" * 5_000, b"0." + b"1" * 5_000, b"1e-999", b"-0", b"2e308")):
        content = json.dumps(make_input(f"t{n}", f"r{n}")).encode().replace(b'"state": {}', b'"state": %s' % number)
        answer = await client.post(RUN, content)
        assert answer.status in (200, 400), number
        if answer.status == 200:
            assert event_types(answer.events()) == STREAM
            assert event_types((await client.get(f"/threads/t{n}/events")).json()["events"])[-1] == "RUN_FINISHED"


@pytest.mark.parametrize(("levels", "status"), [(126, 200), (127, 200), (128, 400), (200, 400), (1_000, 400)])
@pytest.mark.parametrize("field", ["state", "forwardedProps", "messages", "unknown"])
async def test_what_is_nested_deep_is_taken_up_to_a_level(
    levels: int, status: int, field: str, runner: AgentRunner
) -> None:
    # The input is a level itself, a message in its list two more.
    depth = levels - (3 if field == "messages" else 1)
    deep = "[" * depth + "]" * depth
    if field == "messages":
        deep = f'[{{"id":"m","role":"user","content":"x","unknown":{deep}}}]'
    content = f'{{"{field}":{deep},{json.dumps({k: v for k, v in make_input().items() if k != field})[1:]}'
    answer = await client_of(runner, {"default": AGENT}).post(RUN, content.encode())
    assert answer.status == status
    if status == 200:
        assert f'"{field}":{deep}'.encode() in answer.body


async def test_of_a_doubled_key_the_last_counts(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT})
    content = b'{"threadId":"first","threadId":"t1","state":{"a":1,"a":2},' + WHOLE[1:].replace(b'"state": {}, ', b"")
    answer = await client.post(RUN, content)
    assert answer.events()[0]["input"]["state"] == {"a": 2}
    assert [thread.thread_id for thread in await runner.threads.list()] == ["t1"]


@pytest.mark.parametrize(
    ("field", "value", "seen"),
    [
        ("state", None, MISSING), ("state", [], []), ("state", "x", "x"), ("state", 0, 0), ("state", False, False),
        ("state", {"a": None}, {"a": None}), ("forwardedProps", None, MISSING),
        ("forwardedProps", {"a": None}, {"a": None}),
        ("tools", None, MISSING), ("context", None, MISSING), ("parentRunId", None, MISSING), ("resume", None, MISSING),
        ("protocolVersion", None, MISSING), ("tools", MISSING, MISSING), ("context", MISSING, MISSING),
        ("state", MISSING, MISSING), ("forwardedProps", MISSING, MISSING), ("unknown", {"x": [1]}, {"x": [1]}),
    ],
)  # fmt: skip
async def test_what_may_be_left_out_may_be_null(field: str, value: Any, seen: Any, runner: AgentRunner) -> None:
    asked = make_input(protocolVersion="1.0") | {field: value}
    if value is MISSING:
        del asked[field]
    answer = await client_of(runner, {"default": AGENT}).post(RUN, asked)
    assert event_types(answer.events()) == STREAM
    # Clients refuse an optional field that is null.
    assert answer.events()[0]["input"].get(field, MISSING) == seen


@pytest.mark.parametrize("verb", ["run", "connect", "suggest", "stop/t"])
@pytest.mark.parametrize("agent_id", ["zzz", "Default", "constructor", "__proto__", "toString", "default%20", "d%00"])
async def test_an_unknown_agent_is_not_found(verb: str, agent_id: str, memory_factory: MemoryFactory) -> None:
    client = client_of(memory_factory(), {"default": AGENT})
    answer = await client.post(f"/agent/{agent_id}/{verb}", {} if verb == "stop/t" else make_input())
    assert (answer.status, answer.json()["error"]) == (404, "Agent not found")


@pytest.mark.parametrize("verb", ["run", "connect", "suggest"])
async def test_an_unknown_agent_counts_before_a_bad_body(verb: str, memory_factory: MemoryFactory) -> None:
    answer = await client_of(memory_factory(), {"default": AGENT}).post(f"/agent/zzz/{verb}", b"{")
    assert answer.status == 404


async def test_a_busy_thread_is_refused_and_its_run_goes_on(runner: AgentRunner) -> None:
    gate = Gate()
    client = client_of(runner, {"default": gate})
    async with client.open("POST", RUN, make_input()) as first:
        await gate.reached.wait()
        for run in ("r1", "r2"):
            answer = await client.post(RUN, make_input(run=run))
            assert (answer.status, answer.json()) == (409, LOCKED)
        gate.open()
        assert event_types((await first.answer()).events()) == ["RUN_STARTED", "RUN_FINISHED"]
    assert event_types((await client.post(RUN, make_input(run="r2"))).events()) == ["RUN_STARTED", "RUN_FINISHED"]


@pytest.mark.parametrize("thread", ["t1", "t2"])
async def test_a_run_id_is_used_once(thread: str, runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT})
    await client.post(RUN, make_input())
    answer = await client.post(RUN, make_input(thread))
    assert answer.status == 409
    assert answer.json()["code"] == "agent_run_exists"
    (kept,) = await runner.threads.list()
    assert kept.runs == 1


async def test_a_newer_run_may_supersede_the_one_that_is_there(runner_factory: Factory) -> None:
    gate = Gate(text_message("m1", "half"))
    client = client_of(runner_factory(on_concurrent_run="supersede"), {"slow": gate, "default": AGENT})
    async with client.open("POST", "/agent/slow/run", make_input()) as first:
        await gate.reached.wait()
        assert event_types((await client.post(RUN, make_input(run="r2"))).events()) == STREAM
        assert event_types((await first.answer()).events())[-1] == "RUN_FINISHED"
    assert gate.cancelled


async def test_a_newer_run_may_wait_its_turn(runner_factory: Factory) -> None:
    gate = Gate()
    runner = runner_factory(on_concurrent_run="enqueue")
    client = client_of(runner, {"slow": gate, "default": AGENT}, limits=Limits(keep_alive_seconds=0.05))
    async with client.open("POST", "/agent/slow/run", make_input()) as first:
        await gate.reached.wait()
        async with client.open("POST", RUN, make_input(run="r2")) as second:
            # It waits in the stream: what stands between must not take the connection for dead.
            await second.begun()
            assert await second.chunk() == b": keep-alive\n\n"
            gate.open()
            assert event_types((await second.answer()).events()) == STREAM
        assert event_types((await first.answer()).events()) == ["RUN_STARTED", "RUN_FINISHED"]


async def test_who_leaves_while_it_waits_its_turn_starts_nothing(runner_factory: Factory) -> None:
    gate, agent = Gate(), Asked()
    runner = runner_factory(on_concurrent_run="enqueue")
    limits = Limits(keep_alive_seconds=0.05)
    client = client_of(runner, {"slow": gate, "default": agent}, limits=limits)
    async with client.open("POST", "/agent/slow/run", make_input()) as first:
        await gate.reached.wait()
        async with client.open("POST", RUN, make_input(run="r2")) as second:
            await second.begun()
        gate.open()
        await first.answer()
    assert event_types((await client.post(RUN, make_input(run="r3"))).events()) == STREAM
    assert [asked.run_id for asked in agent.inputs] == ["r3"]


# Silence, and clients that leave


async def test_a_silent_stream_gets_comments(runner: AgentRunner) -> None:
    gate = Gate(text_message("m1", "x"))
    client = client_of(runner, {"default": gate}, limits=Limits(keep_alive_seconds=0.05))
    async with client.open("POST", RUN, make_input()) as run:
        await run.until(b"TEXT_MESSAGE_END")
        for _ in range(3):
            assert await run.chunk() == b": keep-alive\n\n"
        gate.open()
        answer = await run.answer()
    assert event_types(answer.events())[-1] == "RUN_FINISHED"


async def test_no_comments_where_they_are_turned_off(runner: AgentRunner) -> None:
    gate = Gate(text_message("m1", "x"))
    # Looked at as often as a comment would come if there were any.
    limits = Limits(keep_alive_seconds=0, stalled_seconds=0.1)
    client = client_of(runner, {"default": gate}, limits=limits)
    noisy = client_of(runner, {"default": AGENT}, limits=Limits(keep_alive_seconds=0.05))
    async with client.open("POST", RUN, make_input()) as quiet:
        await quiet.until(b"TEXT_MESSAGE_END")
        async with noisy.open("POST", "/agent/default/connect", make_input(run="c")) as other:
            # Two of another stream's comments are time enough for one of this one's.
            await other.until(b": keep-alive\n\n: keep-alive\n\n")
            gate.open()
            await other.answer()
        answer = await quiet.answer()
    assert b":" not in {line[:1] for line in answer.body.split(b"\n")}


async def test_a_busy_stream_gets_no_comments(memory_factory: MemoryFactory) -> None:
    async def talking(input: RunAgentInput) -> AsyncIterator[Any]:
        yield run_started(input.thread_id, input.run_id)
        loop = asyncio.get_running_loop()
        until = loop.time() + 0.5
        yield {"type": "TEXT_MESSAGE_START", "messageId": "m1", "role": "assistant"}
        while loop.time() < until:
            await asyncio.sleep(0.01)
            yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m1", "delta": "x"}
        yield {"type": "TEXT_MESSAGE_END", "messageId": "m1"}
        yield {"type": "RUN_FINISHED", "threadId": input.thread_id, "runId": input.run_id}

    client = client_of(memory_factory(), {"default": talking}, limits=Limits(keep_alive_seconds=0.3))
    answer = await client.post(RUN, make_input())
    assert len(answer.events()) > 10
    assert b"keep-alive" not in answer.body


async def test_a_client_that_leaves_ends_only_its_reading(runner: AgentRunner) -> None:
    gate = Gate(text_message("m1", "first"), text_message("m2", "second"))
    client = client_of(runner, {"default": gate})
    async with client.open("POST", RUN, make_input()) as run:
        await run.until(b"TEXT_MESSAGE_END")
    assert await runner.is_running("t1")
    assert not gate.cancelled
    async with client.open("POST", "/agent/default/connect", make_input(run="c")) as again:
        await again.until(b"first")
        gate.open()
        assert event_types((await again.answer()).events())[-1] == "RUN_FINISHED"
    messages = (await client.get("/threads/t1/messages")).json()["messages"]
    assert [message["content"] for message in messages] == ["first", "second"]


async def test_a_client_that_leaves_before_the_first_event_still_has_its_run(runner: AgentRunner) -> None:
    waits, go = asyncio.Event(), asyncio.Event()

    async def late(input: RunAgentInput) -> AsyncIterator[Any]:
        waits.set()
        await go.wait()
        async for event in AGENT(input):
            yield event

    client = client_of(runner, {"default": late})
    async with client.open("POST", RUN, make_input()) as run:
        await run.begun()
        await waits.wait()
    async with client.open("POST", "/agent/default/connect", make_input(run="c")) as again:
        await again.begun()
        go.set()
        assert event_types((await again.answer()).events())[-1] == "RUN_FINISHED"
    (message,) = (await client.get("/threads/t1/messages")).json()["messages"]
    assert message["content"] == "hello"


async def test_a_client_that_takes_nothing_is_dropped_and_the_run_goes_on(runner: AgentRunner) -> None:
    gate = Gate(text_message("m1", "x"))
    client = client_of(runner, {"default": gate}, limits=Limits(keep_alive_seconds=0.05, stalled_seconds=0.1))
    async with client.open("POST", RUN, make_input()) as run:
        await run.until(b"TEXT_MESSAGE_END")
        run.stall()
        await run.dropped()
    assert await runner.is_running("t1")
    gate.open()
    answer = await client.post("/agent/default/connect", make_input(run="c"))
    assert event_types(answer.events())[-1] == "RUN_FINISHED"


async def test_a_client_that_takes_nothing_for_a_while_misses_nothing(runner: AgentRunner) -> None:
    gate, silent = Gate(after=text_message("m1", "x")), Gate()
    limits = Limits(keep_alive_seconds=0.05, stalled_seconds=20)
    client = client_of(runner, {"default": gate, "silent": silent}, limits=limits)
    async with client.open("POST", RUN, make_input()) as run:
        await run.until(b"RUN_STARTED")
        run.stall()
        gate.open()
        async with client.open("POST", "/agent/silent/run", make_input("t2", "r2")) as other:
            # Meanwhile comments are due: that one cannot be sent is no reason to drop the client.
            await other.until(b": keep-alive\n\n" * 4)
            silent.open()
        run.take()
        answer = await run.answer()
    assert event_types(answer.events()) == ["RUN_STARTED", *event_types(text_message("m1", "x")), "RUN_FINISHED"]


async def test_a_closed_runner_says_that_it_is_shutting_down(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT})
    await runner.opened()
    await runner.drain(0)
    for verb in ("run", "suggest"):
        answer = await client.post(f"/agent/default/{verb}", make_input())
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["error"] == "Shutting down"
