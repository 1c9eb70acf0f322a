"""What is removed: old checkpoints and runs, and conversations that begin anew."""

from __future__ import annotations

import asyncio

import pytest

from agentrunner import ThreadNotFound
from agentrunner.harness import Harness, RecordRetention, RunNotFound
from agentrunner.records import kinds
from agentrunner.stores import Change
from support.agents import Gate, agent_with
from support.events import text_message
from support.harness import Asking

hello = agent_with(*text_message("m", "hello"))


async def kept(store, kind):
    return [record.key for record in await store.records(kind, None, None, 100) if record.kind == kind]


async def checkpoints(store, session, ages):
    for number, age in enumerate(ages):
        await store.write([kinds.CHECKPOINT.change(f"{session}/{number:08d}", session, {"created_at": age})])


async def test_runs_beyond_their_number_go_with_all_they_have(runner):
    agent = Asking()
    async with Harness(runner, {"a": agent, "b": hello}, retention=RecordRetention(max_count=2)) as harness:
        store = await runner.opened()
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
        assert await kept(store, "segment") == []
        assert len(await harness.runs("other")) == 1
        assert await harness.prune() == 0


async def test_what_has_not_ended_stays(runner):
    async with Harness(runner, {"a": Asking(), "b": hello}, retention=RecordRetention(max_age=0)) as harness:
        await harness.run("hi", agent="a", thread_id="t", run_id="waiting")
        await harness.run("hi", agent="b", thread_id="t2", run_id="ended")
        while (await harness.run_record("ended")).updated_at >= _now():
            await asyncio.sleep(0.001)
        assert await harness.prune() == 1
        assert [run.run_id for run in await harness.runs()] == ["waiting"]
        assert len(await harness.approvals()) == 1


def _now():
    from agentrunner.records.times import now_ms

    return now_ms()


async def test_of_checkpoints_the_last_stays(runner):
    async with Harness(runner, {"a": hello}, retention=RecordRetention(max_age=60)) as harness:
        store, now = await runner.opened(), _now()
        await checkpoints(store, "old", [now - 90_000, now - 80_000, now - 70_000])
        await checkpoints(store, "young", [now - 90_000, now - 50_000, now])
        await store.write([Change("checkpoint", "strange/1", "strange", b"no json")])
        await store.write([Change("checkpoint", "strange/2", "strange", b"[]")])
        assert await harness.prune() == 3
        assert await kept(store, "checkpoint") == [
            "old/00000002", "strange/1", "strange/2", "young/00000001", "young/00000002",
        ]  # fmt: skip


async def test_of_checkpoints_so_many_stay(runner, monkeypatch):
    monkeypatch.setattr("agentrunner.harness.maintenance.MAINTENANCE_SECONDS", 1000)
    async with Harness(runner, {"a": hello}, retention=RecordRetention(max_count=2)) as harness:
        store = await runner.opened()
        await checkpoints(store, "s", [0] * 250)
        await checkpoints(store, "s2", [0])
        assert await harness.prune() == 248
        assert await kept(store, "checkpoint") == ["s/00000248", "s/00000249", "s2/00000000"]


async def test_checkpoints_of_a_run_that_waits_stay(runner):
    async with Harness(runner, {"a": Asking()}, retention=RecordRetention(max_count=1)) as harness:
        store = await runner.opened()
        await harness.run("hi", thread_id="t")
        await checkpoints(store, "t", [0, 0, 0])
        assert await harness.prune() == 0
        await harness.cancel((await harness.runs())[0].run_id)
        assert await harness.prune() == 2
        assert await kept(store, "checkpoint") == ["t/00000002"]


async def test_without_retention_all_is_kept(runner):
    async with Harness(runner, {"a": hello}) as harness:
        await harness.run("hi", run_id="r")
        assert await harness.prune() == 0
        assert len(await harness.runs()) == 1


async def test_a_conversation_begins_anew(runner):
    agent, gate = Asking(), Gate(text_message("m", "so far"))
    async with Harness(runner, {"a": agent, "gate": gate, "b": hello}, max_concurrent_runs=1) as harness:
        store = await runner.opened()
        await harness.run("hi", agent="b", thread_id="t", run_id="r0")
        await harness.run("hi", agent="a", thread_id="t", run_id="r1")
        await harness.run("hi", agent="b", thread_id="other", run_id="o")
        await store.write([Change("session", "t", "t", b"{}"), Change("session", "other", "other", b"{}")])
        await harness.restart_conversation("t")
        assert await runner.threads.messages("t") == []
        assert [run.run_id for run in await harness.runs()] == ["o"]
        assert await harness.approvals(state=None) == []
        assert await kept(store, "session") == ["other"]
        running = asyncio.ensure_future(harness.run("hi", agent="gate", thread_id="t", run_id="r2"))
        await gate.reached.wait()
        await harness.restart_conversation("t")
        assert (await running).state == "cancelled"
        assert await runner.threads.messages("t") == []
        assert [run.run_id for run in await harness.runs()] == ["o"]
        assert (await harness.run("new", agent="b", thread_id="t")).state == "completed"
        with pytest.raises(ThreadNotFound):
            await harness.restart_conversation("never")


def test_options_are_checked():
    for wrong in ({"max_age": -1}, {"max_count": 0}, {"max_count": 1.5}):
        with pytest.raises(ValueError, match="max_"):
            RecordRetention(**wrong)
