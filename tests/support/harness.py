"""Helpers for tests of the harness: agents that ask, stores that die, lists of events."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from agentrunner import AgentRunner, MemoryStore, StoreError
from agentrunner.harness import Harness
from support.events import run_finished, run_started, text_message, tool_call
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from ag_ui.core import RunAgentInput

    from agentrunner import Store
    from agentrunner.harness import HarnessEvent


def interrupt(name: str, call: str | None = None, **fields: Any) -> dict[str, Any]:
    """Return an AG-UI interrupt, about a tool call if `call` is its id."""
    about = {"toolCallId": call} if call else {}
    return {"id": name, "reason": "tool_call", "message": f"{name}?", **about, **fields}


class Asking:
    """An agent that calls a tool, asks for approvals, and repeats the answers it gets.

    `rounds`: how often it asks. `answered`: the answers it got, a list for each run. `inputs`: the inputs of all runs.
    """

    def __init__(self, *interrupts: dict[str, Any], rounds: int = 1) -> None:
        self.interrupts = list(interrupts) or [interrupt("i1", "c1")]
        self.rounds = rounds
        self.answered: list[list[dict[str, Any]]] = []
        self.inputs: list[RunAgentInput] = []

    async def run(self, input: RunAgentInput) -> AsyncIterator[Any]:
        self.inputs.append(input)
        run = input.run_id
        yield run_started(input.thread_id, run)
        if input.resume:
            self.answered.append([entry.model_dump(by_alias=True) for entry in input.resume])
        if len(self.answered) < self.rounds:
            number = len(self.answered)
            for event in [
                *text_message(f"{run}-m", "May ", "I?"),
                *tool_call(f"c{number + 1}", "pay", '{"sum"', ": 1}"),
            ]:
                yield event
            questions = [dict(each, id=f"{each['id']}{'+' * number}") for each in self.interrupts]
            yield run_finished(input.thread_id, run, outcome={"type": "interrupt", "interrupts": questions})
            return
        for event in text_message(f"{run}-m", "Done: ", *(str(entry.payload) for entry in input.resume or ())):
            yield event
        yield run_finished(input.thread_id, run)


def listen(harness: Harness) -> list[HarnessEvent]:
    """Return a list to which the harness's events are added."""
    events: list[HarnessEvent] = []
    harness.subscribe(events.append)
    return events


def states(events: Sequence[HarnessEvent], run_id: str | None = None) -> list[str]:
    """Return the states through which a harness run has gone."""
    return [
        event.data["state"] for event in events if event.type == "run.state.changed" and run_id in (None, event.run_id)
    ]


async def drain_listeners(harness: Harness) -> None:
    """Wait until the listeners were called for all events so far."""
    await harness._state.bus.drain()


async def record_keys(store: Store, kind: str) -> list[str]:
    """Return the keys of a kind's records, at most 100."""
    return [record.key for record in await store.records(kind, None, None, 100) if record.kind == kind]


async def run_to_refusal(harness: Harness, thread_id: str, run_id: str = "again", **fields: Any) -> None:
    """Run the agent `a` as a stock client does, check the RUN_ERROR, and raise the refusal."""
    agent = harness.agents["a"].clone()
    (event,) = await collect(await harness.runner.run(agent, make_input(thread_id, run_id, **fields)))
    assert event["type"] == "RUN_ERROR"
    assert agent.refusal is not None
    assert event["code"] == agent.refusal.code
    assert event["message"] == str(agent.refusal)
    raise agent.refusal


async def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds."""
    while not condition():
        await asyncio.sleep(0.001)


class Mortal:
    """A store that dies at a chosen write, before or after it; every later call fails."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.writes = 0
        self.dies_at: int | None = None
        self.writes_last = False
        """Whether the write at which it dies is still made."""
        self.dead = False

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self.inner, name)
        if not callable(verb):
            return verb

        async def call(*arguments: Any, **options: Any) -> Any:
            if self.dead:
                raise StoreError("the store is dead")
            return await verb(*arguments, **options)

        return call

    async def aclose(self) -> None:
        if not self.dead:
            await self.inner.aclose()

    async def write(self, changes: Any, claim: Any = None) -> Any:
        if self.dead:
            raise StoreError("the store is dead")
        self.writes += 1
        if self.writes == self.dies_at:
            if self.writes_last:
                await self.inner.write(changes, claim)
            self.dead = True
            raise StoreError("the store has died")
        return await self.inner.write(changes, claim)


async def crash(harness: Harness, runner: AgentRunner, store: Mortal) -> None:
    """End a process like SIGKILL: it writes nothing more, and its leases are free."""
    store.dead = True
    await harness.aclose()
    await runner.aclose()
    if isinstance(store.inner, MemoryStore):
        await store.inner.abandon()
    else:
        await store.inner.aclose()


class Process:
    """A harness over a store that may die, as in a separate process."""

    def __init__(self, store_factory: Callable[[], Store], agents: Mapping[str, Any], **options: Any) -> None:
        self.store = Mortal(store_factory())
        self.runner = AgentRunner(self.store)
        self.harness = Harness(self.runner, agents, **options)

    async def crash(self) -> None:
        await crash(self.harness, self.runner, self.store)


@asynccontextmanager
async def process(
    store_factory: Callable[[], Store], agents: Mapping[str, Any], **options: Any
) -> AsyncIterator[Process]:
    """Return the harness of a process that shuts down in order, unless it has crashed."""
    one = Process(store_factory, agents, **options)
    try:
        await one.harness.open()
        yield one
    finally:
        if not one.store.dead:
            await one.harness.aclose()
            await one.runner.aclose()


class Steps:
    """An agent that resumes at the step it had reached, and can be made to stop at one."""

    def __init__(self, steps: int = 3) -> None:
        self.steps = steps
        self.done: list[int] = []
        self.starts: list[str] = []
        self.stop_at: int | None = None
        self.reached = asyncio.Event()

    async def run(self, input: RunAgentInput) -> AsyncIterator[Any]:
        async for event in self._run_steps(input, "run"):
            yield event

    async def resume(self, input: RunAgentInput) -> AsyncIterator[Any]:
        async for event in self._run_steps(input, "resume"):
            yield event

    async def _run_steps(self, input: RunAgentInput, how: str) -> AsyncIterator[Any]:
        self.starts.append(how)
        yield run_started(input.thread_id, input.run_id)
        for step in range(len(self.done), self.steps):
            for event in text_message(f"{input.run_id}-{step}", f"{step} "):
                yield event
            if self.stop_at == step:
                self.reached.set()
                await asyncio.Event().wait()
            self.done.append(step)
        yield run_finished(input.thread_id, input.run_id)


def ignore_result(task: asyncio.Task[Any]) -> None:
    """Retrieve a task's exception, so that asyncio does not log it."""
    if not task.cancelled():
        task.exception()
