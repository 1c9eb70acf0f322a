"""A thread belongs to the scope of its first run, and does not exist for any other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import (
    AgentRunner,
    InvalidInput,
    RunAlreadyExists,
    ThreadAlreadyRunning,
    ThreadNotFound,
    current_run,
)
from support.agents import Gate, agent_with, failing_at_once
from support.events import run_finished, run_started
from support.inputs import make_input
from support.scopes import ALICE, BOB, check_refused, names, run_whole
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Callable

    Factory = Callable[..., AgentRunner]


@pytest.mark.parametrize("other", [BOB, None, "Alice", "alice "])
async def test_another_scopes_thread_is_not_found(runner: AgentRunner, other: str | None) -> None:
    await run_whole(runner, "t1", "r1", ALICE)
    before = await runner.threads.get("t1")
    await check_refused(runner, "t1", "r2", other)
    # The error must not even reveal that the run id is taken.
    await check_refused(runner, "t1", "r1", other)
    assert await runner.threads.get("t1") == before
    await run_whole(runner, "t1", "r2", ALICE)
    assert (await runner.threads.get("t1")).runs == 2


@pytest.mark.parametrize("how", ["reject", "supersede", "enqueue"])
async def test_a_running_thread_is_not_found_by_another_scope(runner_factory: Factory, how: str) -> None:
    runner = runner_factory(on_concurrent_run=how)
    gate = Gate()
    stream = await runner.run(gate, make_input("t1", "r1"), scope=ALICE)
    await gate.reached.wait()
    for other in (BOB, None):
        await check_refused(runner, "t1", "r2", other)
        await check_refused(runner, "t1", "r1", other)
    assert await runner.is_running("t1")
    assert not gate.cancelled
    gate.open()
    assert (await collect(stream))[-1]["type"] == "RUN_FINISHED"


@pytest.mark.parametrize("running", [True, False])
async def test_a_run_never_waits_for_a_run_of_another_scope(
    runner_factory: Factory, running: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = runner_factory(on_concurrent_run="enqueue")
    store = await runner.open()
    claim, claimed, release = store.claim, asyncio.Event(), asyncio.Event()

    async def slow(*arguments: Any) -> Any:
        answer = await claim(*arguments)
        claimed.set()
        await release.wait()
        return answer

    monkeypatch.setattr(store, "claim", slow)
    gate = Gate()
    first = asyncio.ensure_future(runner.run(gate, make_input("t1", "r1"), scope=ALICE))
    await claimed.wait()
    if running:
        release.set()
        await gate.reached.wait()
    second = asyncio.ensure_future(runner.run(agent_with(), make_input("t1", "r2"), scope=ALICE))
    await asyncio.sleep(0)
    with pytest.raises(ThreadNotFound):
        await runner.run(agent_with(), make_input("t1", "r3"), scope=BOB)
    assert not second.done()
    release.set()
    gate.open()
    await collect(await first)
    await collect(await second)
    assert (await runner.threads.get("t1")).runs == 2


async def test_the_own_scope_gets_the_usual_errors(runner: AgentRunner) -> None:
    await run_whole(runner, "t1", "taken", ALICE)
    gate = Gate()
    stream = await runner.run(gate, make_input("t1", "r1"), scope=ALICE)
    await gate.reached.wait()
    with pytest.raises(ThreadAlreadyRunning):
        await runner.run(agent_with(), make_input("t1", "r2"), scope=ALICE)
    gate.open()
    await collect(stream)
    with pytest.raises(RunAlreadyExists):
        await runner.run(agent_with(), make_input("t1", "taken"), scope=ALICE)


async def test_a_thread_without_a_scope_is_for_runs_without_one(runner: AgentRunner) -> None:
    await run_whole(runner, "t1", "r1")
    await check_refused(runner, "t1", "r2", ALICE)
    gate = Gate()
    stream = await runner.run(gate, make_input("t2", "r3"))
    await gate.reached.wait()
    await check_refused(runner, "t2", "r4", ALICE)
    gate.open()
    await collect(stream)
    await run_whole(runner, "t1", "r2")
    assert (await runner.threads.get("t1")).scope is None


@pytest.mark.parametrize("owner", [ALICE, None])
async def test_after_a_first_run_without_events_any_scope_may_use_the_thread(
    runner: AgentRunner, owner: str | None
) -> None:
    ended = await collect(await runner.run(failing_at_once, make_input("t1", "r1"), scope=owner))
    assert [event["type"] for event in ended] == ["RUN_ERROR"]
    with pytest.raises(ThreadNotFound):
        await runner.threads.get("t1")
    # A cursor of the vanished run is still accepted.
    assert await collect(await runner.connect("t1", after="1")) == []
    stream = await runner.run(agent_with(), make_input("t1", "r2"), scope=BOB)
    assert [event.seq async for event in stream] == [2, 3]
    assert (await runner.threads.get("t1")).scope == BOB
    await check_refused(runner, "t1", "r3", owner)


async def test_a_later_run_without_events_does_not_change_the_scope(runner: AgentRunner) -> None:
    await run_whole(runner, "t1", "r1", ALICE)
    await collect(await runner.run(failing_at_once, make_input("t1", "r2"), scope=ALICE))
    await check_refused(runner, "t1", "r3", BOB)
    assert (await runner.threads.get("t1")).scope == ALICE


async def test_a_name_is_dropped_with_a_first_run_without_events(runner: AgentRunner) -> None:
    reached, go = asyncio.Event(), asyncio.Event()

    async def silent(_: Any) -> Any:
        reached.set()
        await go.wait()
        raise RuntimeError("nothing to say")
        yield

    stream = await runner.run(silent, make_input("t1", "r1"), scope=ALICE, agent_id="a")
    await reached.wait()
    await runner.threads.rename("t1", "alice's secret")
    await runner.threads.archive("t1")
    go.set()
    await collect(stream)
    await run_whole(runner, "t1", "r2", BOB)
    thread = await runner.threads.get("t1")
    assert (thread.name, thread.archived, thread.agent_id) == (None, False, None)


async def test_a_deleted_thread_is_free_for_another_scope(runner: AgentRunner) -> None:
    await run_whole(runner, "t1", "r1", ALICE)
    await runner.threads.delete("t1")
    await run_whole(runner, "t1", "r1", BOB)
    assert (await runner.threads.get("t1")).scope == BOB
    await check_refused(runner, "t1", "r2", ALICE)


async def test_one_of_two_scopes_that_start_at_once_wins(runner: AgentRunner) -> None:
    for n in range(20):
        outcomes = await asyncio.gather(
            *(runner.run(agent_with(), make_input(f"t{n}", f"{scope}{n}"), scope=scope) for scope in (ALICE, BOB)),
            return_exceptions=True,
        )
        lost = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        assert [type(error) for error in lost] == [ThreadNotFound]
        winner = (ALICE, BOB)[outcomes.index(lost[0]) - 1]
        assert (await runner.threads.get(f"t{n}")).scope == winner


@pytest.mark.parametrize("scope", ["", "x" * 1025, "ü" * 513, "\ud800"])
async def test_an_invalid_scope_is_refused(runner: AgentRunner, scope: str) -> None:
    with pytest.raises(InvalidInput):
        await runner.run(agent_with(), make_input("t1", "r1"), scope=scope)
    with pytest.raises(ThreadNotFound):
        await runner.threads.get("t1")


@pytest.mark.parametrize("scope", ["x" * 1024, "ü" * 512, "'; DROP TABLE threads; --", "\U0001f511"])
async def test_any_other_text_is_a_scope(runner: AgentRunner, scope: str) -> None:
    await run_whole(runner, "t1", "r1", scope)
    assert (await runner.threads.get("t1")).scope == scope
    assert await names(runner, scope=scope) == {"t1"}


async def test_a_scope_with_a_nul_is_a_scope_or_refused(runner: AgentRunner) -> None:
    await run_whole(runner, "t1", "r1", ALICE)
    with pytest.raises((ThreadNotFound, InvalidInput)):
        await run_whole(runner, "t1", "r2", f"{ALICE}\0")
    try:
        await run_whole(runner, "t2", "r2", "a\0b")
    except InvalidInput:
        # PostgreSQL cannot store text with a NUL.
        assert await names(runner) == {"t1"}
    else:
        assert (await runner.threads.get("t2")).scope == "a\0b"


async def test_the_agent_knows_its_scope_and_headers(runner: AgentRunner) -> None:
    seen = []

    async def agent(input: Any) -> Any:
        seen.append(current_run())
        yield run_started(input.thread_id, input.run_id)
        yield run_finished(input.thread_id, input.run_id)

    headers = {"authorization": "Bearer x"}
    await collect(await runner.run(agent, make_input("t1", "r1"), scope=ALICE, headers=headers))
    await collect(await runner.run(agent, make_input("t2", "r2")))
    assert [(run.thread_id, run.scope, run.headers) for run in seen] == [("t1", ALICE, headers), ("t2", None, {})]
