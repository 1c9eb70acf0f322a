"""The real npm client (`@ag-ui/client`) reads what this package writes."""

import asyncio
import contextlib
import json

import pytest

from agentrunner import InMemoryAgentRunner, SqliteAgentRunner, compact
from support.nodejs import ask, install, needs_node
from support.paths import FIXTURES

pytestmark = needs_node


@pytest.fixture(scope="module", autouse=True)
def _packages():
    install()


def question(events, **more):
    """The events' own bytes, as they are on the wire."""
    rest = b"".join(b',"%s":%s' % (key.encode(), json.dumps(value).encode()) for key, value in more.items())
    return b'{"events":[' + b",".join(bytes(event) for event in events) + b"]" + rest + b"}"


def cases(name):
    return [json.loads(line) for line in (FIXTURES / f"{name}.jsonl").read_bytes().splitlines()]


@pytest.mark.parametrize("name", ["interleaved", "fold", "sequential"])
def test_a_compacted_stream_replays_to_the_same_messages_and_state(name):
    expected = cases(name)
    answers = ask("replay.mjs", [question(compact(case["events"])) for case in expected])
    wrong = [
        case["name"]
        for case, answer in zip(expected, answers, strict=True)
        if answer != {"messages": case["messages"], "state": case["state"]}
    ]
    assert len(expected) in (120, 200)
    assert wrong == []


def test_the_replay_notices_a_wrong_snapshot():
    """The reference's own compaction loses order; the same replay sees exactly where."""
    expected = cases("interleaved")
    lines = [[json.dumps(event).encode() for event in case["compacted"]] for case in expected]
    answers = ask("replay.mjs", [question(events) for events in lines])
    for case, answer in zip(expected, answers, strict=True):
        same = answer == {"messages": case["messages"], "state": case["state"]}
        assert same == case["reference_replay_equal"], case["name"]
    assert not all(case["reference_replay_equal"] for case in expected)


@pytest.mark.parametrize("name", ["interleaved", "fold", "sequential"])
def test_a_compacted_stream_is_valid(name):
    expected = cases(name)
    answers = ask("verify.mjs", [question(compact(case["events"]), parse=True) for case in expected])
    assert [
        (case["name"], answer["error"]) for case, answer in zip(expected, answers, strict=True) if answer["error"]
    ] == []


OPEN = [
    {"type": "STEP_STARTED", "stepName": "plan"},
    {"type": "REASONING_START", "messageId": "think"},
    {"type": "REASONING_MESSAGE_START", "messageId": "think", "role": "reasoning"},
    {"type": "REASONING_MESSAGE_CONTENT", "messageId": "think", "delta": "let me see"},
    {"type": "TEXT_MESSAGE_START", "messageId": "text", "role": "assistant"},
    {"type": "TEXT_MESSAGE_CONTENT", "messageId": "text", "delta": "Hel"},
    {"type": "TOOL_CALL_START", "toolCallId": "call", "toolCallName": "search", "parentMessageId": "text"},
    {"type": "TOOL_CALL_ARGS", "toolCallId": "call", "delta": '{"q":'},
]


def run_input(run_id):
    required = {"threadId": "thread", "runId": run_id, "messages": [], "tools": [], "context": []}
    return required | {"state": {}, "forwardedProps": {}}


def make_run_started(run):
    return {"type": "RUN_STARTED", "threadId": run.thread_id, "runId": run.run_id}


async def cut_short(end):
    """Events of a run whose agent leaves everything open, live and as stored."""

    async def agent(run):
        yield make_run_started(run)
        for event in OPEN:
            yield event
        if end == "raise":
            raise ValueError("no more")
        if end == "stop":
            await asyncio.Event().wait()

    async with InMemoryAgentRunner() as runner:
        live = []
        async for event in await runner.run(agent, run_input("run")):
            live.append(event)
            if end == "stop" and len(live) == len(OPEN) + 1:
                assert await runner.stop("thread")
        return live, [event async for event in await runner.connect("thread")]


@pytest.mark.parametrize("end", ["stop", "raise", "return"])
def test_a_run_cut_short_is_valid_and_parses(end):
    live, stored = asyncio.run(cut_short(end))
    answers = ask("verify.mjs", [question(live, parse=True), question(stored, parse=True)])
    assert answers == [{"error": None}, {"error": None}]
    last = live[-1].to_dict()
    if end == "raise":
        assert last["type"] == "RUN_ERROR"
    else:
        # The runner ends the run of an agent that returns without a terminal event.
        assert last["type"] == "RUN_FINISHED"
        assert (last["threadId"], last["runId"]) == ("thread", "run")
    early, late = ask("replay.mjs", [question(live), question(stored)])
    assert early == late
    texts = {message["id"]: message.get("content") for message in early["messages"]}
    assert texts["think"] == "let me see"
    assert texts["text"] == "Hel"
    # No client can run a call with half of its arguments, so that it gets a result even if its agent returned.
    assert "call-result" in texts


@contextlib.asynccontextmanager
async def http(runner, agent):
    """About the smallest server there is: what is posted is run, `frames()` is the body."""

    async def serve(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length:")[1].split("\r\n")[0])
        stream = await runner.run(agent, json.loads(await reader.readexactly(length)))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        async for data in stream.frames():
            assert data.startswith(b"id: ")
            writer.write(data)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def answering(run):
    yield make_run_started(run)
    yield {"type": "TEXT_MESSAGE_START", "messageId": "m1", "role": "assistant"}
    for piece in ("Grüße, ", "data: x\n\n", "id: 7\n", "\r\n🙂 ", "\u2028", "end"):
        yield {"type": "TEXT_MESSAGE_CONTENT", "messageId": "m1", "delta": piece}
        await asyncio.sleep(0.005)
    yield {"type": "TEXT_MESSAGE_END", "messageId": "m1"}
    yield {"type": "TOOL_CALL_START", "toolCallId": "c1", "toolCallName": "book"}
    yield {"type": "TOOL_CALL_ARGS", "toolCallId": "c1", "delta": '{"n":1}'}
    yield {"type": "TOOL_CALL_END", "toolCallId": "c1"}
    yield {"type": "STATE_SNAPSHOT", "snapshot": {"count": 1}}
    yield {"type": "STATE_DELTA", "delta": [{"op": "add", "path": "/count", "value": 2}]}
    yield {"type": "RUN_FINISHED", "threadId": run.thread_id, "runId": run.run_id}


def test_http_agent_reads_frames(tmp_path):
    async def main():
        async with SqliteAgentRunner(tmp_path / "runs.db") as runner, http(runner, answering) as url:
            request = json.dumps({"url": url, "threadId": "thread", "runId": "run"}).encode()
            return await asyncio.to_thread(ask, "http.mjs", [request])

    [answer] = asyncio.run(main())
    call = {"id": "c1", "type": "function", "function": {"name": "book", "arguments": '{"n":1}'}}
    assert "refused" not in answer
    assert answer["messages"] == [
        {"id": "m1", "role": "assistant", "content": "Grüße, data: x\n\nid: 7\n\r\n🙂 \u2028end"},
        {"id": "c1", "role": "assistant", "toolCalls": [call]},
    ]
    assert answer["state"] == {"count": 2}
    assert len(answer["types"]) == 15
    assert answer["types"][0] == "RUN_STARTED"
    assert answer["types"][-1] == "RUN_FINISHED"
