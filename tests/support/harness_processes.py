"""Harnesses that live and die over one store, as processes do."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from agentrunner import AgentRunner
from agentrunner.harness import Harness
from support.agents import agent_with
from support.events import run_finished, run_started, text_message
from support.harness import Mortal, crash

hello = agent_with(*text_message("m", "hello"))


class Process:
    """A harness over a store that may die, as a process of its own."""

    def __init__(self, store_factory, agents, **options) -> None:
        self.store = Mortal(store_factory())
        self.runner = AgentRunner(self.store)
        self.harness = Harness(self.runner, agents, **options)

    async def crash(self) -> None:
        await crash(self.harness, self.runner, self.store)


@asynccontextmanager
async def process(store_factory, agents, **options):
    """Give the harness of a process that ends in order, if it has not crashed by then."""
    one = Process(store_factory, agents, **options)
    try:
        await one.harness.open()
        yield one
    finally:
        if not one.store.dead:
            await one.harness.aclose()
            await one.runner.aclose()


class Steps:
    """An agent with checkpoints: it goes on by `resume` at the step it was at; it can be held at one."""

    def __init__(self, steps=3) -> None:
        self.steps = steps
        self.done: list[int] = []
        self.starts: list[str] = []
        self.held_at: int | None = None
        self.reached = asyncio.Event()

    async def run(self, input):
        async for event in self._go(input, "run"):
            yield event

    async def resume(self, input):
        async for event in self._go(input, "resume"):
            yield event

    async def _go(self, input, how):
        self.starts.append(how)
        yield run_started(input.thread_id, input.run_id)
        for step in range(len(self.done), self.steps):
            for event in text_message(f"{input.run_id}-{step}", f"{step} "):
                yield event
            if self.held_at == step:
                self.reached.set()
                await asyncio.Event().wait()
            self.done.append(step)
        yield run_finished(input.thread_id, input.run_id)


def ignored(task):
    if not task.cancelled():
        task.exception()
