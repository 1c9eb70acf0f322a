"""A cursor becomes a list of sources."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentrunner import CursorAhead
from agentrunner.reading.failures import EarlierFailures
from agentrunner.reading.plan import START, ReadingPlan
from support.agents import Gate, agent_with
from support.events import text_message
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from agentrunner import AgentRunner
    from agentrunner.types import Cursor

TEXT = text_message("m1", "x", "y")


async def list_sources(runner: AgentRunner, cursor: Cursor | None) -> list[str] | None:
    """Return the names of a reader's sources for thread t1, or `None` if it must retry."""
    store = await runner.open()
    async with runner._table.hold("t1") as live:
        plan = ReadingPlan(store, runner._cache, "t1", live)
        sources = await plan.after_cursor(START if cursor is None else cursor)
    if sources is None:
        return None
    inner = [source._sources if isinstance(source, EarlierFailures) else [source] for source in sources]
    return [type(source).__name__ for each in inner for source in each]


async def test_a_thread_without_a_live_run(runner: AgentRunner) -> None:
    assert await list_sources(runner, None) == ["History"]
    await collect(await runner.run(agent_with(*TEXT), make_input("t1", "r1")))
    assert await list_sources(runner, None) == ["History"]
    assert await list_sources(runner, (0, None)) == ["History"]
    assert await list_sources(runner, (2, None)) == ["JournalRest", "History"]
    assert await list_sources(runner, (3, 1)) == ["CompactedRest", "JournalRest", "History"]


async def test_a_thread_with_a_live_run(runner: AgentRunner) -> None:
    await collect(await runner.run(agent_with(*TEXT), make_input("t1", "r1")))
    gate = Gate(text_message("m2", "z"))
    await runner.run(gate, make_input("t1", "r2"))
    await gate.reached.wait()
    live_run = ["LivePrefix", "LiveTail", "LastWord"]
    assert await list_sources(runner, None) == ["History", *live_run]
    assert await list_sources(runner, (2, None)) == ["JournalRest", "History", *live_run]
    assert await list_sources(runner, (8, None)) == ["LiveTail", "LastWord"]
    assert await list_sources(runner, (8, 0)) == ["CompactedRest", "LiveTail", "LastWord"]
    with pytest.raises(CursorAhead):
        await list_sources(runner, (99, None))
    gate.open()


async def test_a_run_that_started_meanwhile(runner: AgentRunner) -> None:
    store = await runner.open()
    plan = ReadingPlan(store, runner._cache, "t1", None)
    gate = Gate(TEXT)
    await runner.run(gate, make_input("t1", "r1"))
    await gate.reached.wait()
    assert await plan.after_cursor((1, None)) is None
    gate.open()


async def test_a_snapshot_does_not_follow(runner: AgentRunner) -> None:
    gate = Gate(TEXT)
    await runner.run(gate, make_input("t1", "r1"))
    await gate.reached.wait()
    store = await runner.open()
    async with runner._table.hold("t1") as live:
        plan = ReadingPlan(store, runner._cache, "t1", live)
        assert [type(source).__name__ for source in await plan.as_of_now()] == ["History", "Snapshot"]
        sources = await plan.after_messages([{"id": "u1", "role": "user", "content": "hi"}])
        assert sources is not None
        assert [type(source).__name__ for source in sources] == ["Snapshot", "LiveTail", "LastWord"]
    gate.open()
