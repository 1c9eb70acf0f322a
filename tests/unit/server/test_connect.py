"""`connect`: a thread replayed, followed, gone on with behind a cursor, and for a client that has its messages."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import fold
from agentrunner.server import Limits
from support.agents import Gate, agent_with, scripted_agent
from support.asgi import client_of, frames_of
from support.events import event_types, run_finished, run_started, text_message, tool_call
from support.inputs import make_input

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ag_ui.core import RunAgentInput

    from agentrunner import AgentRunner, InMemoryAgentRunner
    from support.asgi import Answer, Client

    Factory = Callable[..., AgentRunner]
    MemoryFactory = Callable[..., InMemoryAgentRunner]

RUN, CONNECT = "/agent/default/run", "/agent/default/connect"
COMPACT = ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "RUN_FINISHED"]


def talk(input: RunAgentInput) -> AsyncIterator[Any]:
    """Say something of one's own in each run, in several pieces."""
    name = input.run_id
    return agent_with(
        *text_message(f"m-{name}", "hel", "lo ", name),
        {"type": "STATE_SNAPSHOT", "snapshot": {"last": name}},
        {"type": "STATE_DELTA", "delta": [{"op": "add", "path": "/more", "value": [1]}]},
        *tool_call(f"c-{name}", "search", '{"q":', '"x"}', result="found"),
    )(input)


async def three_runs(client: Client) -> list[Answer]:
    return [await client.post(RUN, make_input(run=f"r{n}", messages=[f"u{n}"])) for n in range(3)]


async def connected(client: Client, thread: str = "t1", **fields: Any) -> Answer:
    return await client.post(CONNECT, make_input(thread, "c", **fields))


async def test_a_thread_is_replayed_run_by_run(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": talk})
    ran = [event for answer in await three_runs(client) for event in answer.events()]
    replay = await connected(client)
    assert event_types(replay.events()).count("RUN_STARTED") == 3
    assert event_types(replay.events()).count("TEXT_MESSAGE_CONTENT") == 3
    assert fold(replay.events()) == fold(ran)
    assert [event["runId"] for event in replay.events() if event["type"] == "RUN_FINISHED"] == ["r0", "r1", "r2"]


async def test_the_replay_has_the_headers_of_a_stream(runner: AgentRunner) -> None:
    answer = await connected(client_of(runner, {"default": talk}))
    assert answer.headers == {
        "content-type": "text/event-stream",
        "cache-control": "no-cache",
        "connection": "keep-alive",
        "x-accel-buffering": "no",
    }


@pytest.mark.parametrize("thread", ["unknown", "", "x" * 100_000, "\0", "a/b"])
async def test_an_unknown_thread_has_no_events(thread: str, runner: AgentRunner) -> None:
    answer = await connected(client_of(runner, {"default": talk}), thread)
    assert (answer.events(), answer.body) == ([], b"")
    assert await runner.threads.list() == []


async def test_connecting_never_runs_the_agent(memory_factory: MemoryFactory) -> None:
    async def never(input: RunAgentInput) -> AsyncIterator[Any]:
        raise AssertionError
        yield

    runner = memory_factory()
    assert (await connected(client_of(runner, {"default": never}))).body == b""
    assert not await runner.is_running("t1")


async def test_any_agents_route_replays_the_thread(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": talk, "other": talk})
    await three_runs(client)
    other = await client.post("/agent/other/connect", make_input(run="c"))
    assert other.events() == (await connected(client)).events()


async def test_a_run_that_failed_is_replayed_with_its_error(runner: AgentRunner) -> None:
    async def failing(input: RunAgentInput) -> AsyncIterator[Any]:
        yield run_started(input.thread_id, input.run_id)
        raise RuntimeError("boom")

    client = client_of(runner, {"default": failing})
    await client.post(RUN, make_input())
    assert (await connected(client)).events()[-1]["message"] == "boom"


async def test_a_deleted_thread_has_no_events(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": talk})
    await three_runs(client)
    await client.send("DELETE", "/threads/t1", {})
    assert (await connected(client)).events() == []


# A live run


async def test_a_live_run_is_followed_to_its_end(runner: AgentRunner) -> None:
    gate = Gate(text_message("m1", "hel", "lo"), text_message("m2", "more"))
    client = client_of(runner, {"default": gate, "talk": talk})
    await client.post("/agent/talk/run", make_input(run="r0"))
    async with client.open("POST", RUN, make_input()) as run:
        await run.until(b"TEXT_MESSAGE_END")
        async with client.open("POST", CONNECT, make_input(run="c")) as reader:
            so_far = [event for _, event in frames_of(await reader.until(b'"hello"'))]
            assert event_types(so_far).count("RUN_STARTED") == 2
            gate.open()
            whole = await reader.answer()
        ran = await run.answer()
    assert event_types(whole.events())[-1] == "RUN_FINISHED"
    assert [fold(whole.events()).messages[-1]] == [fold(ran.events()).messages[-1]]


async def test_many_readers_of_one_run_all_get_all_of_it(runner: AgentRunner) -> None:
    gate = Gate(text_message("m1", "hel", "lo"), text_message("m2", "more"))
    client = client_of(runner, {"default": gate})
    async with client.open("POST", RUN, make_input()) as run:
        await gate.reached.wait()
        readers = [client.open("POST", CONNECT, make_input(run="c")) for _ in range(20)]
        for reader in readers:
            await reader.__aenter__()
        for reader in readers[::2]:
            await reader.until(b'"hello"')
        gate.open()
        for reader in readers:
            assert [m["content"] for m in fold((await reader.answer()).events()).messages] == ["hello", "more"]
            await reader.__aexit__(None, None, None)
        await run.answer()


async def test_a_reader_that_leaves_stops_nothing(runner: AgentRunner) -> None:
    gate = Gate(text_message("m1", "x"))
    client = client_of(runner, {"default": gate})
    async with client.open("POST", RUN, make_input()) as run:
        await gate.reached.wait()
        async with client.open("POST", CONNECT, make_input(run="c")) as reader:
            await reader.until(b"TEXT_MESSAGE_END")
        assert await runner.is_running("t1")
        assert not gate.cancelled
        gate.open()
        assert event_types((await run.answer()).events())[-1] == "RUN_FINISHED"


async def test_a_reader_of_a_silent_run_gets_comments(runner: AgentRunner) -> None:
    gate = Gate(text_message("m1", "x"))
    client = client_of(runner, {"default": gate}, limits=Limits(keep_alive_seconds=0.05))
    async with client.open("POST", RUN, make_input()) as run:
        await gate.reached.wait()
        async with client.open("POST", CONNECT, make_input(run="c")) as reader:
            await reader.until(b"\n\n: keep-alive\n\n: keep-alive\n\n")
        gate.open()
        await run.answer()


# Cursors


def by_header(cursor: str) -> dict[str, Any]:
    return {"content": make_input(run="c"), "headers": {"Last-Event-ID": cursor}}


def by_body(cursor: str) -> dict[str, Any]:
    return {"content": make_input(run="c", lastSeenEventId=cursor)}


@pytest.mark.parametrize("given", [by_header, by_body])
async def test_behind_each_frame_of_a_replay_comes_exactly_the_rest(given: Any, runner: AgentRunner) -> None:
    client = client_of(runner, {"default": talk})
    await three_runs(client)
    replay = (await connected(client)).frames()
    assert len(replay) == 30
    for at, (cursor, _) in enumerate(replay, 1):
        assert (await client.post(CONNECT, **given(cursor))).frames() == replay[at:], cursor


@pytest.mark.parametrize("given", [by_header, by_body])
async def test_behind_each_frame_of_a_run_comes_its_rest_and_what_followed(given: Any, runner: AgentRunner) -> None:
    client = client_of(runner, {"default": talk})
    runs = [answer.frames() for answer in await three_runs(client)]
    replay = (await connected(client)).frames()
    length = len(replay) // 3
    for number, raw in enumerate(runs, 1):
        for at, (cursor, _) in enumerate(raw, 1):
            rest = (await client.post(CONNECT, **given(cursor))).frames()
            assert rest == raw[at:] + replay[number * length :], cursor


async def test_behind_each_frame_of_a_live_run_comes_its_rest(runner: AgentRunner) -> None:
    gate = Gate([*text_message("m1", "hel", "lo"), *tool_call("c1", "t", "a", "b")], text_message("m2", "more"))
    client = client_of(runner, {"default": gate, "talk": talk})
    await client.post("/agent/talk/run", make_input(run="r0"))
    called = b'"TOOL_CALL_END","toolCallId":"c1"'
    async with client.open("POST", RUN, make_input()) as run:
        await run.until(called)
        async with client.open("POST", CONNECT, make_input(run="c")) as reader:
            # What is there already comes compacted, what follows as it is.
            compacted = frames_of(await reader.until(called))
            places = [cursor for cursor, _ in compacted]
            resumed = [client.open("POST", CONNECT, **by_header(cursor)) for cursor in places]
            for at, one in enumerate(resumed, 1):
                await one.__aenter__()
                await (one.until(called) if at < len(places) else one.begun())
            gate.open()
            whole = (await reader.answer()).frames()
        for at, one in enumerate(resumed, 1):
            assert (await one.answer()).frames() == whole[at:], places[at - 1]
            await one.__aexit__(None, None, None)
        raw = (await run.answer()).frames()
    for at, (cursor, _) in enumerate(raw, 1):
        assert (await client.post(CONNECT, **by_header(cursor))).frames() == raw[at:]


async def test_the_header_counts_before_the_body(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": talk})
    await three_runs(client)
    replay = (await connected(client)).frames()
    content = make_input(run="c", lastSeenEventId=replay[-1][0])
    answer = await client.post(CONNECT, content, headers={"last-event-id": replay[-3][0]})
    assert answer.frames() == replay[-2:]


@pytest.mark.parametrize("cursor", [None, "", "0", "00", "0.0"])
async def test_no_cursor_is_the_beginning(cursor: str | None, runner: AgentRunner) -> None:
    client = client_of(runner, {"default": talk})
    assert (await connected(client, lastSeenEventId=cursor)).events() == []
    await three_runs(client)
    assert (await connected(client, lastSeenEventId=cursor)).frames() == (await connected(client)).frames()


@pytest.mark.parametrize(
    "cursor",
    [
        "x", "-1", "+1", "1.2.3", "1.", ".1", ".", "1e3", "0x1", "1_0", " 1", "1 ", "1,2", "\u0661", "\0",
        "9" * 20, "9" * 5_000,
        "1." + "9" * 20, "18446744073709551615", "9223372036854775808", "6.9223372036854775808", "null", "NaN",
    ],
)  # fmt: skip
async def test_what_is_no_cursor_is_refused(cursor: str, runner: AgentRunner) -> None:
    client = client_of(runner, {"default": agent_with(*text_message("m1", "x"))})
    await client.post(RUN, make_input())
    for thread in ("t1", "unknown"):
        answer = await connected(client, thread, lastSeenEventId=cursor)
        assert answer.status == 400
        assert (answer.json()["error"], answer.json()["code"]) == ("Invalid cursor", "cursor_invalid")


@pytest.mark.parametrize("cursor", [0, 1, 1.5, True, False, [], {}, ["1"]])
async def test_a_cursor_is_a_string(cursor: Any, runner: AgentRunner) -> None:
    answer = await connected(client_of(runner, {"default": talk}), lastSeenEventId=cursor)
    assert answer.status == 400
    assert json.loads(answer.json()["details"])[0]["path"] == ["lastSeenEventId"]


@pytest.mark.parametrize("cursor", ["6", "6.0", "1000", "1000.7", "9223372036854775807"])
async def test_a_cursor_ahead_of_the_thread_is_refused(cursor: str, runner: AgentRunner) -> None:
    client = client_of(runner, {"default": agent_with(*text_message("m1", "x"))})
    assert len((await client.post(RUN, make_input())).events()) == 5
    answer = await connected(client, lastSeenEventId=cursor)
    assert (answer.status, answer.json()["code"]) == (409, "cursor_ahead")


async def test_a_cursor_ahead_of_a_live_run_is_refused(runner: AgentRunner) -> None:
    gate = Gate(text_message("m1", "x"))
    client = client_of(runner, {"default": gate})
    async with client.open("POST", RUN, make_input()) as run:
        await run.until(b"TEXT_MESSAGE_END")
        answer = await connected(client, lastSeenEventId="5")
        assert (answer.status, answer.json()["code"]) == (409, "cursor_ahead")
        gate.open()
        await run.answer()
    assert event_types((await connected(client, lastSeenEventId="4")).events()) == ["RUN_FINISHED"]


@pytest.mark.parametrize("cursor", ["1", "1.0", "5", "1000"])
async def test_a_cursor_of_a_thread_that_is_gone_finds_nothing(cursor: str, runner: AgentRunner) -> None:
    client = client_of(runner, {"default": agent_with(*text_message("m1", "x"))})
    await client.post(RUN, make_input())
    await client.send("DELETE", "/threads/t1", {})
    answer = await connected(client, lastSeenEventId=cursor)
    assert (answer.status, answer.json()) == (404, {"error": "Thread not found"})


async def test_a_cursor_whose_events_are_no_longer_kept_is_refused(runner_factory: Factory) -> None:
    client = client_of(runner_factory(resume_window=0), {"default": talk})
    runs = await three_runs(client)
    raw = [cursor for answer in runs for cursor, _ in answer.frames()]

    async def is_expired(cursor: str) -> bool:
        answer = await connected(client, lastSeenEventId=cursor)
        return answer.status == 410 and answer.json()["code"] == "cursor_expired"

    while not await is_expired(raw[1]):
        await asyncio.sleep(0.01)
    replay = (await connected(client)).frames()
    for at, (cursor, _) in enumerate(replay, 1):
        # The compacted form is kept as long as the thread.
        assert (await connected(client, lastSeenEventId=cursor)).frames() == replay[at:]


@pytest.mark.parametrize("cursor", ["x\nid: 1", "1\r\n", "1\n"])
async def test_a_cursor_with_a_line_end_is_refused(cursor: str, memory_factory: MemoryFactory) -> None:
    answer = await connected(client_of(memory_factory(), {"default": talk}), lastSeenEventId=cursor)
    assert (answer.status, answer.json()["code"]) == (400, "cursor_invalid")


# A client that comes back with its messages


def user(name: str) -> dict[str, Any]:
    return {"id": name, "role": "user", "content": name}


async def test_a_client_with_messages_gets_one_snapshot_of_all(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": talk})
    await three_runs(client)
    replayed = fold((await connected(client)).events())
    answer = await connected(client, messages=[user("u0")])
    assert event_types(answer.events()) == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "STATE_SNAPSHOT", "RUN_FINISHED"]
    assert fold(answer.events()) == replayed
    # A client that loses it halfway begins again: only its last frame can be gone on behind.
    cursors = [cursor for cursor, _ in answer.frames()]
    assert cursors[:-1] == [""] * 3
    assert (await connected(client, lastSeenEventId=cursors[-1])).events() == []


async def test_messages_only_the_client_has_stay_where_they_stood(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": agent_with(*text_message("m1", "hello"))})
    await client.post(RUN, make_input(messages=["u1"]))
    for messages, expected in (
        (["new"], ["new", "u1", "m1"]),
        (["u1", "new"], ["u1", "new", "m1"]),
        (["u1", "m1", "new"], ["u1", "m1", "new"]),
        (["a", "u1", "b", "m1", "c"], ["a", "u1", "b", "m1", "c"]),
        (["u1", "m1"], ["u1", "m1"]),
        (["m1"], ["u1", "m1"]),
    ):
        answer = await connected(client, messages=[user(name) for name in messages])
        assert [message["id"] for message in fold(answer.events()).messages] == expected


async def test_a_client_with_messages_follows_a_live_run_without_doubling(runner: AgentRunner) -> None:
    gate = Gate([{"type": "TEXT_MESSAGE_START", "messageId": "m1", "role": "assistant"}])
    rest = text_message("m1", "hel", "lo")[1:]

    async def agent(input: RunAgentInput) -> AsyncIterator[Any]:
        async for event in gate.run(input):
            if event["type"] == "RUN_FINISHED":
                for one in rest:
                    yield one
            yield event

    client = client_of(runner, {"default": agent})
    async with client.open("POST", RUN, make_input(messages=["u1"])) as run:
        await run.until(b"TEXT_MESSAGE_START")
        async with client.open("POST", CONNECT, make_input(run="c", messages=[user("u1")])) as reader:
            await reader.until(b"MESSAGES_SNAPSHOT")
            gate.open()
            answer = await reader.answer()
        await run.answer()
    messages = fold(answer.events()).messages
    assert [(message["id"], message["content"]) for message in messages] == [("u1", "u1"), ("m1", "hello")]


async def test_a_client_with_messages_of_an_unknown_thread_keeps_them(runner: AgentRunner) -> None:
    answer = await connected(client_of(runner, {"default": talk}), messages=[user("u1")])
    assert answer.events() == []


@pytest.mark.parametrize(("levels", "status"), [(1, 200), (120, 200), (124, 200), (125, 400), (200, 400), (900, 400)])
async def test_messages_are_nested_as_deep_as_a_runs(levels: int, status: int, runner: AgentRunner) -> None:
    client = client_of(runner, {"default": agent_with(*text_message("m1", "x"))})
    await client.post(RUN, make_input())
    # They are in a list, in the input, in RUN_STARTED.
    messages = f'[{{"id":"x","role":"user","content":"x","deep":{"[" * levels + "]" * levels}}}]'
    content = json.dumps(make_input(run="c")).replace('"messages": []', f'"messages":{messages}').encode()
    for path in (CONNECT, RUN):
        answer = await client.post(path, content)
        assert answer.status == status, path
        assert status == 400 or event_types(answer.events())[-1] == "RUN_FINISHED"


@pytest.mark.parametrize("extra", [{"content": "😀\u2028\x00"}, {"name": None}, {"n": 10**19}, {"f": 1e308}])
async def test_messages_of_any_content_come_back(extra: dict[str, Any], runner: AgentRunner) -> None:
    client = client_of(runner, {"default": talk})
    await three_runs(client)
    answer = await connected(client, messages=[user("x") | extra], protocolVersion="1.0")
    (first, *_) = fold(answer.events()).messages
    assert first["id"] == "x"
    assert {key: first[key] for key in extra if key in first} == {key: v for key, v in extra.items() if key in first}


# Interrupts that were answered since


def asking(run: str) -> Any:
    interrupt = {"id": f"i-{run}", "reason": "input_required"}
    return scripted_agent(
        [run_started(run=run), run_finished(run=run, outcome={"type": "interrupt", "interrupts": [interrupt]})]
    )


@pytest.mark.parametrize(
    ("then", "asks"), [([], True), (["talk"], False), (["fails"], True), (["fails", "talk"], False), (["asks"], False)]
)
async def test_a_replay_asks_only_what_was_not_answered(then: list[str], asks: bool, runner: AgentRunner) -> None:
    async def fails(input: RunAgentInput) -> AsyncIterator[Any]:
        yield run_started(input.thread_id, input.run_id)
        raise RuntimeError("boom")

    client = client_of(runner, {"default": asking("r0"), "talk": talk, "fails": fails, "asks": asking("n0")})
    await client.post(RUN, make_input(run="r0", protocolVersion="1.0"))
    for number, name in enumerate(then):
        await client.post(f"/agent/{name}/run", make_input(run=f"n{number}", protocolVersion="1.0"))
    answer = await connected(client, protocolVersion="1.0")
    (ended,) = [event for event in answer.events() if event["type"] == "RUN_FINISHED" and event["runId"] == "r0"]
    assert ("outcome" in ended) == asks
    if then == ["asks"]:
        assert answer.events()[-1]["outcome"]["interrupts"][0]["id"] == "i-n0"
    plain = (await connected(client, protocolVersion="1.0")).frames()
    assert [cursor for cursor, _ in plain] == [cursor for cursor, _ in answer.frames()]
