"""`run`: its input, its stream, and the run of a client that leaves."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import AgentError, current_run
from agentrunner.server.responses import BUSY_THREAD_ADVICE
from support.agents import Gate, agent_with, scripted_agent
from support.asgi import Client, client_of, frames_of
from support.backends import embedded
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
LOCKED = {
    "error": "Thread lock denied", "code": "agent_thread_locked", "message": "Thread already running",
    "details": BUSY_THREAD_ADVICE,
}  # fmt: skip


class Asked:
    """An agent that keeps the inputs it gets."""

    def __init__(self) -> None:
        self.inputs: list[RunAgentInput] = []
        self.headers: list[Any] = []

    async def run(self, input: RunAgentInput) -> AsyncIterator[Any]:
        self.inputs.append(input)
        self.headers.append(dict(current_run().headers))
        async for event in AGENT(input):
            yield event


async def test_a_run_is_streamed_as_server_sent_events(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT})
    answer = await client.post(RUN, make_input(messages=["hi"]))
    assert answer.headers == {
        "content-type": "text/event-stream",
        "cache-control": "no-cache, no-transform",
        "connection": "keep-alive",
        "x-accel-buffering": "no",
    }
    assert event_types(answer.events()) == STREAM
    assert answer.events()[0]["input"] == make_input(messages=["hi"])
    assert [cursor for cursor, _ in answer.frames()] == ["1", "2", "3", "4", "5", "6"]


@pytest.mark.parametrize("http_version", ["1.0", "2"])
async def test_only_http_1_1_has_a_connection_header(http_version: str, memory_factory: MemoryFactory) -> None:
    client = Client(client_of(memory_factory(), {"default": AGENT}).app, http_version=http_version)
    answer = await client.post(RUN, make_input())
    assert "connection" not in answer.headers
    assert event_types(answer.events()) == STREAM


@pytest.mark.parametrize(
    "accept", ["text/event-stream", "*/*", "application/json", "application/vnd.ag-ui.event+proto"]
)
async def test_the_accept_header_does_not_change_the_stream(accept: str, memory_factory: MemoryFactory) -> None:
    client = client_of(memory_factory(), {"default": AGENT})
    assert event_types((await client.post(RUN, make_input(), headers={"accept": accept})).events()) == STREAM


async def test_events_arrive_as_they_happen(runner: AgentRunner) -> None:
    gate = Gate(text_message("m1", "first"), text_message("m2", "second"))
    client = client_of(runner, {"default": gate})
    async with client.open("POST", RUN, make_input()) as run:
        await run.wait_until_begun()
        so_far = event_types(event for _, event in frames_of(await run.until(b"TEXT_MESSAGE_END")))
        assert so_far == [*STREAM[:3], "TEXT_MESSAGE_END"]
        gate.open()
        assert len((await run.answer()).events()) == 8


async def test_no_text_breaks_a_frame(runner: AgentRunner) -> None:
    tricky = "a\nb\r\nc\n\nd\r\re\u2028f\u2029g\x00h\x85id: 9\ndata: x\n\n😀"
    client = client_of(runner, {"default": agent_with(*text_message("m1", tricky))})
    (delta,) = [event["delta"] for event in (await client.post(RUN, make_input())).events() if "delta" in event]
    assert delta == tricky


async def test_a_large_event_arrives_whole(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": agent_with(*text_message("m1", "x" * 1_000_000))})
    (delta,) = [event["delta"] for event in (await client.post(RUN, make_input())).events() if "delta" in event]
    assert len(delta) == 1_000_000


async def test_tool_calls_state_and_unknown_events_pass_through(runner: AgentRunner) -> None:
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
async def test_a_legacy_client_gets_only_what_it_can_read(verb: str, runner: AgentRunner) -> None:
    client = client_of(runner, {"default": agent_with({"type": "OF_THE_FUTURE"}, *text_message("m1", "x"))})
    if verb == "connect":
        await client.post(RUN, make_input(protocolVersion="1.0"))
    kinds = ["RUN_STARTED", "OF_THE_FUTURE", *event_types(text_message("m1", "x")), "RUN_FINISHED"]
    for version, expected in (({"protocolVersion": "1.0"}, kinds), ({}, [kinds[0], *kinds[2:]])):
        run_input = make_input(f"t1{'' if verb == 'connect' else version}", f"r {verb} {version}", **version)
        answer = await client.post(f"/agent/default/{verb}", run_input)
        assert event_types(answer.events()) == expected


async def test_the_agent_gets_the_input(memory_factory: MemoryFactory) -> None:
    agent = Asked()
    client = client_of(memory_factory(), {"default": agent})
    tool = {"name": "t", "description": "d", "parameters": {"type": "object"}}
    run_input = make_input(
        messages=["hi"], state={"n": [1, None]}, tools=[tool], context=[{"description": "d", "value": "v"}],
        forwardedProps={"a": {"b": None}}, parentRunId="r0",
    )  # fmt: skip
    assert (await client.post(RUN, run_input)).status == 200
    (got,) = agent.inputs
    assert json.loads(got.model_dump_json(by_alias=True, exclude_unset=True)) == run_input


async def test_concurrent_runs_of_one_agent_are_separate(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": Asked()})
    answers = await asyncio.gather(*(client.post(RUN, make_input(f"t{n}", f"r{n}")) for n in range(20)))
    for n, answer in enumerate(answers):
        assert event_types(answer.events()) == STREAM
        assert {event["runId"] for event in answer.events() if "runId" in event} == {f"r{n}"}


async def test_each_run_gets_a_clone_of_an_agent_that_can_be_cloned(memory_factory: MemoryFactory) -> None:
    class Cloned(Asked):
        clones: list[Cloned] = []  # noqa: RUF012 - noted once for all

        def clone(self) -> Cloned:
            Cloned.clones.append(Cloned())
            return Cloned.clones[-1]

    agent = Cloned()
    client = client_of(memory_factory(), {"default": agent})
    for n in range(2):
        await client.post(RUN, make_input(run=f"r{n}"))
    await client.post("/agent/default/suggest", make_input())
    assert [len(one.inputs) for one in Cloned.clones] == [1, 1, 1]
    assert not agent.inputs


async def test_the_error_of_a_failing_clone_is_not_revealed(memory_factory: MemoryFactory) -> None:
    class Stubborn(Asked):
        def clone(self) -> Any:
            raise RuntimeError("secret")

    answer = await client_of(memory_factory(), {"default": Stubborn()}).post(RUN, make_input())
    assert (answer.status, answer.json()) == (500, {"error": "internal_error"})


async def failing(input: RunAgentInput) -> AsyncIterator[Any]:
    yield run_started(input.thread_id, input.run_id)
    for event in text_message("m1", "half")[:2]:
        yield event
    raise AgentError("boom")


async def failing_at_once(input: RunAgentInput) -> AsyncIterator[Any]:
    raise AgentError("boom")
    yield


@embedded
@pytest.mark.parametrize(
    ("agent", "kinds", "message"),
    [
        (failing, [*STREAM[:3], "TEXT_MESSAGE_END", "RUN_ERROR"], "boom"),
        (failing_at_once, ["RUN_ERROR"], "boom"),
        (lambda _: None, ["RUN_ERROR"], "an agent must return an async iterator of events, not NoneType"),
        (lambda _: [run_started()], ["RUN_ERROR"], "an agent must return an async iterator of events, not list"),
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


@pytest.mark.parametrize("verb", ["run", "connect", "suggest", "stop/t"])
@pytest.mark.parametrize("agent_id", ["zzz", "Default", "constructor", "__proto__", "toString", "default%20", "d%00"])
async def test_an_unknown_agent_is_not_found(verb: str, agent_id: str, memory_factory: MemoryFactory) -> None:
    client = client_of(memory_factory(), {"default": AGENT})
    answer = await client.post(f"/agent/{agent_id}/{verb}", {} if verb == "stop/t" else make_input())
    assert (answer.status, answer.json()["error"]) == (404, "Agent not found")


@pytest.mark.parametrize("verb", ["run", "connect", "suggest"])
async def test_an_unknown_agent_is_reported_before_a_bad_body(verb: str, memory_factory: MemoryFactory) -> None:
    answer = await client_of(memory_factory(), {"default": AGENT}).post(f"/agent/zzz/{verb}", b"{")
    assert answer.status == 404


async def test_a_run_on_a_busy_thread_is_refused_and_the_live_run_continues(runner: AgentRunner) -> None:
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


@pytest.mark.fault("C7")
async def test_a_run_id_can_be_used_once_in_each_thread(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT})
    await client.post(RUN, make_input())
    answer = await client.post(RUN, make_input())
    assert answer.status == 409
    assert answer.json()["code"] == "agent_run_exists"
    assert (await client.post(RUN, make_input("t2"))).status == 200
    assert [thread.runs for thread in await runner.threads.list()] == [1, 1]


async def test_a_closed_runner_answers_that_it_is_shutting_down(runner: AgentRunner) -> None:
    client = client_of(runner, {"default": AGENT})
    await runner.open()
    await runner.drain(0)
    for verb in ("run", "suggest"):
        answer = await client.post(f"/agent/default/{verb}", make_input())
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["error"] == "Shutting down"
