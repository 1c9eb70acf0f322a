"""`stop`: the run that it ends, its response, and invalid requests."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner.server import Principal
from support.agents import Gate, agent_with
from support.asgi import client_of
from support.events import event_types, text_message
from support.inputs import make_input

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ag_ui.core import RunAgentInput
    from starlette.requests import Request

    from agentrunner import AgentRunner, InMemoryAgentRunner
    from support.asgi import Client

    MemoryFactory = Callable[..., InMemoryAgentRunner]

RUN, STOP = "/agent/default/run", "/agent/default/stop/t1"
STOPPED = {
    "stopped": True,
    "interrupt": {"type": "RUN_ERROR", "message": "Run stopped by user", "code": "STOPPED"},
}
NONE = {"stopped": False, "message": "No active run for thread 't1'."}


@pytest.fixture
def idle(memory_factory: MemoryFactory) -> Client:
    return client_of(memory_factory(), {"default": Gate()})


@pytest.mark.parametrize("content", [None, b"", b" \r\n\t", {}, b" {} ", {"runId": "r1"}])
async def test_stop_ends_the_run_and_closes_open_messages(content: Any, runner: AgentRunner) -> None:
    gate = Gate(text_message("m1", "half")[:2])
    client = client_of(runner, {"default": gate})
    async with client.open("POST", RUN, make_input()) as run:
        await gate.reached.wait()
        answer = await client.post(STOP, content)
        assert (answer.status, answer.json()) == (200, STOPPED)
        answer = await run.answer()
    assert event_types(answer.events()) == [
        "RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "RUN_FINISHED",
    ]  # fmt: skip
    assert answer.events()[-1] == {"type": "RUN_FINISHED", "threadId": "t1", "runId": "r1"}
    assert gate.cancelled
    assert (await client.post(STOP, content)).json()["stopped"] is False


async def test_stopping_another_run_ends_nothing(runner: AgentRunner) -> None:
    gate = Gate()
    client = client_of(runner, {"default": gate})
    async with client.open("POST", RUN, make_input()) as run:
        await gate.reached.wait()
        for name in ("r2", "R1", "r1 ", " r1", "x" * 100_000, "\0", "'; DROP TABLE threads"):
            answer = await client.post(STOP, {"runId": name})
            content = {"stopped": False, "message": f"Run '{name}' is not the active run for thread 't1'."}
            assert (answer.status, answer.json()) == (200, content)
        assert await runner.is_running("t1")
        gate.open()
        assert event_types((await run.answer()).events()) == ["RUN_STARTED", "RUN_FINISHED"]
    assert not gate.cancelled


async def test_stopping_another_thread_ends_nothing(runner: AgentRunner) -> None:
    gate = Gate()
    client = client_of(runner, {"default": gate})
    async with client.open("POST", RUN, make_input()) as run:
        await gate.reached.wait()
        answer = await client.post("/agent/default/stop/t2", {"runId": "r1"})
        assert answer.json() == {"stopped": False, "message": "Run 'r1' is not the active run for thread 't2'."}
        answer = await client.post("/agent/default/stop/t2")
        assert answer.json() == {"stopped": False, "message": "No active run for thread 't2'."}
        gate.open()
        await run.answer()
    assert not gate.cancelled


async def test_a_run_can_be_stopped_once(runner: AgentRunner) -> None:
    gate = Gate()
    client = client_of(runner, {"default": gate})
    async with client.open("POST", RUN, make_input()) as run:
        await gate.reached.wait()
        answers = await asyncio.gather(*(client.post(STOP) for _ in range(10)))
        assert sorted(answer.json()["stopped"] for answer in answers) == [False] * 9 + [True]
        assert event_types((await run.answer()).events()) == ["RUN_STARTED", "RUN_FINISHED"]


async def test_the_route_of_any_agent_stops_the_thread(runner: AgentRunner) -> None:
    gate = Gate()
    client = client_of(runner, {"default": gate, "other": Gate()})
    async with client.open("POST", RUN, make_input()) as run:
        await gate.reached.wait()
        assert (await client.post("/agent/other/stop/t1")).json() == STOPPED
        await run.answer()


async def test_the_thread_is_free_after_a_stop(runner: AgentRunner) -> None:
    gate = Gate()
    client = client_of(runner, {"default": gate})
    async with client.open("POST", RUN, make_input()) as run:
        await gate.reached.wait()
        await client.post(STOP)
        await run.answer()
    gate.open()
    assert event_types((await client.post(RUN, make_input(run="r2"))).events()) == ["RUN_STARTED", "RUN_FINISHED"]
    replay = await client.post("/agent/default/connect", make_input(run="c"))
    assert event_types(replay.events()) == ["RUN_STARTED", "RUN_FINISHED"] * 2


@pytest.mark.parametrize("waits", [False, True])
async def test_the_abort_method_of_an_agent_is_called(waits: bool, runner: AgentRunner) -> None:
    class Aborting(Gate):
        aborted = 0

        def abort_run(self) -> Any:
            self.aborted += 1
            self.open()
            return asyncio.sleep(0) if waits else None

    agent = Aborting()
    client = client_of(runner, {"default": agent})
    async with client.open("POST", RUN, make_input()) as run:
        await agent.reached.wait()
        assert (await client.post(STOP)).json() == STOPPED
        await run.answer()
    assert agent.aborted == 1


async def test_a_failing_abort_leaves_the_run_live(runner: AgentRunner) -> None:
    class Stubborn(Gate):
        def abort_run(self) -> None:
            raise RuntimeError("no")

    agent = Stubborn()
    client = client_of(runner, {"default": agent})
    async with client.open("POST", RUN, make_input()) as run:
        await agent.reached.wait()
        assert (await client.post(STOP)).json() == NONE
        agent.open()
        assert event_types((await run.answer()).events()) == ["RUN_STARTED", "RUN_FINISHED"]
    assert not agent.cancelled


async def test_an_agent_that_has_sent_no_event_is_stopped(runner: AgentRunner) -> None:
    waits = asyncio.Event()

    async def silent(input: RunAgentInput) -> AsyncIterator[Any]:
        waits.set()
        await asyncio.Event().wait()
        yield

    client = client_of(runner, {"default": silent})
    async with client.open("POST", RUN, make_input()) as run:
        await waits.wait()
        assert (await client.post(STOP)).json() == STOPPED
        assert event_types((await run.answer()).events()) == ["RUN_STARTED", "RUN_FINISHED"]


@pytest.mark.parametrize(
    "content",
    [
        b"{", b"x", b"\xff", b"null", b"[]", b"1", b'"r1"', b"true", b'{"runId":"r1"', b"{}{}", b"NaN",
        b"[" * 1_000_000,
        {"run_id": "r1"}, {"runid": "r1"}, {"RunId": "r1"}, {"runId": "r1", "force": True}, {"threadId": "t1"},
        {"": "r1"}, {"runId ": "r1"}, {"body": {"runId": "r1"}},
    ],
)  # fmt: skip
async def test_an_invalid_stop_request_is_refused(content: Any, memory_factory: MemoryFactory) -> None:
    gate = Gate()
    client = client_of(memory_factory(), {"default": gate})
    async with client.open("POST", RUN, make_input()) as run:
        await gate.reached.wait()
        answer = await client.post(STOP, content)
        assert (answer.status, answer.json()) == (400, {"error": "Invalid stop request"})
        gate.open()
        await run.answer()
    assert not gate.cancelled


@pytest.mark.parametrize("run_id", [None, "", " ", "\t\n", "\u00a0", 1, 0, True, [], ["r1"], {}])
async def test_a_run_id_must_be_a_non_blank_string(run_id: Any, idle: Client) -> None:
    answer = await idle.post(STOP, {"runId": run_id})
    assert (answer.status, answer.json()) == (400, {"error": "Invalid runId"})


async def test_a_run_id_with_half_a_surrogate_is_refused(idle: Client) -> None:
    answer = await idle.post(STOP, b'{"runId":"\\ud800"}')
    assert (answer.status, answer.json()["error"]) == (400, "Invalid request body")


async def test_an_invalid_request_is_reported_before_an_unknown_agent(idle: Client) -> None:
    assert (await idle.post("/agent/zzz/stop/t1", {"run_id": "r1"})).status == 400
    answer = await idle.post("/agent/zzz/stop/t1", {"runId": "r1"})
    assert answer.status == 404
    assert answer.json() == {"error": "Agent not found", "message": "Agent 'zzz' does not exist"}


@pytest.mark.fault("D4")
async def test_a_late_stop_does_not_end_a_run_that_began_after_it(memory_factory: MemoryFactory) -> None:
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def authenticate(request: Request) -> Principal:
        if "/stop/" in request.url.path:
            arrived.set()
            await go_on.wait()
        return Principal("ann")

    first, second = Gate(), Gate()
    client = client_of(memory_factory(), {"default": first, "other": second}, authenticate=authenticate)
    async with client.open("POST", RUN, make_input()) as run:
        await first.reached.wait()
        stopping = asyncio.create_task(client.post(STOP))
        await arrived.wait()
        first.open()
        await run.answer()
    async with client.open("POST", "/agent/other/run", make_input(run="r2")) as run:
        await second.reached.wait()
        go_on.set()
        answer = (await stopping).json()
        assert answer == {
            "stopped": False,
            "message": "The run of thread 't1' started after this request; send its runId to stop it.",
        }
        # With the run's id, the same request stops it.
        assert (await client.post(STOP, {"runId": "r2"})).json() == STOPPED
        await run.answer()
    assert second.cancelled


@pytest.mark.fault("D3")
async def test_a_message_right_after_a_stop_starts(runner: AgentRunner) -> None:
    gate = Gate()
    client = client_of(runner, {"default": gate, "other": agent_with()})
    async with client.open("POST", RUN, make_input()) as run:
        await gate.reached.wait()
        assert (await client.post(STOP)).json() == STOPPED
        answer = await client.post("/agent/other/run", make_input(run="r2"))
        assert event_types(answer.events()) == ["RUN_STARTED", "RUN_FINISHED"]
        await run.answer()


@pytest.mark.fault("D3")
async def test_the_refusal_of_a_busy_thread_says_what_else_can_be_done(memory_factory: MemoryFactory) -> None:
    gate = Gate()
    client = client_of(memory_factory(), {"default": gate})
    async with client.open("POST", RUN, make_input()) as run:
        await gate.reached.wait()
        answer = await client.post(RUN, make_input(run="r2"))
        assert (answer.status, answer.json()["code"]) == (409, "agent_thread_locked")
        assert "on_concurrent_run" in answer.json()["details"]
        gate.open()
        await run.answer()
