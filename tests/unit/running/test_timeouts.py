"""Runs that take too long or are silent for too long end with `TIMEOUT`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner.harness import Harness
from agentrunner.running import agent_task
from agentrunner.running.timeouts import RunTimeouts, Watch
from support.agents import Gate, agent_with
from support.events import run_started, text_message
from support.harness import Asking
from support.inputs import make_input
from support.streams import collect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from ag_ui.core import RunAgentInput

    from agentrunner import InMemoryAgentRunner

    MemoryFactory = Callable[..., InMemoryAgentRunner]

pytestmark = pytest.mark.fault("A7")


async def chatter(input: RunAgentInput) -> AsyncIterator[Any]:
    """Yield an event a millisecond, for ever."""
    yield run_started(input.thread_id, input.run_id)
    while True:
        await asyncio.sleep(0.001)
        yield {"type": "CUSTOM", "name": "tick", "value": 1}


async def test_a_silent_run_ends_with_its_code_and_is_kept(memory_factory: MemoryFactory) -> None:
    runner = memory_factory(silence_timeout=0.02)
    live = await collect(await runner.run(Gate(text_message("m1", "half")), make_input()))
    assert (live[-1]["type"], live[-1]["code"]) == ("RUN_ERROR", "TIMEOUT")
    assert "0.02 s" in live[-1]["message"]
    assert (await runner.threads.events("t1"))[-1].to_dict() == live[-1]
    await collect(await runner.run(agent_with(), make_input(run="r2")))


async def test_a_run_that_takes_too_long_ends_even_if_it_is_never_silent(memory_factory: MemoryFactory) -> None:
    runner = memory_factory(run_timeout=0.05)
    live = await collect(await runner.run(chatter, make_input()))
    assert (live[-1]["type"], live[-1]["code"]) == ("RUN_ERROR", "TIMEOUT")
    assert len(live) > 2


class FakeLoop:
    """An event loop's clock and its one timer."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timer: tuple[float, Callable[[], None]] | None = None

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[..., None], *arguments: Any) -> FakeLoop:
        self.timer = when, lambda: callback(*arguments)
        return self

    def cancel(self) -> None:
        self.timer = None

    def run(self, seconds: float) -> None:
        """Move the clock while the loop runs."""
        end = self.now + seconds
        while self.timer is not None and self.timer[0] <= end:
            (due, callback), self.timer = self.timer, None
            self.now = max(self.now, due)
            callback()
        self.now = end

    def block(self, seconds: float) -> None:
        """Move the clock while the loop is blocked, or the process stopped."""
        self.now += seconds


class WatchedRun:
    """A run on a fake loop, with what its watch has reported."""

    def __init__(self, **timeouts: float) -> None:
        self.loop = FakeLoop()
        self.messages: list[str] = []
        self.last_event_at = 0.0
        self.watch = Watch(lambda: self.last_event_at, lambda: False, self.messages.append)
        self.watch._loop = self.loop  # type: ignore[assignment]
        self.watch.start(RunTimeouts(**timeouts))


async def test_silence_is_counted_from_the_last_event() -> None:
    run = WatchedRun(silence_timeout=60.0)
    run.loop.run(59.0)
    run.last_event_at = run.loop.now
    run.loop.run(59.0)
    assert run.messages == []
    run.loop.run(1.0)
    assert run.messages == ["The agent was silent for longer than 60 s"]


async def test_a_run_takes_as_long_as_its_events_do() -> None:
    run = WatchedRun(run_timeout=2.5, silence_timeout=60.0)
    run.loop.run(2.4)
    run.last_event_at = run.loop.now
    assert run.messages == []
    run.loop.run(0.1)
    assert run.messages == ["The run took longer than 2.5 s"]


@pytest.mark.fault("A6")
@pytest.mark.parametrize("limit", ["run_timeout", "silence_timeout"])
async def test_time_in_which_the_loop_was_blocked_does_not_count(limit: str) -> None:
    run = WatchedRun(**{limit: 60.0})
    for _ in range(5):
        run.loop.run(10.0)
        run.loop.block(3600.0)
    run.loop.run(4.0)
    assert run.messages == []
    # Of each blockage, up to a second counts: the time until the check that it delays.
    run.loop.run(6.0)
    assert len(run.messages) == 1


@pytest.mark.fault("A6")
async def test_silence_begins_with_an_event_that_comes_after_a_blockage() -> None:
    run = WatchedRun(silence_timeout=60.0)
    run.loop.run(10.5)
    run.loop.block(50.0)
    run.last_event_at = run.loop.now
    run.loop.run(59.0)
    assert run.messages == []
    run.loop.run(1.0)
    assert len(run.messages) == 1


async def test_an_agent_that_ignores_its_timeout_is_given_up(
    memory_factory: MemoryFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_task, "STOP_GRACE_SECONDS", 0.01)
    release = asyncio.Event()

    async def deaf(input: RunAgentInput) -> AsyncIterator[Any]:
        yield run_started(input.thread_id, input.run_id)
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    live = await collect(await memory_factory(run_timeout=0.01).run(deaf, make_input()))
    assert live[-1]["code"] == "TIMEOUT"
    release.set()


async def test_a_harness_has_timeouts_of_its_own_that_begin_with_the_slot(memory_factory: MemoryFactory) -> None:
    runner = memory_factory(silence_timeout=60.0)
    first, second = Gate(), Gate()
    agents = {"first": first, "second": second}
    async with Harness(runner, agents, max_concurrent_runs=1, silence_timeout=0.05) as harness:
        waiting = asyncio.create_task(harness.run("hi", agent="second", run_id="r2"))
        one = await harness.run("hi", agent="first", run_id="r1")
        two = await waiting
        assert [one.state, two.state] == ["failed", "failed"]
        assert first.reached.is_set()
        # It was in line for as long as the other one was silent, and began all the same.
        assert second.reached.is_set()


async def test_a_run_that_waits_for_an_approval_is_not_silent(memory_factory: MemoryFactory) -> None:
    runner = memory_factory()
    async with Harness(runner, {"default": Asking()}, run_timeout=60.0, silence_timeout=60.0) as harness:
        result = await harness.run("pay", thread_id="t1")
        assert result.state == "waiting_for_approval"
        # Nothing is live that could be silent, however long the approval takes.
        assert runner.driver("t1") is None
        assert runner.stats.oldest_silence_seconds == 0
        assert (await harness.decide(result.approvals[0].approval_id, "approve")).state == "completed"


async def test_the_age_of_the_oldest_silent_run_is_counted(memory_factory: MemoryFactory) -> None:
    runner, gate = memory_factory(), Gate()
    assert runner.stats.oldest_silence_seconds == 0
    stream = await runner.run(gate, make_input())
    await gate.reached.wait()
    while not runner.stats.oldest_silence_seconds > 0.01:
        await asyncio.sleep(0.001)
    gate.open()
    await collect(stream)
    assert runner.stats.oldest_silence_seconds == 0


@pytest.mark.parametrize("name", ["run_timeout", "silence_timeout"])
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), "5", True])
def test_a_timeout_that_is_no_time_is_refused(name: str, value: Any, memory_factory: MemoryFactory) -> None:
    with pytest.raises(ValueError, match=name):
        memory_factory(**{name: value})
