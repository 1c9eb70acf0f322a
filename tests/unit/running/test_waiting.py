"""The number of runs that wait for their thread is limited, and so are their inputs."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import ThreadAlreadyRunning, TooManyWaiting
from support.agents import Gate, agent_with
from support.asgi import client_of
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ag_ui.core import RunAgentInput

    from agentrunner import AgentRunner, InMemoryAgentRunner

    MemoryFactory = Callable[..., InMemoryAgentRunner]

pytestmark = pytest.mark.fault("A5")


async def start_waiting(runner: AgentRunner, *run_ids: str, thread: str = "t1", size: int = 0) -> list[asyncio.Task]:
    """Start runs that wait for a busy thread."""
    message = {"id": "u", "role": "user", "content": "x" * size}
    tasks = []
    for run_id in run_ids:
        run = make_input(thread, run_id, [message | {"id": run_id}] if size else [])
        tasks.append(asyncio.ensure_future(runner.run(agent_with(), run)))
        # One round of the loop reads the input, the next ones claim the thread.
        for _ in range(20):
            await asyncio.sleep(0)
    return tasks


async def finish(gate: Gate, *runs: Any) -> None:
    gate.open()
    for run in runs:
        await collect(await run)


class Deaf(Gate):
    """An agent that hears no stop, so that the runs that supersede it wait."""

    async def run(self, input: RunAgentInput) -> AsyncIterator[Any]:
        yield {"type": "RUN_STARTED", "threadId": input.thread_id, "runId": input.run_id}
        self.reached.set()
        while not self._opened.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await self._opened.wait()


@pytest.mark.parametrize(("policy", "kind"), [("enqueue", Gate), ("supersede", Deaf)])
async def test_a_thread_has_a_limited_number_of_waiting_runs(
    policy: str, kind: type[Gate], memory_factory: MemoryFactory
) -> None:
    runner, gate, other = memory_factory(on_concurrent_run=policy, max_waiting=2), kind(), kind()
    first = await runner.run(gate, make_input("t1", "r0"))
    second = await runner.run(other, make_input("t2", "s0"))
    await gate.reached.wait()
    waiting = await start_waiting(runner, "r1", "r2")
    with pytest.raises(TooManyWaiting, match="max_waiting"):
        await runner.run(agent_with(), make_input("t1", "r3"))
    # Other threads have lines of their own.
    elsewhere = await start_waiting(runner, "s1", thread="t2")
    await finish(gate, *waiting)
    await finish(other, *elsewhere)
    await collect(first)
    await collect(second)
    await collect(await runner.run(agent_with(), make_input("t1", "r3")))


async def test_a_run_that_leaves_the_line_makes_room(memory_factory: MemoryFactory) -> None:
    runner, gate = memory_factory(on_concurrent_run="enqueue", max_waiting=1), Gate()
    first = await runner.run(gate, make_input("t1", "r0"))
    for number in range(3):
        (waiting,) = await start_waiting(runner, f"r{number}")
        waiting.cancel()
        await asyncio.wait([waiting])
    waiting_runs = await start_waiting(runner, "r9")
    await finish(gate, *waiting_runs)
    await collect(first)


async def test_the_inputs_of_all_waiting_runs_are_limited_together(memory_factory: MemoryFactory) -> None:
    runner = memory_factory(on_concurrent_run="enqueue", max_waiting_bytes=25_000)
    gates = [Gate(), Gate()]
    live = [await runner.run(gate, make_input(f"t{n}", f"live{n}")) for n, gate in enumerate(gates)]
    waiting = await start_waiting(runner, "r0", thread="t0", size=10_000)
    waiting += await start_waiting(runner, "r1", thread="t1", size=10_000)
    (refused,) = await start_waiting(runner, "r2", thread="t1", size=10_000)
    with pytest.raises(TooManyWaiting, match="max_waiting_bytes"):
        await refused
    for gate in gates:
        gate.open()
    for run in waiting:
        await collect(await run)
    for stream in live:
        await collect(stream)


async def test_a_run_that_does_not_wait_is_not_limited(memory_factory: MemoryFactory) -> None:
    runner = memory_factory(on_concurrent_run="enqueue", max_waiting=0, max_waiting_bytes=0)
    await collect(await runner.run(agent_with(), make_input()))


async def test_with_the_policy_reject_a_full_line_is_a_busy_thread(memory_factory: MemoryFactory) -> None:
    runner, gate = memory_factory(max_waiting=0), Deaf()
    stream = await runner.run(gate, make_input("t1", "r0"))
    await gate.reached.wait()
    assert await runner.stop("t1")
    with pytest.raises(ThreadAlreadyRunning):
        await runner.run(agent_with(), make_input("t1", "r1"))
    await finish(gate)
    await collect(stream)


async def test_over_http_a_full_line_is_429_and_tells_when_to_try_again(memory_factory: MemoryFactory) -> None:
    gate = Gate()
    client = client_of(memory_factory(on_concurrent_run="enqueue", max_waiting=0), {"default": gate})
    async with client.open("POST", "/agent/default/run", make_input()) as run:
        await gate.reached.wait()
        answer = await client.post("/agent/default/run", make_input(run="r2"))
        assert (answer.status, answer.json()["code"]) == (429, "agent_queue_full")
        assert int(answer.headers["retry-after"]) > 0
        gate.open()
        await run.answer()


@pytest.mark.parametrize("name", ["max_waiting", "max_waiting_bytes"])
@pytest.mark.parametrize("value", [-1, 1.5, None, True])
def test_a_limit_that_is_no_number_is_refused(name: str, value: Any, memory_factory: MemoryFactory) -> None:
    with pytest.raises(ValueError, match=name):
        memory_factory(**{name: value})
