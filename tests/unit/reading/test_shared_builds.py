"""A long run that many readers resume in is compacted once for all of them."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from agentrunner import _core
from agentrunner.reading import sources
from support.agents import Gate, agent_with
from support.events import text_message
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import Callable

    from agentrunner import AgentRunner

READERS = 20
Recompactor = _core.Recompactor
LONG_TEXT = [event for n in range(1000) for event in text_message(f"m{n}", "x" * 200)]


class Counting:
    """A recompactor that counts its instances and notes the threads that use them."""

    count = 0
    threads: ClassVar[set[threading.Thread]] = set()

    def __init__(self, seq: int) -> None:
        Counting.count += 1
        self._recompactor = Recompactor(seq)

    def push(self, frames: Any) -> None:
        self.threads.add(threading.current_thread())
        self._recompactor.push(frames)

    def frames(self) -> Any:
        self.threads.add(threading.current_thread())
        return self._recompactor.frames()


@pytest.mark.fault("A10")
async def test_readers_inside_a_run_share_one_build_in_another_thread(
    sqlite_factory: Callable[..., AgentRunner], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = sqlite_factory()
    gate = Gate(LONG_TEXT)
    live = await runner.run(gate.run, make_input("t1", "r1"))
    await gate.reached.wait()
    prefix = []
    async for event in runner.connect("t1"):
        prefix.append(event)
        if len(prefix) == 3 * 1000:
            break
    monkeypatch.setattr(sources._core, "Recompactor", Counting)
    monkeypatch.setattr(Counting, "count", 0)
    streams = [await runner.connect("t1", after=prefix[n * 100].cursor) for n in range(READERS)]
    gate.open()
    await collect(live)
    rests = await asyncio.gather(*(collect(stream) for stream in streams))
    for number, rest in enumerate(rests):
        expected = [event.to_dict() for event in prefix[number * 100 + 1 :]]
        assert rest[: len(expected)] == expected
    assert Counting.count == 1
    assert threading.main_thread() not in Counting.threads


@pytest.mark.fault("A10")
async def test_a_builds_failure_reaches_each_reader_and_is_not_kept(sqlite_factory: Callable[..., AgentRunner]) -> None:
    runner = sqlite_factory()
    await runner.open()
    cache, calls = runner._cache, 0

    async def fail() -> _core.Frames:
        nonlocal calls
        calls += 1
        await asyncio.sleep(0)
        raise RuntimeError("damaged")

    key = ("t1", "rest", 0, 1)
    errors = await asyncio.gather(*(cache.get_or_build(key, fail) for _ in range(3)), return_exceptions=True)
    assert [str(error) for error in errors] == ["damaged"] * 3
    assert calls == 1
    with pytest.raises(RuntimeError):
        await cache.get_or_build(key, fail)
    assert calls == 2


@pytest.mark.fault("A10")
async def test_a_reader_that_leaves_does_not_end_the_build_of_the_others(
    sqlite_factory: Callable[..., AgentRunner],
) -> None:
    runner = sqlite_factory()
    await collect(await runner.run(agent_with(), make_input("t1", "r1")))
    release = asyncio.Event()

    async def build() -> _core.Frames:
        await release.wait()
        return _core.Frames(b"id: 1\ndata: {}\n\n")

    first, second = (asyncio.ensure_future(runner._cache.get_or_build(("t1", "rest", 0, 1), build)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    release.set()
    assert len(await second)


def test_the_last_cursor_of_frames_is_read_without_their_events() -> None:
    frames = [b"id: %d\ndata: {}\n\n" % number for number in (7, 12)]
    assert _core.Frames(b"".join(frames)).last_seq == 12
    assert _core.Frames(frames[0]).last_seq == 7
    assert _core.Frames(b"id: 9.4\ndata: {}\n\n").last_seq == 9
    assert _core.Frames(b"").last_seq is None
    assert _core.Frames(b"data: {}\n\n").last_seq is None
