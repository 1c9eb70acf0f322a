"""The reference's in-memory runner tests of a second run and of stopping, on both stores.

The rest of the 49 are in `test_in_memory_runner.py`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import ThreadAlreadyRunning, verify
from support.agents import Gate, agent_with, scripted_agent
from support.events import event_types, run_finished, run_started, text_message
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ag_ui.core import RunAgentInput

    from agentrunner import AgentRunner

    Factory = Callable[..., AgentRunner]


class Stubborn(Gate):
    """An agent that hears a stop and takes its time: it ends when the gate is opened."""

    def __init__(self) -> None:
        super().__init__(text_message("m-stubborn", "slow"))
        self.heard = asyncio.Event()

    async def run(self, input: RunAgentInput) -> AsyncIterator[Any]:
        yield run_started(input.thread_id, input.run_id)
        self.reached.set()
        while not self._opened.is_set():
            try:
                await self._opened.wait()
            except asyncio.CancelledError:
                self.heard.set()


async def ran(runner: AgentRunner, thread: str, run: str, *events: Any) -> list[dict[str, Any]]:
    return await collect(await runner.run(agent_with(*events), make_input(thread, run)))


# A second run on a running thread


async def test_throws_thread_already_running_by_default(runner: AgentRunner) -> None:
    gate = Gate()
    stream = await runner.run(gate, make_input(run="r1"))
    with pytest.raises(ThreadAlreadyRunning, match=r"^Thread already running$"):
        await runner.run(agent_with(), make_input(run="r2"))
    gate.open()
    assert event_types(await collect(stream)) == ["RUN_STARTED", "RUN_FINISHED"]
    await ran(runner, "t1", "r2")


async def superseding(runner: AgentRunner) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Return what the readers of run 1, of run 2, and of the thread during run 2 see."""
    old, new = Gate([text_message("m1", "old")[0]]), Gate(text_message("live-1", "new"))
    first = await runner.run(old, make_input(run="r1"))
    await old.reached.wait()
    second = await runner.run(new, make_input(run="r2"))
    await new.reached.wait()
    assert await runner.is_running("t1")
    reader = await runner.connect("t1")
    ended = await collect(first)
    new.open()
    return ended, await collect(second), await collect(reader)


async def test_supersedes_an_in_flight_run_and_the_new_run_streams(runner_factory: Factory) -> None:
    _, second, _ = await superseding(runner_factory(on_concurrent_run="supersede"))
    assert second == [second[0], *text_message("live-1", "new"), run_finished(run="r2")]


async def test_a_superseded_run_is_kept_under_its_own_id_only(runner_factory: Factory) -> None:
    runner = runner_factory(on_concurrent_run="supersede")
    await superseding(runner)
    events = [event.to_dict() for event in await runner.threads.events("t1")]
    runs = [event["runId"] for event in events if "runId" in event]
    assert runs == ["r1", "r1", "r2", "r2"]
    split = next(i for i, e in enumerate(events) if e.get("runId") == "r2")
    assert {e["messageId"] for e in events[:split] if "messageId" in e} == {"m1"}
    assert {e["messageId"] for e in events[split:] if "messageId" in e} == {"live-1"}
    verify(events)


async def test_the_end_of_a_superseded_run_does_not_release_the_live_one(runner_factory: Factory) -> None:
    _, _, seen = await superseding(runner_factory(on_concurrent_run="supersede"))
    assert [event["messageId"] for event in seen if event["type"] == "TEXT_MESSAGE_CONTENT"] == ["live-1"]
    assert seen[-1] == run_finished(run="r2")


async def test_terminal_events_of_a_superseded_run_never_leak(runner_factory: Factory) -> None:
    _, second, _ = await superseding(runner_factory(on_concurrent_run="supersede"))
    assert [event["runId"] for event in second if event["type"] == "RUN_STARTED"] == ["r2"]
    assert event_types(second).count("RUN_FINISHED") == 1
    assert "RUN_ERROR" not in event_types(second)


async def test_a_superseded_run_ends_with_its_own_stop_intent(runner_factory: Factory) -> None:
    first, _, _ = await superseding(runner_factory(on_concurrent_run="supersede"))
    assert event_types(first)[-2:] == ["TEXT_MESSAGE_END", "RUN_FINISHED"]
    assert first[-1] == run_finished(run="r1")


async def test_waits_for_a_stopped_run_that_still_ends(runner: AgentRunner) -> None:
    agent = Stubborn()
    stream = await runner.run(agent, make_input(run="r1"))
    await agent.reached.wait()
    assert await runner.stop("t1")
    await agent.heard.wait()
    assert not await runner.is_running("t1")
    # CopilotKit's runner throws here (docs/compatibility.md).
    second = asyncio.create_task(ran(runner, "t1", "r2"))
    await asyncio.sleep(0)
    agent.open()
    assert event_types(await collect(stream)) == ["RUN_STARTED", "RUN_FINISHED"]
    await second


async def test_supersedes_a_run_that_still_ends_after_a_stop(runner_factory: Factory) -> None:
    runner = runner_factory(on_concurrent_run="supersede")
    agent = Stubborn()
    stream = await runner.run(agent, make_input(run="r1"))
    await agent.reached.wait()
    assert await runner.stop("t1")
    await agent.heard.wait()
    second = asyncio.create_task(runner.run(agent_with(), make_input(run="r2")))
    await asyncio.sleep(0)
    agent.open()
    assert event_types(await collect(await second)) == ["RUN_STARTED", "RUN_FINISHED"]
    assert event_types(await collect(stream)) == ["RUN_STARTED", "RUN_FINISHED"]


# Stopping


async def test_stop_does_not_stop_a_different_run_of_the_thread(runner: AgentRunner) -> None:
    gate = Gate()
    stream = await runner.run(gate, make_input(run="r1"))
    await gate.reached.wait()
    assert await runner.stop("t1", "other") is False
    assert await runner.is_running("t1") is True
    assert await runner.stop("t1", "r1") is True
    assert (await collect(stream))[-1] == run_finished()


async def test_nothing_follows_run_error_and_the_stream_is_valid(runner: AgentRunner) -> None:
    error = {"type": "RUN_ERROR", "message": "aborted"}

    async def agent(input: RunAgentInput) -> AsyncIterator[Any]:
        yield run_started()
        yield text_message("m1", "x")[0]
        try:
            reached.set()
            await asyncio.Event().wait()
        finally:
            yield_after.set()
        yield error

    reached, yield_after = asyncio.Event(), asyncio.Event()
    stream = await runner.run(agent, make_input(run="r1"))
    await reached.wait()
    await runner.stop("t1")
    events = await collect(stream)
    assert yield_after.is_set()
    verify(events)

    told = await collect(
        await runner.run(
            scripted_agent([run_started(run="r2"), text_message("m2", "x")[0], error, *text_message("m3", "y")]),
            make_input(run="r2"),
        )
    )
    assert event_types(told) == ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_END", "RUN_ERROR"]
    verify(told)


async def test_stop_is_false_for_a_thread_never_seen(runner: AgentRunner) -> None:
    assert await runner.stop("nowhere") is False


async def test_stop_is_false_for_an_idle_thread_and_a_stop_asked_for_twice(runner: AgentRunner) -> None:
    await ran(runner, "t1", "r1")
    assert await runner.stop("t1") is False
    agent = Stubborn()
    stream = await runner.run(agent, make_input(run="r2"))
    await agent.reached.wait()
    assert await runner.stop("t1") is True
    assert await runner.stop("t1") is False
    agent.open()
    await collect(stream)


async def test_stop_is_rolled_back_when_abort_run_raises(runner: AgentRunner, caplog: pytest.LogCaptureFixture) -> None:
    class Unwilling(Gate):
        aborts = 0

        def abort_run(self) -> None:
            self.aborts += 1
            if self.aborts == 1:
                raise OSError("not now")
            self.open()

    agent = Unwilling()
    stream = await runner.run(agent, make_input(run="r1"))
    await agent.reached.wait()
    assert await runner.stop("t1") is False
    assert "failed to abort run r1" in caplog.text
    assert await runner.is_running("t1") is True
    assert not agent.cancelled
    with pytest.raises(ThreadAlreadyRunning):
        await runner.run(agent_with(), make_input(run="r2"))
    assert await runner.stop("t1") is True
    assert (await collect(stream))[-1] == run_finished()
    assert agent.aborts == 2
