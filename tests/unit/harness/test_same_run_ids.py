"""Two threads, perhaps of two tenants, whose runs have the same id."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentrunner import AgentRunner, InvalidInput, MemoryStore, ThreadNotFound
from agentrunner.harness import AmbiguousId, ApprovalNotFound, Harness, RecordRetention, RunNotFound
from agentrunner.records import kinds
from agentrunner.stores import Change
from support import backends
from support.agents import Gate
from support.fixtures import fixture_lines
from support.harness import Asking, Steps, process
from support.scopes import ALICE, BOB

pytestmark = pytest.mark.fault("C7")


class PerThread:
    """An agent for all threads that asks once on each, and repeats the answer."""

    def __init__(self) -> None:
        self.agents: dict[str, Asking] = {}

    async def run(self, input: Any) -> Any:
        async for event in self.agents.setdefault(input.thread_id, Asking()).run(input):
            yield event

    def answers(self, thread_id: str) -> list[Any]:
        return [answer["payload"] for answers in self.agents[thread_id].answered for answer in answers]


async def test_runs_of_one_id_have_approvals_and_decisions_of_their_own(runner: AgentRunner) -> None:
    agent = PerThread()
    async with Harness(runner, {"a": agent}) as harness:
        for thread_id, scope in (("hers", ALICE), ("his", BOB)):
            result = await harness.run("hi", thread_id=thread_id, run_id="r", scope=scope)
            assert (result.thread_id, result.state) == (thread_id, "waiting_for_approval")
            assert [each.thread_id for each in result.approvals] == [thread_id]
        assert {each.thread_id for each in await harness.approvals()} == {"hers", "his"}
        rejected = await harness.decide("r/i1", "reject", thread_id="his")
        assert (rejected.state, rejected.thread_id) == ("completed", "his")
        assert [each.thread_id for each in await harness.approvals()] == ["hers"]
        assert (await harness.run_record("r", thread_id="hers")).state == "waiting_for_approval"
        approved = await harness.decide("r/i1", "approve", scope=ALICE)
        assert (approved.state, approved.thread_id) == ("completed", "hers")
        assert (agent.answers("his"), agent.answers("hers")) == ([{"approved": False}], [{"approved": True}])
        assert [run.thread_id for run in await harness.runs(state="completed")] == ["hers", "his"]


@backends.in_memory
async def test_an_id_that_two_threads_have_needs_the_thread_or_the_scope(runner: AgentRunner) -> None:
    async with Harness(runner, {"a": PerThread()}) as harness:
        for thread_id, scope in (("hers", ALICE), ("his", BOB)):
            await harness.run("hi", thread_id=thread_id, run_id="r", scope=scope)
        for ask in (harness.run_record, harness.wait, harness.events, harness.cancel):
            with pytest.raises(AmbiguousId, match="both have a run 'r': pass thread_id"):
                await ask("r")
        for call in (harness.approval("r/i1"), harness.decide("r/i1", "approve")):
            with pytest.raises(AmbiguousId, match="both have an approval 'r/i1': pass thread_id"):
                await call
        assert {approval.state(0) for approval in await harness.approvals(state=None)} == {"open"}
        assert (await harness.wait("r", scope=BOB)).thread_id == "his"
        assert {event.thread_id for event in await harness.events("r", thread_id="hers")} == {"hers"}
        assert (await harness.approval("r/i1", scope=ALICE)).thread_id == "hers"
        assert await harness.cancel("r", thread_id="hers")
        assert (await harness.run_record("r", scope=BOB)).state == "waiting_for_approval"


@backends.in_memory
async def test_the_runs_of_another_scope_are_unknown(runner: AgentRunner) -> None:
    async with Harness(runner, {"a": PerThread()}) as harness:
        await harness.run("hi", thread_id="hers", run_id="r", scope=ALICE)
        own_run = await harness.run_record("r", scope=ALICE)
        for scope in (BOB, None):
            for ask in (harness.run_record, harness.wait, harness.events, harness.cancel):
                for where in ({}, {"thread_id": "hers"}):
                    with pytest.raises(RunNotFound):
                        await ask("r", scope=scope, **where)
            for call in (
                harness.approval("r/i1", scope=scope), harness.decide("r/i1", "approve", scope=scope),
                harness.resume(thread_id="hers", decision="approve", scope=scope),
            ):  # fmt: skip
                with pytest.raises(ApprovalNotFound):
                    await call
            with pytest.raises(ThreadNotFound):
                await harness.restart_conversation("hers", scope=scope)
            assert await harness.runs(scope=scope) == await harness.runs("hers", scope=scope) == []
            assert (
                await harness.approvals(scope=scope) == await harness.approvals("hers", scope=scope, state=None) == []
            )
        assert await harness.runs(scope=ALICE) == [own_run]
        assert [each.approval_id for each in await harness.approvals("hers", scope=ALICE)] == ["r/i1"]
        with pytest.raises(InvalidInput):
            await harness.runs(scope=5)  # type: ignore[arg-type]
        await harness.restart_conversation("hers", scope=ALICE)
        assert await harness.runs() == []


@backends.in_memory
async def test_the_queries_follow_a_thread_that_is_moved(runner: AgentRunner) -> None:
    async with Harness(runner, {"a": PerThread()}) as harness:
        await harness.run("hi", thread_id="t", run_id="r", scope=ALICE)
        await runner.threads.move("t", BOB)
        assert await harness.approvals(scope=ALICE) == await harness.runs(scope=ALICE) == []
        with pytest.raises(ApprovalNotFound):
            await harness.decide("r/i1", "approve", scope=ALICE)
        assert (await harness.decide("r/i1", "approve", scope=BOB)).state == "completed"


@backends.embedded
async def test_runs_of_one_id_have_slots_of_their_own(runner: AgentRunner) -> None:
    gates: dict[str, Gate] = {"t1": Gate(), "t2": Gate()}

    async def agent(input: Any) -> Any:
        async for event in gates[input.thread_id].run(input):
            yield event

    async with Harness(runner, {"a": agent}, max_concurrent_runs=1) as harness:
        running = []
        for thread_id in gates:
            running.append(asyncio.ensure_future(harness.run("hi", thread_id=thread_id, run_id="r")))
            while not await harness.runs(thread_id):
                await asyncio.sleep(0.001)
        await gates["t1"].reached.wait()
        assert [run.state for run in await harness.runs("t2")] == ["queued"]
        assert not gates["t2"].reached.is_set()
        gates["t1"].open()
        await gates["t2"].reached.wait()
        gates["t2"].open()
        assert [(await each).state for each in running] == ["completed", "completed"]


async def test_runs_of_one_id_are_recovered_apart() -> None:
    store = MemoryStore()
    agents = {"a": Steps(), "b": Steps()}
    for steps in agents.values():
        steps.stop_at = 1
    async with process(lambda: store, agents) as one:
        for name, steps in agents.items():
            asyncio.ensure_future(one.harness.run("hi", agent=name, thread_id=name, run_id="r"))  # noqa: RUF006
            await steps.reached.wait()
        await one.crash()
    for steps in agents.values():
        steps.stop_at = None
    async with process(lambda: store, agents) as two:
        for name, steps in agents.items():
            assert (await two.harness.wait("r", thread_id=name)).state == "completed"
            assert (steps.starts, steps.done) == (["run", "resume"], [0, 1, 2])


@backends.in_memory
async def test_ids_may_be_long_and_have_slashes(runner: AgentRunner) -> None:
    agent = PerThread()
    async with Harness(runner, {"a": agent}) as harness:
        for run_id in ("a/b", "a%2Fb", "/" * 1000, "é" * 500):
            for thread_id in (f"1{run_id}", f"2{run_id}"):
                await harness.run("hi", thread_id=thread_id, run_id=run_id)
                (approval,) = await harness.approvals(thread_id)
                await harness.decide(approval.approval_id, "approve", thread_id=thread_id)
                assert (await harness.run_record(run_id, thread_id=thread_id)).state == "completed"
            with pytest.raises(AmbiguousId):
                await harness.run_record(run_id)


async def test_records_of_0_1_0_are_not_taken_for_another_threads() -> None:
    store = MemoryStore()
    for kind, key, thread_id, value in fixture_lines("records-0.1.0-waiting"):
        await store.write([Change(kind, key, thread_id, value.encode())])
    agent = PerThread()
    async with AgentRunner(store) as runner, Harness(runner, {"a": agent, "rt": agent}) as harness:
        # The run 'r' of thread 't' is of version 0.1.0.
        result = await harness.run("hi", agent="a", thread_id="new", run_id="r")
        assert (result.thread_id, result.state) == ("new", "waiting_for_approval")
        with pytest.raises(AmbiguousId):
            await harness.decide("r/i1", "approve")
        assert (await harness.decide("r/i1", "reject", thread_id="new")).state == "completed"
        assert (await harness.run_record("r", thread_id="t")).state == "waiting_for_approval"
        agent.agents["t"] = Asking(rounds=0)
        assert (await harness.decide("r/i1", "approve", thread_id="t")).state == "completed"
        assert (agent.answers("new"), agent.answers("t")) == ([{"approved": False}], [{"approved": True}])


async def test_retention_removes_the_records_of_one_thread_only() -> None:
    store, agent = MemoryStore(), PerThread()
    retention = RecordRetention(max_count=1)
    async with AgentRunner(store) as runner, Harness(runner, {"a": agent}, retention=retention) as harness:
        for thread_id in ("t1", "t2"):
            await harness.run("hi", thread_id=thread_id, run_id="r")
            await harness.decide("r/i1", "approve", thread_id=thread_id)
        await harness.run("again", thread_id="t1", run_id="r2")
        await harness.cancel("r2")
        assert await harness.prune() == 1
        assert [run.run_id for run in await harness.runs("t1")] == ["r2"]
        assert [run.run_id for run in await harness.runs("t2")] == ["r"]
        attempts = [record.thread_id async for record in kinds.ATTEMPT.iterate(store)]
        assert attempts == ["t2"]
        assert [each.approval_id for each in await harness.approvals("t2", state=None)] == ["r/i1"]
