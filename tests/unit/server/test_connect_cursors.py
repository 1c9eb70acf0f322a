"""`connect` after a cursor: resuming, and the cursors that are refused."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from support.agents import Gate, agent_with
from support.asgi import client_of, frames_of
from support.backends import in_memory
from support.events import event_types, text_message, tool_call
from support.inputs import make_input

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ag_ui.core import RunAgentInput

    from agentrunner import AgentRunner, InMemoryAgentRunner
    from support.asgi import Answer, Client

    Factory = Callable[..., AgentRunner]
    MemoryFactory = Callable[..., InMemoryAgentRunner]
RUN, CONNECT = "/agent/default/run", "/agent/default/connect"


def talk(input: RunAgentInput) -> AsyncIterator[Any]:
    """Stream a text in several deltas, a state and a tool call, with ids of the run."""
    name = input.run_id
    return agent_with(
        *text_message(f"m-{name}", "hel", "lo ", name),
        {"type": "STATE_SNAPSHOT", "snapshot": {"last": name}},
        {"type": "STATE_DELTA", "delta": [{"op": "add", "path": "/more", "value": [1]}]},
        *tool_call(f"c-{name}", "search", '{"q":', '"x"}', result="found"),
    )(input)


async def three_runs(client: Client) -> list[Answer]:
    return [await client.post(RUN, make_input(run=f"r{n}", messages=[f"u{n}"])) for n in range(3)]


async def connect(client: Client, thread: str = "t1", **fields: Any) -> Answer:
    return await client.post(CONNECT, make_input(thread, "c", **fields))


def by_header(cursor: str) -> dict[str, Any]:
    return {"content": make_input(run="c"), "headers": {"Last-Event-ID": cursor}}


def by_body(cursor: str) -> dict[str, Any]:
    return {"content": make_input(run="c", lastSeenEventId=cursor)}


@pytest.mark.parametrize("carry", [by_header, by_body])
async def test_a_reader_resumes_after_any_frame_of_a_replay(carry: Any, runner: AgentRunner) -> None:
    client = client_of(runner, {"default": talk})
    await three_runs(client)
    replay = (await connect(client)).frames()
    # Ten of each run, without the states of the first two, which the last run's state replaces.
    assert len(replay) == 28
    for at, (cursor, _) in enumerate(replay, 1):
        assert (await client.post(CONNECT, **carry(cursor))).frames() == replay[at:], cursor


@pytest.mark.parametrize("carry", [by_header, by_body])
async def test_a_reader_resumes_after_any_frame_of_a_run(carry: Any, runner: AgentRunner) -> None:
    client = client_of(runner, {"default": talk})
    runs = [answer.frames() for answer in await three_runs(client)]
    replay = (await connect(client)).frames()
    for raw in runs:
        later = [frame for frame in replay if int(frame[0].partition(".")[0]) > int(raw[-1][0])]
        for at, (cursor, _) in enumerate(raw, 1):
            rest = (await client.post(CONNECT, **carry(cursor))).frames()
            assert rest == raw[at:] + later, cursor


async def test_a_reader_resumes_after_any_frame_of_a_live_run(runner: AgentRunner) -> None:
    gate = Gate([*text_message("m1", "hel", "lo"), *tool_call("c1", "t", "a", "b")], text_message("m2", "more"))
    client = client_of(runner, {"default": gate, "talk": talk})
    await client.post("/agent/talk/run", make_input(run="r0"))
    called = b'"TOOL_CALL_END","toolCallId":"c1"'
    async with client.open("POST", RUN, make_input()) as run:
        await run.until(called)
        async with client.open("POST", CONNECT, make_input(run="c")) as reader:
            # Earlier events come compacted, later ones raw.
            compacted = frames_of(await reader.until(called))
            places = [cursor for cursor, _ in compacted]
            resumed = [client.open("POST", CONNECT, **by_header(cursor)) for cursor in places]
            for at, one in enumerate(resumed, 1):
                await one.__aenter__()
                await (one.until(called) if at < len(places) else one.wait_until_begun())
            gate.open()
            whole = (await reader.answer()).frames()
        for at, one in enumerate(resumed, 1):
            assert (await one.answer()).frames() == whole[at:], places[at - 1]
            await one.__aexit__(None, None, None)
        raw = (await run.answer()).frames()
    for at, (cursor, _) in enumerate(raw, 1):
        assert (await client.post(CONNECT, **by_header(cursor))).frames() == raw[at:]


async def test_the_cursor_in_the_header_wins_over_the_body(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": talk})
    await three_runs(client)
    replay = (await connect(client)).frames()
    content = make_input(run="c", lastSeenEventId=replay[-1][0])
    answer = await client.post(CONNECT, content, headers={"last-event-id": replay[-3][0]})
    assert answer.frames() == replay[-2:]


@pytest.mark.parametrize("cursor", [None, "", "0", "00", "0.0"])
async def test_an_empty_cursor_means_the_start_of_the_thread(cursor: str | None, runner: AgentRunner) -> None:
    client = client_of(runner, {"default": talk})
    assert (await connect(client, lastSeenEventId=cursor)).events() == []
    await three_runs(client)
    assert (await connect(client, lastSeenEventId=cursor)).frames() == (await connect(client)).frames()


@in_memory
@pytest.mark.parametrize(
    "cursor",
    [
        "x", "-1", "+1", "1.2.3", "1.", ".1", ".", "1e3", "0x1", "1_0", " 1", "1 ", "1,2", "\u0661", "\0",
        "9" * 20, "9" * 5_000,
        "1." + "9" * 20, "18446744073709551615", "9223372036854775808", "6.9223372036854775808", "null", "NaN",
    ],
)  # fmt: skip
async def test_an_invalid_cursor_is_refused(cursor: str, runner: AgentRunner) -> None:
    client = client_of(runner, {"default": agent_with(*text_message("m1", "x"))})
    await client.post(RUN, make_input())
    for thread in ("t1", "unknown"):
        answer = await connect(client, thread, lastSeenEventId=cursor)
        assert answer.status == 400
        assert (answer.json()["error"], answer.json()["code"]) == ("Invalid cursor", "cursor_invalid")


@in_memory
@pytest.mark.parametrize("cursor", [0, 1, 1.5, True, False, [], {}, ["1"]])
async def test_a_cursor_must_be_a_string(cursor: Any, runner: AgentRunner) -> None:
    answer = await connect(client_of(runner, {"default": talk}), lastSeenEventId=cursor)
    assert answer.status == 400
    assert json.loads(answer.json()["details"])[0]["path"] == ["lastSeenEventId"]


@pytest.mark.parametrize("cursor", ["6", "6.0", "1000", "1000.7", "9223372036854775807"])
async def test_a_cursor_ahead_of_the_thread_is_refused(cursor: str, runner: AgentRunner) -> None:
    client = client_of(runner, {"default": agent_with(*text_message("m1", "x"))})
    assert len((await client.post(RUN, make_input())).events()) == 5
    answer = await connect(client, lastSeenEventId=cursor)
    assert (answer.status, answer.json()["code"]) == (409, "cursor_ahead")


async def test_a_cursor_ahead_of_a_live_run_is_refused(runner: AgentRunner) -> None:
    gate = Gate(text_message("m1", "x"))
    client = client_of(runner, {"default": gate})
    async with client.open("POST", RUN, make_input()) as run:
        await run.until(b"TEXT_MESSAGE_END")
        answer = await connect(client, lastSeenEventId="5")
        assert (answer.status, answer.json()["code"]) == (409, "cursor_ahead")
        gate.open()
        await run.answer()
    assert event_types((await connect(client, lastSeenEventId="4")).events()) == ["RUN_FINISHED"]


@pytest.mark.parametrize("cursor", ["1", "1.0", "5", "1000"])
async def test_a_cursor_of_a_deleted_thread_is_refused(cursor: str, runner: AgentRunner) -> None:
    client = client_of(runner, {"default": agent_with(*text_message("m1", "x"))})
    await client.post(RUN, make_input())
    await client.send("DELETE", "/threads/t1", {})
    answer = await connect(client, lastSeenEventId=cursor)
    assert (answer.status, answer.json()) == (404, {"error": "Thread not found"})


async def test_a_cursor_whose_events_are_deleted_is_refused(runner_factory: Factory) -> None:
    client = client_of(runner_factory(resume_window=0), {"default": talk})
    runs = await three_runs(client)
    raw = [cursor for answer in runs for cursor, _ in answer.frames()]

    async def is_expired(cursor: str) -> bool:
        answer = await connect(client, lastSeenEventId=cursor)
        return answer.status == 410 and answer.json()["code"] == "cursor_expired"

    while not await is_expired(raw[1]):
        await asyncio.sleep(0.01)
    replay = (await connect(client)).frames()
    for at, (cursor, _) in enumerate(replay, 1):
        # Compacted events are kept as long as the thread.
        assert (await connect(client, lastSeenEventId=cursor)).frames() == replay[at:]


@pytest.mark.parametrize("cursor", ["x\nid: 1", "1\r\n", "1\n"])
async def test_a_cursor_with_a_line_end_is_refused(cursor: str, memory_factory: MemoryFactory) -> None:
    answer = await connect(client_of(memory_factory(), {"default": talk}), lastSeenEventId=cursor)
    assert (answer.status, answer.json()["code"]) == (400, "cursor_invalid")
