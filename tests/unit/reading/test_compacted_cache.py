"""Long compacted runs come in slices, whether they are still cached or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import AgentRunner, CursorExpired
from agentrunner._core import Frames
from agentrunner.reading.compacted_cache import CompactedCache
from agentrunner.reading.sources import LONG_RUN_BYTES, PAGE_BYTES
from support.agents import Gate, agent_with
from support.events import text_message
from support.inputs import make_input

if TYPE_CHECKING:
    from agentrunner import EventStream

LENGTH = 3000
LONG_TEXT = [event for n in range(LENGTH) for event in text_message(f"m{n}", "x" * 1000)]


async def pages(stream: EventStream) -> list[bytes]:
    return [piece async for piece in stream.frames()]


def forget(runner: AgentRunner) -> None:
    """Empty the cache, as it happens when other long runs are read."""
    runner._cache._runs.clear()
    runner._cache._bytes = 0


async def test_a_long_stored_run_comes_in_slices(runner: AgentRunner) -> None:
    stream = await runner.run(agent_with(*LONG_TEXT), make_input("t1", "r1"))
    async for _ in stream.frames():
        pass
    parts = await pages(await runner.connect("t1"))
    assert len(b"".join(parts)) > LONG_RUN_BYTES
    assert max(map(len, parts)) < PAGE_BYTES + 2000
    events = [event async for event in await runner.connect("t1")]
    assert len(events) == 3 * LENGTH + 2
    last_seq = events[-1].seq
    assert [event.cursor for event in events] == [f"{last_seq}.{n}" for n in range(len(events))]
    # A cursor in the middle returns the rest of the same events.
    rest = [event async for event in await runner.connect("t1", after=events[1000].cursor)]
    assert [bytes(event) for event in rest] == [bytes(event) for event in events[1001:]]


@pytest.mark.parametrize("held", [True, False])
async def test_a_late_reader_of_a_long_live_run(runner: AgentRunner, held: bool) -> None:
    gate = Gate(LONG_TEXT, text_message("last", "words"))
    await runner.run(gate.run, make_input("t1", "r1"))
    await gate.reached.wait()
    streams = [await runner.connect("t1") for _ in range(3)]
    readers = [stream.frames() for stream in streams]
    begun = [await anext(reader) for reader in readers]
    assert len(set(begun)) == 1
    assert all(stream.is_replaying for stream in streams)
    gate.open()
    whole = []
    for reader, begin in zip(readers, begun, strict=True):
        if not held:
            forget(runner)
        parts = [begin, *[part async for part in reader]]
        assert max(map(len, parts)) < PAGE_BYTES + 2000
        whole.append(b"".join(parts))
    assert len(set(whole)) == 1
    assert whole[0].count(b"\ndata: ") == 3 * LENGTH + 5


async def test_a_reader_that_joins_later_shares_the_compacted_run(runner: AgentRunner) -> None:
    gate = Gate(LONG_TEXT)
    await runner.run(gate.run, make_input("t1", "r1"))
    await gate.reached.wait()
    first, second = [(await runner.connect("t1")).frames() for _ in range(2)]
    await anext(first)
    await anext(second)
    assert len(runner._cache._runs) == 1
    gate.open()


async def test_a_thread_that_changes_while_a_long_run_of_it_is_read(runner: AgentRunner) -> None:
    for messages in (LONG_TEXT, LONG_TEXT[: len(LONG_TEXT) // 2]):
        async for _ in (await runner.run(agent_with(*messages), make_input("t1", "r1"))).frames():
            pass
        if messages is LONG_TEXT:
            stream = await runner.connect("t1")
            reader = stream.frames()
            await anext(reader)
            await runner.threads.delete("t1")
    forget(runner)
    with pytest.raises(CursorExpired):
        await rest_of(reader)


async def rest_of(reader: Any) -> list[bytes]:
    return [part async for part in reader]


def test_the_cache_is_bounded() -> None:
    cache = CompactedCache(max_bytes=1000)
    for n in range(10):
        cache.put(("t", "history", n, 0), Frames(b"x" * 400))
    assert cache._bytes == 800
    assert [key[2] for key in cache._runs] == [8, 9]
    assert cache.get(("t", "history", 8, 0)) is not None
    cache.put(("t", "history", 8, 0), Frames(b"x" * 500))
    cache.put(("t", "history", 10, 0), Frames(b"x" * 5000))
    assert [key[2] for key in cache._runs] == [10]
    assert cache._bytes == 5000
