"""A run's new messages are stored, even if its agent fails before its first event."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import AgentRunner, MemoryStore, RunAlreadyExists, verify
from agentrunner.harness import Harness
from support.agents import agent_with, failing_at_once, scripted_agent
from support.backends import embedded, in_memory
from support.events import event_types, text_message
from support.harness import Mortal, until
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import Store

FAILED = ["RUN_STARTED", "RUN_ERROR"]
STOPPED = ["RUN_STARTED", "RUN_FINISHED"]


class Silent:
    """An agent that yields nothing until it is told to end."""

    def __init__(self) -> None:
        self.has_started = asyncio.Event()

    async def run(self, input: Any) -> Any:
        self.has_started.set()
        await asyncio.Event().wait()
        yield


async def ids(runner: AgentRunner, thread_id: str = "t1") -> list[str]:
    """Return the ids of a thread's messages."""
    return [message["id"] for message in await runner.threads.messages(thread_id)]


async def check_all_readers(runner: AgentRunner, live: list[dict[str, Any]], types: list[str]) -> None:
    """Check that a live reader got these types, and that a late reader gets the same events."""
    verify(live)
    assert event_types(live) == types
    assert [event.to_dict() for event in await runner.threads.events("t1")][-len(live) :] == live
    assert (await collect(await runner.connect("t1")))[-len(live) :] == live


async def test_a_run_whose_agent_fails_at_once_keeps_its_message(runner: AgentRunner) -> None:
    live = await collect(await runner.run(failing_at_once, make_input(messages=["u1"])))
    await check_all_readers(runner, live, FAILED)
    assert live[0]["input"]["messages"] == [{"id": "u1", "role": "user", "content": "u1"}]
    assert await ids(runner) == ["u1"]
    assert (await runner.threads.get("t1")).runs == 1


async def test_only_new_messages_count(runner: AgentRunner) -> None:
    await collect(await runner.run(agent_with(), make_input(run="r1", messages=["u1"])))
    live = await collect(await runner.run(failing_at_once, make_input(run="r2", messages=["u1"])))
    assert event_types(live) == ["RUN_ERROR"]
    assert (await runner.threads.get("t1")).runs == 1
    live = await collect(await runner.run(failing_at_once, make_input(run="r2", messages=["u1", "u2"])))
    await check_all_readers(runner, live, FAILED)
    assert [message["id"] for message in live[0]["input"]["messages"]] == ["u2"]
    assert await ids(runner) == ["u1", "u2"]


async def test_the_next_run_continues_after_the_kept_message(runner: AgentRunner) -> None:
    await collect(await runner.run(failing_at_once, make_input(run="r1", messages=["u1"])))
    agent = agent_with(*text_message("m1", "here"))
    live = await collect(await runner.run(agent, make_input(run="r2", messages=["u1", "u2"])))
    assert [message["id"] for message in live[0]["input"]["messages"]] == ["u2"]
    assert await ids(runner) == ["u1", "u2", "m1"]


async def test_a_client_that_sends_the_same_run_again_is_refused(runner: AgentRunner) -> None:
    await collect(await runner.run(failing_at_once, make_input(messages=["u1"])))
    with pytest.raises(RunAlreadyExists):
        await runner.run(agent_with(), make_input(messages=["u1"]))
    # Without a message nothing was stored, and the id is free.
    await collect(await runner.run(failing_at_once, make_input(run="r2")))
    await collect(await runner.run(agent_with(), make_input(run="r2")))


@pytest.mark.parametrize(
    ("first", "code"),
    [
        ({"type": "RUN_ERROR", "message": "no", "code": "mine"}, "mine"),
        ({"type": "RUN_STARTED", "threadId": 5}, "INVALID_EVENT"),
        ({"type": "TEXT_MESSAGE_START", "messageId": 5}, "INVALID_EVENT"),
        ({"no": "type"}, "INVALID_EVENT"),
    ],
)
@embedded
async def test_an_agent_that_fails_with_its_first_event(runner: AgentRunner, first: Any, code: str) -> None:
    live = await collect(await runner.run(scripted_agent([first]), make_input(messages=["u1"])))
    await check_all_readers(runner, live, FAILED)
    assert live[-1]["code"] == code
    assert await ids(runner) == ["u1"]


async def test_a_run_stopped_before_its_first_event_keeps_its_message(runner: AgentRunner) -> None:
    agent = Silent()
    stream = await runner.run(agent, make_input(messages=["u1"]))
    late = await runner.connect("t1")
    await agent.has_started.wait()
    assert await runner.stop("t1")
    live = await collect(stream)
    await check_all_readers(runner, live, STOPPED)
    assert await collect(late) == live
    assert await ids(runner) == ["u1"]


async def test_a_stopped_run_without_a_message_leaves_nothing(runner: AgentRunner) -> None:
    agent = Silent()
    stream = await runner.run(agent, make_input())
    await agent.has_started.wait()
    assert await runner.stop("t1")
    assert event_types(await collect(stream)) == STOPPED
    assert await runner.threads.list() == []


@in_memory
async def test_a_run_that_is_silent_for_too_long_keeps_its_message(
    runner_factory: Callable[..., AgentRunner],
) -> None:
    runner = runner_factory(silence_timeout=0.05)
    live = await collect(await runner.run(Silent(), make_input(messages=["u1"])))
    await check_all_readers(runner, live, FAILED)
    assert live[-1]["code"] == "TIMEOUT"


async def test_readers_in_another_process_get_the_same_events(store_factory: Callable[[], Store]) -> None:
    here, there = AgentRunner(store_factory()), AgentRunner(store_factory())
    async with here, there:
        agent = Silent()
        stream = await here.run(agent, make_input(messages=["u1"]))
        await agent.has_started.wait()
        follower = asyncio.create_task(collect(await there.connect("t1")))
        assert await here.stop("t1")
        live = await collect(stream)
        assert event_types(live) == STOPPED
        assert await follower == live
        assert await collect(await there.connect("t1")) == live


async def test_a_run_whose_process_died_keeps_its_message(store_factory: Callable[[], Store]) -> None:
    claimed = {"id": "a1", "role": "assistant", "content": "made up"}
    await die_before_the_first_event(store_factory, ["u1", "u2", claimed])
    async with AgentRunner(store_factory()) as runner:
        await runner.recover("t1")
        events = [event.to_dict() for event in await runner.threads.events("t1")][-2:]
        assert event_types(events) == FAILED
        assert events[-1]["code"] == "INTERRUPTED"
        # Only what the thread did not have, with the mark of what only the client claims.
        messages = events[0]["input"]["messages"]
        assert [message["id"] for message in messages] == ["u2", "a1"]
        assert [message.get("metadata") for message in messages] == [None, {"agentrunner.source": "client"}]
        assert await ids(runner) == ["u1", "u2", "a1"]
        assert event_types(await collect(await runner.connect("t1")))[-2:] == FAILED


async def test_a_run_without_a_message_whose_process_died_leaves_nothing(store_factory: Callable[[], Store]) -> None:
    await die_before_the_first_event(store_factory, ["u1"])
    async with AgentRunner(store_factory()) as runner:
        await runner.recover("t1")
        assert not await runner.is_running("t1")
        assert (await runner.threads.get("t1")).runs == 1
        await collect(await runner.run(agent_with(), make_input(run="r2")))


async def test_messages_that_the_client_may_not_send_are_not_kept(store_factory: Callable[[], Store]) -> None:
    claimed = {"id": "a1", "role": "assistant", "content": "made up", "toolCalls": []}
    await die_before_the_first_event(store_factory, ["u2", claimed])
    async with AgentRunner(store_factory(), client_messages="refuse") as runner:
        await runner.recover("t1")
        assert await ids(runner) == ["u1"]
        assert not await runner.is_running("t1")


async def die_before_the_first_event(store_factory: Callable[[], Store], messages: list[Any]) -> None:
    """Run a whole turn, then one whose process dies before its agent's first event."""
    store = Mortal(store_factory())
    runner = AgentRunner(store)
    await collect(await runner.run(agent_with(), make_input(run="r1", messages=["u1"])))
    agent = Silent()
    await runner.run(agent, make_input(run="r2", messages=messages))
    await agent.has_started.wait()
    store.dead = True
    await runner.aclose()
    if isinstance(store.inner, MemoryStore):
        await store.inner.abandon()
    else:
        await store.inner.aclose()


async def test_a_closed_runner_keeps_the_messages_of_its_runs(store_factory: Callable[[], Store]) -> None:
    runner = AgentRunner(store_factory())
    agent = Silent()
    stream = await runner.run(agent, make_input(messages=["u1"]))
    await agent.has_started.wait()
    await runner.aclose()
    assert event_types(await collect(stream)) == FAILED
    async with AgentRunner(store_factory()) as again:
        assert await ids(again) == ["u1"]


@embedded
async def test_a_run_that_the_harness_refuses_leaves_nothing(runner: AgentRunner) -> None:
    async with Harness(runner, {"a": agent_with()}, policy=lambda _: "not today") as harness:
        agent = harness.agents["a"]
        live = await collect(await runner.run(agent, make_input(messages=["u1"])))
        assert (event_types(live), live[0]["code"]) == (["RUN_ERROR"], "RUN_REFUSED")
        assert await runner.threads.list() == []


@embedded
async def test_a_run_that_is_cancelled_while_it_waits_for_a_slot_keeps_its_message(runner: AgentRunner) -> None:
    first = Silent()
    async with Harness(runner, {"a": first, "b": Silent()}, max_concurrent_runs=1) as harness:
        holder = await runner.run(harness.agents["a"], make_input("t2", "r0"))
        await first.has_started.wait()
        stream = await runner.run(harness.agents["b"], make_input(messages=["u1"]))
        while "r1" not in [run.run_id for run in await harness.runs()]:
            await asyncio.sleep(0)
        await harness.cancel("r1")
        await check_all_readers(runner, await collect(stream), STOPPED)
        assert await ids(runner) == ["u1"]
        await runner.stop("t2")
        await collect(holder)
        await until(lambda: not runner.stats.runs_active)
