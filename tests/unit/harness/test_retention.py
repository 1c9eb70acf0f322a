"""Retention: old checkpoints and harness runs are removed."""

from __future__ import annotations

import asyncio

import pytest

from agentrunner.harness import Harness, RecordRetention, RunNotFound
from agentrunner.records import kinds
from agentrunner.stores import Change
from support.agents import agent_with
from support.events import text_message
from support.harness import Asking, record_keys

hello = agent_with(*text_message("m", "hello"))


@pytest.fixture(autouse=True)
def _only_the_test_prunes(monkeypatch):
    monkeypatch.setattr("agentrunner.harness.maintenance.MAINTENANCE_SECONDS", 3600.0)


async def checkpoints(store, session, ages):
    for number, age in enumerate(ages):
        await store.write([kinds.CHECKPOINT.change(f"{session}/{number:08d}", session, {"created_at": age})])


def _now():
    from agentrunner.records.times import now_ms

    return now_ms()


async def test_runs_beyond_the_count_are_removed_with_their_records(runner):
    agent = Asking()
    async with Harness(runner, {"a": agent, "b": hello}, retention=RecordRetention(max_count=2)) as harness:
        store = await runner.open()
        await harness.run("hi", agent="a", thread_id="t", run_id="r0")
        await harness.resume(thread_id="t", decision="approve")
        second = (await harness.run_record("r0")).attempt_runs[1].run_id
        await harness.run("hi", agent="b", thread_id="other", run_id="o")
        for n in (1, 2):
            await harness.run("hi", agent="b", thread_id="t", run_id=f"r{n}")
        assert await harness.prune() == 1
        assert [run.run_id for run in await harness.runs("t")] == ["r1", "r2"]
        for gone in ("r0", second):
            with pytest.raises(RunNotFound):
                await harness.run_record(gone)
        assert await harness.approvals(state=None) == []
        assert await record_keys(store, "segment") == []
        assert len(await harness.runs("other")) == 1
        assert await harness.prune() == 0


async def test_run_that_has_not_ended_stays(runner):
    async with Harness(runner, {"a": Asking(), "b": hello}, retention=RecordRetention(max_age=0)) as harness:
        await harness.run("hi", agent="a", thread_id="t", run_id="waiting")
        await harness.run("hi", agent="b", thread_id="t2", run_id="ended")
        while (await harness.run_record("ended")).updated_at >= _now():
            await asyncio.sleep(0.001)
        assert await harness.prune() == 1
        assert [run.run_id for run in await harness.runs()] == ["waiting"]
        assert len(await harness.approvals()) == 1


async def test_last_checkpoint_of_a_session_stays(runner):
    async with Harness(runner, {"a": hello}, retention=RecordRetention(max_age=60)) as harness:
        store, now = await runner.open(), _now()
        await checkpoints(store, "old", [now - 90_000, now - 80_000, now - 70_000])
        await checkpoints(store, "young", [now - 90_000, now - 50_000, now])
        await store.write([Change("checkpoint", "strange/1", "strange", b"no json")])
        await store.write([Change("checkpoint", "strange/2", "strange", b"[]")])
        assert await harness.prune() == 3
        assert await record_keys(store, "checkpoint") == [
            "old/00000002", "strange/1", "strange/2", "young/00000001", "young/00000002",
        ]  # fmt: skip


async def test_checkpoints_beyond_the_count_are_removed(runner):
    async with Harness(runner, {"a": hello}, retention=RecordRetention(max_count=2)) as harness:
        store = await runner.open()
        await checkpoints(store, "s", [0] * 250)
        await checkpoints(store, "s2", [0])
        assert await harness.prune() == 248
        assert await record_keys(store, "checkpoint") == ["s/00000248", "s/00000249", "s2/00000000"]


async def test_checkpoints_of_a_waiting_run_stay(runner):
    async with Harness(runner, {"a": Asking()}, retention=RecordRetention(max_count=1)) as harness:
        store = await runner.open()
        await harness.run("hi", thread_id="t")
        await checkpoints(store, "t", [0, 0, 0])
        assert await harness.prune() == 0
        await harness.cancel((await harness.runs())[0].run_id)
        assert await harness.prune() == 2
        assert await record_keys(store, "checkpoint") == ["t/00000002"]


async def test_everything_stays_without_retention(runner):
    async with Harness(runner, {"a": hello}) as harness:
        await harness.run("hi", run_id="r")
        assert await harness.prune() == 0
        assert len(await harness.runs()) == 1


def test_options_are_checked():
    for wrong in ({"max_age": -1}, {"max_count": 0}, {"max_count": 1.5}):
        with pytest.raises(ValueError, match="max_"):
            RecordRetention(**wrong)
