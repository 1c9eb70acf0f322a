"""A harness in random operations against a small model, its process crashing at any write."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from agentrunner import AgentRunner, AgentRunnerError, MemoryStore, RecordConflict, current_run
from agentrunner.harness import AlreadyDecided, Harness, InterruptsOpen, Recovery
from agentrunner.records import kinds
from agentrunner.stores import Change
from agentrunner.stores.urls import store_from_url
from support import backends
from support.events import run_finished, run_started, text_message
from support.harness import Mortal, crash, interrupt

pytestmark = pytest.mark.slow

EXAMPLES = {"memory": 250, "sqlite": 30, "postgres": 12}
"""Number of examples by backend; 8 on any other."""
MAX_ATTEMPTS = 3
SLOTS = 2


@dataclass
class Thread:
    """What the model knows about a thread."""

    name: str
    runs: int = 0
    waiting: str | None = None
    """The waiting run, as far as callers know."""
    decided: dict[str, str] = field(default_factory=dict)
    """The decisions that callers know of, by approval."""


class World:
    """What is outside the processes: payments by tools, and starts of agents."""

    def __init__(self) -> None:
        self.paid: list[str] = []
        self.begun: dict[str, int] = {}
        """Starts of the agent by run and the answers it got."""

    async def agent(self, input):
        """Ask, and pay for each approval once, by a ledger."""
        run = current_run()
        answers = input.resume or ()
        answered = answers[0].interrupt_id if answers else None
        key = f"{input.thread_id}/{answered or input.run_id}"
        self.begun[key] = self.begun.get(key, 0) + 1
        yield run_started(input.thread_id, input.run_id)
        for event in text_message(f"{input.run_id}-m", "Well, ", "now."):
            yield event
        if answers and answers[0].payload["approved"]:
            await self.pay(run, f"{input.thread_id}/{answered}")
        # The input says how often the run asks.
        rest = int(input.forwarded_props["asks"]) - (int(answered.rpartition("-")[2]) + 1 if answered else 0)
        if rest > 0:
            number = int(input.forwarded_props["asks"]) - rest
            name = f"{input.forwarded_props['name']}-{number}"
            yield run_finished(
                input.thread_id, input.run_id, outcome={"type": "interrupt", "interrupts": [interrupt(name)]}
            )
        else:
            yield run_finished(input.thread_id, input.run_id)

    async def pay(self, run: Any, key: str) -> None:
        try:
            await run.store.write([Change("tool", key, run.thread_id, b"started", 0)], run.claim)
        except RecordConflict:
            return
        self.paid.append(key)


class Resumable:
    """The same agent with checkpoints: `resume` gets the same input as `run`."""

    def __init__(self, world: World) -> None:
        self.run = self.resume = world.agent


class Machine(RuleBasedStateMachine):
    backend: ClassVar[str]
    folder: ClassVar[Any]
    worlds: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.world = World()
        self.known = {name: Thread(name) for name in ("t0", "t1")}
        self.place: Any = None

    def run_async(self, coroutine):
        return self.loop.run(asyncio.wait_for(coroutine, 20))

    @initialize()
    def begin(self) -> None:
        type(self).worlds += 1
        if self.backend == "memory":
            memory = MemoryStore()
            self.make = lambda: memory
        else:
            folder = self.folder / str(self.worlds)
            folder.mkdir()
            self.place = backends.place(self.backend, folder)
            location = self.place.__enter__()
            self.make = lambda: store_from_url(location)
        self.run_async(self.start())

    def teardown(self) -> None:
        if hasattr(self, "harness"):
            self.run_async(self.stop())
        self.loop.close()
        if self.place is not None:
            self.place.__exit__(None, None, None)

    async def start(self) -> None:
        self.store = Mortal(self.make())
        self.runner = AgentRunner(self.store)
        self.harness = Harness(
            self.runner,
            {"a": self.world.agent, "b": Resumable(self.world)},
            max_concurrent_runs=SLOTS,
            recovery=Recovery(max_attempts=MAX_ATTEMPTS),
        )
        await self.harness.open()
        # Recovered runs continue to their end or to their next question.
        for run in await self.harness.runs():
            if run.state in ("queued", "running", "resuming"):
                await self.harness.wait(run.run_id)

    async def stop(self) -> None:
        await self.harness.aclose()
        await self.runner.aclose()

    async def crash(self) -> None:
        await crash(self.harness, self.runner, self.store)
        await self.start()

    def mortal(self, dies: int | None, writes_last: bool) -> None:
        if dies is not None:
            self.store.dies_at, self.store.writes_last = self.store.writes + dies, writes_last

    async def survive(self) -> None:
        """Start a new process if this one has died."""
        if self.store.dead:
            await self.crash()
        self.store.dies_at = None

    dying = st.sampled_from([None, 1, 2, 2, 3, 4, 5])
    names = st.sampled_from(["t0", "t1"])

    # Operations

    @rule(name=names, agent=st.sampled_from("ab"), asks=st.integers(0, 2), dies=dying, writes_last=st.booleans())
    def run(self, name: str, agent: str, asks: int, dies: int | None, writes_last: bool) -> None:
        async def work() -> None:
            thread = self.known[name]
            thread.runs += 1
            run_id = f"{name}-r{thread.runs}"
            before = await self.waiting(name)
            fields = {
                "threadId": name, "runId": run_id, "messages": [],
                "forwardedProps": {"asks": asks, "name": run_id},
            }  # fmt: skip
            self.mortal(dies, writes_last)
            try:
                result = await self.harness.run(fields, agent=agent)
            except InterruptsOpen:
                assert before
            except AgentRunnerError:
                assert self.store.dead
            else:
                assert not before
                if not self.store.dead:
                    assert result.state == ("waiting_for_approval" if asks else "completed")
                    assert result.content == "Well, now."
            await self.survive()

        self.run_async(work())

    @rule(
        name=names, decision=st.sampled_from(["approve", "reject"]), dies=dying, writes_last=st.booleans(),
    )  # fmt: skip
    def decide(self, name: str, decision: Any, dies: int | None, writes_last: bool) -> None:
        async def work() -> None:
            thread = self.known[name]
            approvals = await self.harness.approvals(name, state=None)
            if not approvals:
                return
            approval = approvals[-1]
            self.mortal(dies, writes_last)
            try:
                result = await self.harness.resume(approval_id=approval.approval_id, decision=decision)
            except AlreadyDecided:
                assert not approval.open
                assert approval.decision != decision
            except AgentRunnerError:
                assert self.store.dead
            else:
                assert approval.open or approval.decision == decision
                if not self.store.dead:
                    assert result.state in ("waiting_for_approval", "completed", "failed")
                    thread.decided[approval.approval_id] = decision
            await self.survive()

        self.run_async(work())

    @rule(name=names, dies=dying, writes_last=st.booleans())
    def cancel(self, name: str, dies: int | None, writes_last: bool) -> None:
        async def work() -> None:
            waiting = await self.waiting(name)
            for run in waiting:
                self.mortal(dies, writes_last)
                try:
                    assert await self.harness.cancel(run)
                except AgentRunnerError:
                    assert self.store.dead
                if not self.store.dead:
                    assert (await self.harness.run_record(run)).state == "cancelled"
                await self.survive()

        self.run_async(work())

    @rule(name=names)
    def restart_conversation(self, name: str) -> None:
        async def work() -> None:
            self.known[name] = Thread(name, self.known[name].runs)
            if await self.harness.runs(name):
                await self.harness.restart_conversation(name)
                assert await self.store.records(None, name, None, 10) == []
                assert await self.runner.threads.events(name) == []

        self.run_async(work())

    @rule(crashes=st.booleans())
    def restart(self, crashes: bool) -> None:
        async def work() -> None:
            if crashes:
                await self.crash()
            else:
                await self.stop()
                await self.start()

        self.run_async(work())

    # Invariants

    async def waiting(self, name: str) -> list[str]:
        return [run.run_id for run in await self.harness.runs(name, state="waiting_for_approval")]

    @invariant()
    def everything_is_in_order(self) -> None:
        if not hasattr(self, "harness"):
            return

        async def work() -> None:
            runs = await self.harness.runs()
            store = self.store
            # At rest a run has ended, or waits for an open approval.
            open_ones = {each.approval_id for each in await self.harness.approvals()}
            active = [mark.key for mark in await store.records("active", None, None, 1000) if mark.kind == "active"]
            assert sorted(active) == sorted(run.key for run in runs if not run.ended)
            for run in runs:
                assert run.ended or run.state == "waiting_for_approval", run
                if run.state == "waiting_for_approval":
                    assert open_ones & set(run.waits_for), run
                self.check_events(run)
            assert all(sum(run.waits_for[-1:] == [name] for run in runs) <= 1 for name in open_ones)
            assert await store.live() == []
            # Ended runs leave no intents and no slots.
            assert [each for each in await store.records("intent", None, None, 10) if each.kind == "intent"] == []
            slots = await store.record("slots", "default")
            if slots is not None:
                assert [
                    owner
                    for _, owner in kinds.SLOTS.decode(slots)["held"]
                    if owner == self.harness._state.liveness.owner_id
                ] == []
            # Nothing is paid twice, without an approval, or after a rejection.
            assert len(self.world.paid) == len(set(self.world.paid))
            for thread in self.known.values():
                approvals = {each.approval_id: each for each in await self.harness.approvals(thread.name, state=None)}
                for name, decision in thread.decided.items():
                    assert approvals[name].decision == decision
                for approval in approvals.values():
                    if approval.decision in (None, "reject", "withdrawn"):
                        assert f"{thread.name}/{approval.interrupt_id}" not in self.world.paid
            assert all(count <= MAX_ATTEMPTS for count in self.world.begun.values())

        self.run_async(work())

    def check_events(self, run: Any) -> None:
        """Check that events are numbered, states follow each other, approvals resolve once."""
        assert [e.seq for e in run.events] == sorted({e.seq for e in run.events})
        state = "queued"
        for event in run.events:
            if event.type == "run.state.changed":
                assert event.data["previous"] == state
                state = event.data["state"]
        assert state == run.state
        resolved = [e.data["approval_id"] for e in run.events if e.type == "approval.resolved"]
        assert len(resolved) == len(set(resolved))


@pytest.mark.parametrize("backend", backends.ALL)
def test_random_operations(backend, tmp_path):
    backends.needs(backend)
    logging.disable(logging.CRITICAL)
    machine = type("Machine", (Machine,), {"backend": backend, "folder": tmp_path})
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=EXAMPLES.get(backend, 8), stateful_step_count=20, deadline=None, derandomize=True,
                suppress_health_check=list(HealthCheck),
            ),
        )  # fmt: skip
    finally:
        logging.disable(logging.NOTSET)
