"""`connect`: replaying and following a thread, and clients that have messages."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import AgentError, fold
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


async def test_a_thread_is_replayed_run_by_run(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": talk})
    ran = [event for answer in await three_runs(client) for event in answer.events()]
    replay = await connect(client)
    assert event_types(replay.events()).count("RUN_STARTED") == 3
    assert event_types(replay.events()).count("TEXT_MESSAGE_CONTENT") == 3
    assert fold(replay.events()) == fold(ran)
    assert [event["runId"] for event in replay.events() if event["type"] == "RUN_FINISHED"] == ["r0", "r1", "r2"]


async def test_the_replay_has_the_headers_of_a_stream(runner: AgentRunner) -> None:
    answer = await connect(client_of(runner, {"default": talk}))
    assert answer.headers == {
        "content-type": "text/event-stream",
        "cache-control": "no-cache, no-transform",
        "connection": "keep-alive",
        "x-accel-buffering": "no",
    }


@pytest.mark.parametrize("thread", ["unknown", "", "x" * 100_000, "\0", "a/b"])
async def test_an_unknown_thread_has_no_events(thread: str, runner: AgentRunner) -> None:
    answer = await connect(client_of(runner, {"default": talk}), thread)
    assert (answer.events(), answer.body) == ([], b"")
    assert await runner.threads.list() == []


async def test_connecting_never_runs_the_agent(memory_factory: MemoryFactory) -> None:
    async def never(input: RunAgentInput) -> AsyncIterator[Any]:
        raise AssertionError
        yield

    runner = memory_factory()
    assert (await connect(client_of(runner, {"default": never}))).body == b""
    assert not await runner.is_running("t1")


async def test_the_route_of_any_agent_replays_the_thread(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": talk, "other": talk})
    await three_runs(client)
    other = await client.post("/agent/other/connect", make_input(run="c"))
    assert other.events() == (await connect(client)).events()


async def test_a_run_that_failed_is_replayed_with_its_error(runner: AgentRunner) -> None:
    async def failing(input: RunAgentInput) -> AsyncIterator[Any]:
        yield run_started(input.thread_id, input.run_id)
        raise AgentError("boom")

    client = client_of(runner, {"default": failing})
    await client.post(RUN, make_input())
    assert (await connect(client)).events()[-1]["message"] == "boom"


async def test_a_deleted_thread_has_no_events(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": talk})
    await three_runs(client)
    await client.send("DELETE", "/threads/t1", {})
    assert (await connect(client)).events() == []


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


async def test_each_of_many_readers_gets_the_whole_run(runner: AgentRunner) -> None:
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


async def test_a_reader_that_leaves_does_not_stop_the_run(runner: AgentRunner) -> None:
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


async def test_a_reader_of_a_silent_run_gets_keep_alive_comments(runner: AgentRunner) -> None:
    gate = Gate(text_message("m1", "x"))
    client = client_of(runner, {"default": gate}, limits=Limits(keep_alive_seconds=0.05))
    async with client.open("POST", RUN, make_input()) as run:
        await gate.reached.wait()
        async with client.open("POST", CONNECT, make_input(run="c")) as reader:
            await reader.until(b"\n\n: keep-alive\n\n: keep-alive\n\n")
        gate.open()
        await run.answer()


def user(name: str) -> dict[str, Any]:
    return {"id": name, "role": "user", "content": name}


async def test_a_client_with_messages_gets_one_snapshot_of_the_thread(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": talk})
    await three_runs(client)
    replayed = fold((await connect(client)).events())
    answer = await connect(client, messages=[user("u0")])
    assert event_types(answer.events()) == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "STATE_SNAPSHOT", "RUN_FINISHED"]
    assert fold(answer.events()) == replayed
    # After a lost connection the client starts over: a reader can resume only after the last frame of a snapshot.
    cursors = [cursor for cursor, _ in answer.frames()]
    assert cursors[:-1] == [""] * 3
    assert (await connect(client, lastSeenEventId=cursors[-1])).events() == []


async def test_messages_that_only_the_client_has_keep_their_position(runner: AgentRunner) -> None:
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
        answer = await connect(client, messages=[user(name) for name in messages])
        assert [message["id"] for message in fold(answer.events()).messages] == expected


async def test_a_client_with_messages_follows_a_live_run_without_duplicates(runner: AgentRunner) -> None:
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


async def test_a_client_with_messages_of_an_unknown_thread_gets_no_events(runner: AgentRunner) -> None:
    answer = await connect(client_of(runner, {"default": talk}), messages=[user("u1")])
    assert answer.events() == []


@pytest.mark.parametrize(("levels", "status"), [(1, 200), (120, 200), (124, 200), (125, 400), (200, 400), (900, 400)])
async def test_messages_may_be_nested_as_deeply_as_those_of_a_run(
    levels: int, status: int, runner: AgentRunner
) -> None:
    client = client_of(runner, {"default": agent_with(*text_message("m1", "x"))})
    await client.post(RUN, make_input())
    # The messages are in a list, in the input, in RUN_STARTED, which are levels as well.
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
    answer = await connect(client, messages=[user("x") | extra], protocolVersion="1.0")
    (first, *_) = fold(answer.events()).messages
    assert first["id"] == "x"
    assert {key: first[key] for key in extra if key in first} == {key: v for key, v in extra.items() if key in first}


def asking(run: str) -> Any:
    interrupt = {"id": f"i-{run}", "reason": "input_required"}
    return scripted_agent(
        [run_started(run=run), run_finished(run=run, outcome={"type": "interrupt", "interrupts": [interrupt]})]
    )


@pytest.mark.parametrize(
    ("then", "asks"), [([], True), (["talk"], False), (["fails"], True), (["fails", "talk"], False), (["asks"], False)]
)
async def test_a_replay_offers_only_open_interrupts(then: list[str], asks: bool, runner: AgentRunner) -> None:
    async def fails(input: RunAgentInput) -> AsyncIterator[Any]:
        yield run_started(input.thread_id, input.run_id)
        raise RuntimeError("boom")

    client = client_of(runner, {"default": asking("r0"), "talk": talk, "fails": fails, "asks": asking("n0")})
    await client.post(RUN, make_input(run="r0", protocolVersion="1.0"))
    for number, name in enumerate(then):
        await client.post(f"/agent/{name}/run", make_input(run=f"n{number}", protocolVersion="1.0"))
    answer = await connect(client, protocolVersion="1.0")
    (ended,) = [event for event in answer.events() if event["type"] == "RUN_FINISHED" and event["runId"] == "r0"]
    assert ("outcome" in ended) == asks
    if then == ["asks"]:
        assert answer.events()[-1]["outcome"]["interrupts"][0]["id"] == "i-n0"
    plain = (await connect(client, protocolVersion="1.0")).frames()
    assert [cursor for cursor, _ in plain] == [cursor for cursor, _ in answer.frames()]
