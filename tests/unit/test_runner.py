"""The runner's public face: how it is made, opened, and how its streams are used."""

from __future__ import annotations

import asyncio
import gc
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import AgentRunner, InMemoryAgentRunner, MemoryStore, Retention, SqliteAgentRunner, SqliteStore
from support.agents import Gate, agent_with
from support.events import event_types, text_message
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from pathlib import Path

TEXT = text_message("m1", "x")
TYPES = ["RUN_STARTED", *event_types(TEXT), "RUN_FINISHED"]


# from_url


async def test_from_url_makes_a_runner_for_each_location(tmp_path: Path) -> None:
    path = tmp_path / "threads.db"
    for url in (str(path), f"sqlite:///{path}", "memory:"):
        async with AgentRunner.from_url(url) as runner:
            assert event_types([event async for event in runner.run(agent_with(*TEXT), make_input("t", url))]) == TYPES
            store = await runner.open()
            assert isinstance(store, MemoryStore if url == "memory:" else SqliteStore)
    async with SqliteAgentRunner(path) as runner:
        assert (await runner.threads.get("t")).runs == 2


async def test_from_url_takes_the_options_of_runner_and_store(tmp_path: Path) -> None:
    retention = Retention(max_runs=1)
    runner = AgentRunner.from_url(
        str(tmp_path / "threads.db"), retention=retention, on_concurrent_run="enqueue", lease_ttl=3.0, max_id_bytes=9
    )
    assert runner._store.lease_ttl == 3.0
    assert runner._limits.id_bytes == 9
    assert runner._maintenance._retention is retention


@pytest.mark.parametrize("url", ["mysql://host/db", "sqlite://", "http://host"])
def test_from_url_names_the_known_schemes_for_an_unknown_one(url: str) -> None:
    with pytest.raises(ValueError, match=r"redis://… or postgresql://…"):
        AgentRunner.from_url(url)


def test_an_unknown_option_is_a_type_error(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="max_event_size"):
        InMemoryAgentRunner(max_event_size=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="pool_size"):
        AgentRunner.from_url(str(tmp_path / "threads.db"), pool_size=3)


# Streams without a second await


async def test_iterate_over_run_connect_and_snapshot(runner: AgentRunner) -> None:
    assert event_types([event async for event in runner.run(agent_with(*TEXT), make_input())]) == TYPES
    assert event_types([event async for event in runner.connect("t1")]) == TYPES
    assert event_types([event async for event in runner.snapshot("t1")]) == TYPES


async def test_enter_run_connect_and_snapshot(runner: AgentRunner) -> None:
    async with runner.run(agent_with(*TEXT), make_input()) as stream:
        assert event_types(await collect(stream)) == TYPES
    async with runner.connect("t1") as stream, runner.snapshot("t1") as now:
        assert event_types(await collect(stream)) == event_types(await collect(now)) == TYPES


async def test_awaiting_works_as_before(runner: AgentRunner) -> None:
    stream = await runner.run(agent_with(*TEXT), make_input())
    async with stream:
        assert event_types(await collect(stream)) == TYPES
    assert event_types(await collect(await asyncio.create_task(runner.connect("t1")))) == TYPES
    first, second = await asyncio.gather(runner.connect("t1"), asyncio.wait_for(runner.snapshot("t1"), 10))
    assert await collect(first) == await collect(second)


async def test_a_stream_that_is_never_opened_warns() -> None:
    async with InMemoryAgentRunner() as runner:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            runner.connect("t1")
            gc.collect()
        assert [str(warning.message) for warning in caught] == ["coroutine 'AgentRunner.connect' was never awaited"]


async def test_errors_come_where_the_stream_is_opened(runner: AgentRunner) -> None:
    from agentrunner import InvalidCursor

    opening = runner.connect("t1", "not a cursor")
    with pytest.raises(InvalidCursor):
        async for _ in opening:
            pass
    with pytest.raises(InvalidCursor):
        async with runner.connect("t1", "not a cursor"):
            pass


# Leaving a stream


async def test_a_reader_that_leaves_is_no_longer_counted(runner: AgentRunner) -> None:
    gate = Gate(TEXT)
    stream = await runner.run(gate, make_input())
    await gate.reached.wait()
    async with runner.connect("t1") as reader:
        await anext(reader)
        assert runner.stats.readers == 2
    assert runner.stats.readers == 1
    with pytest.raises(StopAsyncIteration):
        await anext(reader)
    dropped: Any = await runner.connect("t1")
    assert runner.stats.readers == 2
    del dropped
    gc.collect()
    assert runner.stats.readers == 1
    await stream.aclose()
    await stream.aclose()
    assert runner.stats.readers == 0
    async for _ in runner.connect("t1"):
        break
    gc.collect()
    while runner.stats.readers:
        await asyncio.sleep(0)
    gate.open()
    assert event_types([event async for event in runner.connect("t1")]) == TYPES


# What the runner shows of itself


async def test_the_state_of_a_runner() -> None:
    runner = InMemoryAgentRunner()
    assert (runner.is_closed, runner.is_draining, runner.draining) == (False, False, False)
    store = await runner.open()
    assert store is await runner.open()
    gate = Gate(TEXT)
    await runner.run(gate, make_input())
    driver = runner.driver("t1")
    assert driver is not None
    assert driver.claim.run_id == "r1"
    assert runner.driver("t2") is None
    assert await runner.recover("t1") is False
    gate.open()
    await runner.drain(10.0)
    assert (runner.is_closed, runner.is_draining) == (False, True)
    await runner.aclose()
    assert runner.is_closed


async def test_a_thread_summary_has_its_times_as_datetimes(runner: AgentRunner) -> None:
    await collect(await runner.run(agent_with(*TEXT), make_input()))
    thread = await runner.threads.get("t1")
    assert thread.created_at_utc.tzinfo is not None
    assert round(thread.created_at_utc.timestamp() * 1000) == thread.created_at
    assert round(thread.updated_at_utc.timestamp() * 1000) == thread.updated_at
