"""Threads that are moved to another scope, as when an anonymous user signs in."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import CursorAhead, InvalidInput, MemoryStore, StoreError, ThreadAlreadyRunning, ThreadNotFound
from agentrunner.harness import Harness
from agentrunner.running.current import current_run
from agentrunner.runtime import AgentRuntime
from agentrunner.stores.guards import move_thread
from agentrunner.types import ANY_SCOPE
from support import backends
from support.agents import Gate, agent_with
from support.events import text_message
from support.harness import Asking
from support.inputs import make_input
from support.scopes import ALICE, BOB, check_refused, names, run_whole
from support.scripted_model import ScriptedModel, reply
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from agentrunner import AgentRunner

pytestmark = pytest.mark.fault("D17")

VISITOR = "visitor-17"


async def test_a_thread_moves_with_everything_it_has(runner: AgentRunner) -> None:
    for thread_id in ("t1", "t2", "t3"):
        await run_whole(runner, thread_id, "r1", VISITOR)
    await runner.threads.rename("t1", "Holiday plans")
    await runner.threads.archive("t2")
    before = {each.thread_id: each for each in await runner.threads.list(scope=VISITOR, include_archived=True)}
    events = await runner.threads.events("t1")
    for thread_id in ("t1", "t2"):
        await runner.threads.move(thread_id, ALICE, from_scope=VISITOR)
    moved = {each.thread_id: each for each in await runner.threads.list(scope=ALICE, include_archived=True)}
    assert moved == {thread_id: replace(before[thread_id], scope=ALICE) for thread_id in ("t1", "t2")}
    assert await names(runner, scope=VISITOR) == {"t3"}
    assert await runner.threads.events("t1", scope=ALICE) == events
    assert await runner.threads.events("t1", scope=VISITOR) == []
    await check_refused(runner, "t1", "r2", VISITOR)
    await run_whole(runner, "t1", "r2", ALICE)


async def test_streams_of_the_old_scope_end_and_cursors_are_good_in_the_new_one(runner: AgentRunner) -> None:
    for run_id in ("r1", "r2", "r3"):
        agent = agent_with(*text_message(f"m-{run_id}", "first" * 8000))
        await collect(await runner.run(agent, make_input("t", run_id), scope=VISITOR))
    stream = await runner.connect("t", scope=VISITOR)
    first = await anext(stream)
    unread = await runner.connect("t", scope=VISITOR)
    await runner.threads.move("t", ALICE)
    hers = agent_with(*text_message("m-hers", "for alice only"))
    await collect(await runner.run(hers, make_input("t", "r4"), scope=ALICE))
    # The page that was read before the move may still come.
    assert [event.to_dict()["runId"] async for event in stream if event.type == "RUN_STARTED"] == []
    assert [event async for event in unread] == []
    with pytest.raises(CursorAhead):
        await runner.connect("t", after=first.cursor, scope=VISITOR)
    rest = [event.to_dict() async for event in runner.connect("t", after=first.cursor, scope=ALICE)]
    assert [event["runId"] for event in rest if event["type"] == "RUN_STARTED"] == ["r2", "r3", "r4"]


async def test_a_refused_move_changes_nothing(runner: AgentRunner) -> None:
    await run_whole(runner, "t", "r1", BOB)
    for scope in ("", "a\0b", "x" * 1025, ANY_SCOPE, 5, "\ud800"):
        with pytest.raises(InvalidInput):
            await runner.threads.move("t", scope)  # type: ignore[arg-type]
    for arguments in ({"from_scope": VISITOR}, {"from_scope": None}):
        with pytest.raises(ThreadNotFound):
            await runner.threads.move("t", ALICE, **arguments)
    with pytest.raises(ThreadNotFound):
        await runner.threads.move("nowhere", ALICE)
    gate = Gate()
    stream = await runner.run(gate, make_input("t", "r2"), scope=BOB)
    await gate.reached.wait()
    with pytest.raises(ThreadAlreadyRunning):
        await runner.threads.move("t", ALICE)
    gate.open()
    await collect(stream)
    assert await names(runner) == await names(runner, scope=BOB) == {"t"}


class Scoped(Asking):
    """Asks for an approval, and notes the scope that each of its runs is in."""

    def __init__(self) -> None:
        super().__init__()
        self.scopes: list[str | None] = []

    async def run(self, input: Any) -> AsyncIterator[Any]:
        self.scopes.append(current_run().scope)
        async for event in super().run(input):
            yield event


@backends.embedded
async def test_a_waiting_harness_run_continues_in_the_new_scope(runner: AgentRunner) -> None:
    agent = Scoped()
    async with Harness(runner, {"a": agent}) as harness:
        await harness.run("hi", thread_id="t", run_id="r", scope=VISITOR)
        await runner.threads.move("t", ALICE)
        result = await harness.decide("r/i1", "approve")
        assert (result.state, agent.scopes) == ("completed", [VISITOR, ALICE])
        assert (await harness.run_record("r")).scope == ALICE


@backends.in_memory
async def test_a_harness_run_whose_thread_moves_just_before_it_continues(runner: AgentRunner, monkeypatch: Any) -> None:
    agent = Scoped()
    async with Harness(runner, {"a": agent}) as harness:
        await harness.run("hi", thread_id="t", run_id="r", scope=VISITOR)
        run = runner.run

        async def move_and_run(*arguments: Any, **options: Any) -> Any:
            monkeypatch.setattr(runner, "run", run)
            await runner.threads.move("t", ALICE)
            return await run(*arguments, **options)

        monkeypatch.setattr(runner, "run", move_and_run)
        assert (await harness.decide("r/i1", "approve")).state == "completed"
        assert agent.scopes == [VISITOR, ALICE]


@backends.in_memory
async def test_the_interrupts_of_a_cancelled_run_are_closed_in_the_new_scope(runner: AgentRunner) -> None:
    async with Harness(runner, {"a": Asking()}) as harness:
        await harness.run("hi", thread_id="t", run_id="r", scope=VISITOR)
        await runner.threads.move("t", ALICE)
        assert await harness.cancel("r")
        events = await runner.threads.events("t", scope=ALICE)
        assert events[-1].to_dict()["outcome"] == {"type": "cancelled"}


@backends.in_memory
async def test_the_session_of_a_runtime_goes_along(runner: AgentRunner) -> None:
    model = ScriptedModel(reply("one"), reply("two"))
    runtime = AgentRuntime(model)
    await collect(await runner.run(runtime, make_input("t", "r1", ["u1"]), scope=VISITOR))
    await runner.threads.move("t", ALICE)
    await collect(await runner.run(runtime, make_input("t", "r2", ["u2"]), scope=ALICE))
    assert [message["role"] for message in await runner.threads.messages("t", scope=ALICE)] == [
        "user", "assistant", "user", "assistant",
    ]  # fmt: skip
    assert len(model.requests[-1].messages) == 3


class StoreThatCannotMove(MemoryStore):
    """A user's store that was written before `move` was part of the protocol."""

    def __getattribute__(self, name: str) -> Any:
        if name == "move":
            raise AttributeError(name)
        return super().__getattribute__(name)


async def test_a_store_without_the_method_says_so() -> None:
    with pytest.raises(StoreError, match=r"StoreThatCannotMove cannot move threads.*`move`"):
        await move_thread(StoreThatCannotMove(), "t", ALICE, None)
