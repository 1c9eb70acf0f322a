"""The counters of a runner are exact."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import AgentRunner, SqliteAgentRunner, ThreadAlreadyRunning
from agentrunner.errors import LeaseLost, StoreError
from agentrunner.running.stats import BUCKETS, Stats
from support.agents import Gate, agent_with, failing_at_once, scripted_agent
from support.events import run_started, text_message
from support.inputs import make_input
from support.peers import peer, request
from support.streams import collect

if TYPE_CHECKING:
    from agentrunner import EventStream


def count_ended_runs(runner: AgentRunner) -> tuple[int, int, int]:
    how = runner.stats.runs_ended
    assert sum(how.values()) + runner.stats.runs_active == runner.stats.runs_started
    return how["finished"], how["failed"], how["stopped"]


def check_commits(stats: Stats) -> None:
    assert len(stats.commit_buckets) == len(BUCKETS) + 1
    assert sum(stats.commit_buckets) == stats.commits
    assert stats.commit_seconds > 0


async def test_a_new_runner_has_done_nothing(runner: AgentRunner) -> None:
    stats = runner.stats
    assert count_ended_runs(runner) == (0, 0, 0)
    assert (stats.runs_started, stats.runs_active, stats.readers) == (0, 0, 0)
    assert (stats.events, stats.commits, stats.commit_seconds, sum(stats.commit_buckets)) == (0, 0, 0, 0)
    assert (stats.recoveries, stats.lease_losses) == (0, 0)


async def test_how_runs_end(runner: AgentRunner) -> None:
    async def broken(input: Any) -> Any:
        yield run_started(input.thread_id, input.run_id)
        raise RuntimeError("broken")

    says_so = scripted_agent([run_started("t3", "r3"), {"type": "RUN_ERROR", "message": "no"}])
    await collect(await runner.run(agent_with(), make_input("t1", "r1")))
    assert count_ended_runs(runner) == (1, 0, 0)
    for n, agent in enumerate([broken, says_so, failing_at_once], 2):
        await collect(await runner.run(agent, make_input(f"t{n}", f"r{n}")))
        assert count_ended_runs(runner) == (1, n - 1, 0)
    gate = Gate()
    stream = await runner.run(gate, make_input("t5", "r5"))
    await gate.reached.wait()
    assert count_ended_runs(runner) == (1, 3, 0)
    assert runner.stats.runs_active == 1
    await runner.stop("t5")
    await collect(stream)
    assert count_ended_runs(runner) == (1, 3, 1)
    assert runner.stats.runs_active == 0


async def test_a_refused_run_is_not_counted(runner: AgentRunner) -> None:
    gate = Gate()
    stream = await runner.run(gate, make_input("t1", "r1"))
    await gate.reached.wait()
    with pytest.raises(ThreadAlreadyRunning):
        await runner.run(agent_with(), make_input("t1", "r2"))
    assert (runner.stats.runs_started, runner.stats.runs_active) == (1, 1)
    gate.open()
    await collect(stream)
    assert count_ended_runs(runner) == (1, 0, 0)


async def test_runs_ended_by_closing_count_as_failed(runner: AgentRunner) -> None:
    gate = Gate()
    await runner.run(gate, make_input("t1", "r1"))
    await gate.reached.wait()
    await runner.aclose()
    assert count_ended_runs(runner) == (0, 1, 0)
    assert runner.stats.readers == 0


async def test_events_and_commits(runner: AgentRunner) -> None:
    stats = runner.stats
    whole = await collect(await runner.run(agent_with(*text_message("m", *"abc")), make_input("t1", "r1")))
    assert stats.events == len(whole) == 7
    assert 1 <= stats.commits <= 7
    check_commits(stats)
    # Chunks count as the events they are expanded to; so do the ends of what was left open.
    chunk = {"type": "TEXT_MESSAGE_CHUNK", "messageId": "n", "delta": "x"}
    more = await collect(await runner.run(scripted_agent([run_started("t1", "r2"), chunk]), make_input("t1", "r2")))
    assert stats.events == 7 + len(more)
    check_commits(stats)
    # Reading records nothing.
    before = stats.events, stats.commits
    await collect(await runner.connect("t1"))
    assert (stats.events, stats.commits) == before


async def test_what_could_not_be_committed_is_not_counted(runner: AgentRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(*_: Any) -> None:
        raise StoreError("full")

    await runner.open()
    monkeypatch.setattr(runner._store, "append", refuse)
    await collect(await runner.run(agent_with(), make_input("t1", "r1")))
    assert (runner.stats.events, runner.stats.commits) == (0, 0)
    assert count_ended_runs(runner) == (0, 1, 0)
    assert runner.stats.lease_losses == 0


@pytest.mark.parametrize(
    ("seconds", "bucket"),
    [(0.0, 0), (0.0005, 0), (0.00051, 1), (0.001, 1), (0.03, 6), (1.0, 10), (1.01, 11), (1e9, 11)],
)
def test_the_bucket_of_a_commit(seconds: float, bucket: int) -> None:
    stats = Stats({})
    stats.count_commit(3, seconds)
    stats.count_commit(4, seconds)
    assert [n for n, count in enumerate(stats.commit_buckets) if count] == [bucket]
    assert (stats.events, stats.commits, stats.commit_seconds) == (7, 2, seconds * 2)
    assert bucket == len(BUCKETS) or seconds <= BUCKETS[bucket]


async def test_readers_are_counted_while_the_run_is_live(runner: AgentRunner) -> None:
    gate = Gate()
    streams: list[EventStream] = [await runner.run(gate, make_input("t1", "r1"))]
    await gate.reached.wait()
    assert runner.stats.readers == 1
    streams += [await runner.connect("t1") for _ in range(9)]
    assert runner.stats.readers == 10
    del streams[5:]
    assert runner.stats.readers == 5
    # A reader that waits for an event and is cancelled.
    reading = asyncio.create_task(collect(streams.pop()))
    while not runner._table.live_runs["t1"]._waiters:
        await asyncio.sleep(0)
    assert runner.stats.readers == 5
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    del reading
    while runner.stats.readers > 4:
        await asyncio.sleep(0)
    assert runner.stats.readers == 4
    # A reader that leaves early.
    async for _ in streams.pop():
        break
    while runner.stats.readers > 3:
        await asyncio.sleep(0)
    assert runner.stats.readers == 3
    gate.open()
    await asyncio.gather(*map(collect, streams))
    assert runner.stats.readers == 0
    streams.append(await runner.connect("t1"))
    assert runner.stats.readers == 0


async def test_a_snapshot_does_not_count_as_a_reader(runner: AgentRunner) -> None:
    gate = Gate()
    stream = await runner.run(gate, make_input("t1", "r1"))
    await gate.reached.wait()
    assert await runner.threads.events("t1")
    assert runner.stats.readers == 1
    gate.open()
    await collect(stream)


async def test_a_lost_lease_is_counted(runner: AgentRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate(after=text_message("m", "x"))
    stream = await runner.run(gate, make_input("t1", "r1"))
    await gate.reached.wait()
    while runner._table.live_runs["t1"].recorder.published < 1:
        await asyncio.sleep(0)

    async def lost(*_: Any) -> None:
        raise LeaseLost("taken over")

    for verb in ("append", "finish"):
        monkeypatch.setattr(runner._store, verb, lost)
    gate.open()
    assert (await collect(stream))[-1]["code"] == "LEASE_LOST"
    assert runner.stats.lease_losses == 1
    assert count_ended_runs(runner) == (0, 1, 0)


async def test_a_run_of_another_process_is_followed_and_recovered(tmp_path: Path) -> None:
    with peer("runs", tmp_path / "threads.db", "10") as other:
        assert request(other, "run t1 r1")
        async with SqliteAgentRunner(tmp_path / "threads.db") as runner:
            stats = runner.stats
            streams = [await runner.connect("t1") for _ in range(3)]
            assert (stats.runs_active, stats.readers) == (0, 3)
            del streams[1:]
            assert stats.readers == 1
            assert stats.recoveries == 0
            other.send_signal(signal.SIGKILL)
            other.wait()
            assert (await collect(streams[0]))[-1]["code"] == "INTERRUPTED"
            assert stats.recoveries == 1
            # The run was started elsewhere, but its last two events were written here.
            assert (stats.runs_started, count_ended_runs(runner)) == (0, (0, 0, 0))
            assert (stats.events, stats.commits, stats.readers) == (2, 1, 0)


async def test_a_run_is_no_longer_followed_after_its_last_reader_left(tmp_path: Path) -> None:
    with peer("runs", tmp_path / "threads.db", "10") as other:
        assert request(other, "run t1 r1")
        async with SqliteAgentRunner(tmp_path / "threads.db") as runner:
            stream = await runner.connect("t1")
            del stream
            while runner._table.live_runs:
                await asyncio.sleep(0.01)
            assert runner.stats.readers == 0
        other.send_signal(signal.SIGKILL)
