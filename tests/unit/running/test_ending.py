"""A new run waits for a run that is ending, and is refused by one that is not."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import ThreadAlreadyRunning
from agentrunner.running import ending
from support.agents import Gate, agent_with
from support.events import event_types, run_finished, run_started
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ag_ui.core import RunAgentInput

    from agentrunner import AgentRunner, InMemoryAgentRunner, SqliteAgentRunner

    MemoryFactory = Callable[..., InMemoryAgentRunner]
    SqliteFactory = Callable[..., SqliteAgentRunner]

pytestmark = pytest.mark.fault("D3")


class Ending(Gate):
    """An agent that takes its time to end: after a stop, or after its RUN_FINISHED."""

    def __init__(self, *, says_end: bool = False) -> None:
        super().__init__()
        self.says_end = says_end
        self.heard = asyncio.Event()

    async def run(self, input: RunAgentInput) -> AsyncIterator[Any]:
        yield run_started(input.thread_id, input.run_id)
        if self.says_end:
            yield run_finished(input.thread_id, input.run_id)
        self.reached.set()
        while not self._opened.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self._opened.wait()
            self.heard.set()


async def start_and_end(runner: AgentRunner, agent: Ending) -> Any:
    """Start a run that is ending when this returns, and return its stream."""
    stream = await runner.run(agent, make_input())
    if agent.says_end:
        async for event in stream:
            if event.type == "RUN_FINISHED":
                break
    else:
        await agent.reached.wait()
        assert await runner.stop("t1")
        await agent.heard.wait()
    return stream


async def run_next(runner: AgentRunner) -> list[str]:
    return event_types(await collect(await runner.run(agent_with(), make_input(run="r2"))))


@pytest.mark.parametrize("says_end", [False, True], ids=["stopped", "works behind its end"])
async def test_a_new_run_waits_for_a_run_that_is_ending(says_end: bool, runner: AgentRunner) -> None:
    agent = Ending(says_end=says_end)
    await start_and_end(runner, agent)
    second = asyncio.create_task(run_next(runner))
    await asyncio.sleep(0)
    assert not second.done()
    agent.open()
    assert await second == ["RUN_STARTED", "RUN_FINISHED"]


@pytest.mark.parametrize("says_end", [False, True], ids=["stopped", "works behind its end"])
async def test_a_new_run_waits_for_a_run_of_another_process_that_is_ending(
    says_end: bool, sqlite_factory: SqliteFactory
) -> None:
    runner, other = sqlite_factory(), sqlite_factory()
    agent = Ending(says_end=says_end)
    await start_and_end(runner, agent)
    second = asyncio.create_task(run_next(other))
    await asyncio.sleep(0)
    assert not second.done()
    agent.open()
    assert await second == ["RUN_STARTED", "RUN_FINISHED"]


async def test_a_run_of_another_process_that_is_not_ending_refuses_a_new_one(sqlite_factory: SqliteFactory) -> None:
    runner, other = sqlite_factory(), sqlite_factory()
    gate = Gate()
    stream = await runner.run(gate, make_input())
    await gate.reached.wait()
    for _ in range(2):
        with pytest.raises(ThreadAlreadyRunning):
            await other.run(agent_with(), make_input(run="r2"))
    gate.open()
    await collect(stream)


async def test_a_new_run_whose_caller_leaves_does_not_start_later(memory_factory: MemoryFactory) -> None:
    runner, agent = memory_factory(), Ending()
    stream = await start_and_end(runner, agent)
    second = asyncio.create_task(run_next(runner))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    agent.open()
    await collect(stream)
    assert await run_next(runner) == ["RUN_STARTED", "RUN_FINISHED"]


async def test_a_stop_that_is_taken_back_refuses_the_new_run_again(memory_factory: MemoryFactory) -> None:
    is_aborting = asyncio.Event()
    fail = asyncio.Event()

    class Unwilling(Gate):
        async def abort_run(self) -> None:
            is_aborting.set()
            await fail.wait()
            raise RuntimeError("no")

    runner, agent = memory_factory(), Unwilling()
    stream = await runner.run(agent, make_input())
    await agent.reached.wait()
    stopping = asyncio.create_task(runner.stop("t1"))
    await is_aborting.wait()
    second = asyncio.create_task(run_next(runner))
    await asyncio.sleep(0)
    fail.set()
    assert await stopping is False
    with pytest.raises(ThreadAlreadyRunning):
        await second
    agent.open()
    await collect(stream)


async def test_a_new_run_is_refused_when_the_end_takes_too_long(
    memory_factory: MemoryFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "ENDING_WAIT_SECONDS", 0.01)
    runner, agent = memory_factory(), Ending(says_end=True)
    stream = await start_and_end(runner, agent)
    with pytest.raises(ThreadAlreadyRunning):
        await run_next(runner)
    agent.open()
    await collect(stream)
