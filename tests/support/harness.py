"""What the harness's tests share: agents that ask, and stores that die."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from agentrunner import MemoryStore, StoreError
from support.events import run_finished, run_started, text_message, tool_call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from ag_ui.core import RunAgentInput

    from agentrunner import AgentRunner, Store
    from agentrunner.harness import Harness, HarnessEvent


def interrupt(name: str, call: str | None = None, **fields: Any) -> dict[str, Any]:
    """Give an AG-UI interrupt."""
    about = {"toolCallId": call} if call else {}
    return {"id": name, "reason": "tool_call", "message": f"{name}?", **about, **fields}


class Asking:
    """An agent that calls a tool, asks for so many approvals, and when it is answered says what was answered.

    `answered`: what it was resumed with, each time; `inputs`: of all its runs.
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
            asked = [dict(each, id=f"{each['id']}{'+' * number}") for each in self.interrupts]
            yield run_finished(input.thread_id, run, outcome={"type": "interrupt", "interrupts": asked})
            return
        for event in text_message(f"{run}-m", "Done: ", *(str(entry.payload) for entry in input.resume or ())):
            yield event
        yield run_finished(input.thread_id, run)


def told(harness: Harness) -> list[HarnessEvent]:
    """Give a list that fills with what the harness tells."""
    events: list[HarnessEvent] = []
    harness.subscribe(events.append)
    return events


def states(events: Sequence[HarnessEvent], run_id: str | None = None) -> list[str]:
    """Give the states a run has gone through."""
    return [
        event.data["state"] for event in events if event.type == "run.state.changed" and run_id in (None, event.run_id)
    ]


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds."""
    while not condition():
        await asyncio.sleep(0.001)


class Mortal:
    """A store that dies at a chosen write: that one is made or not, and nothing after it."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner
        self.writes = 0
        self.dies_at: int | None = None
        self.made = False
        """Whether the write it dies at is made."""
        self.dead = False
        self.lease_ttl, self.shared = inner.lease_ttl, inner.shared

    def __getattr__(self, name: str) -> Any:
        verb = getattr(self.inner, name)

        async def forwarded(*arguments: Any) -> Any:
            if self.dead:
                raise StoreError("the store is dead")
            return await verb(*arguments)

        return forwarded

    async def aclose(self) -> None:
        if not self.dead:
            await self.inner.aclose()

    async def write(self, changes: Any, claim: Any = None) -> Any:
        if self.dead:
            raise StoreError("the store is dead")
        self.writes += 1
        if self.writes == self.dies_at:
            if self.made:
                await self.inner.write(changes, claim)
            self.dead = True
            raise StoreError("the store has died")
        return await self.inner.write(changes, claim)


async def crash(harness: Harness, runner: AgentRunner, store: Mortal) -> None:
    """Have a process end without a word: nothing it does from now on is written, and its leases are nobody's."""
    store.dead = True
    await harness.aclose()
    await runner.aclose()
    if isinstance(store.inner, MemoryStore):
        await store.inner.abandon()
    else:
        await store.inner.aclose()
