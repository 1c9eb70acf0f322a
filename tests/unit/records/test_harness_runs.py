"""Harness runs as records: written, read back, and read as version 0.1.0 wrote them."""

from __future__ import annotations

import datetime

import pytest

from agentrunner import AgentRunner, MemoryStore
from agentrunner.errors import RecordConflict, RecordDamaged, RunNotFound
from agentrunner.harness import Harness
from agentrunner.records import kinds
from agentrunner.records.harness_runs import Attempt, HarnessEvent, Intent, RunRecord, find_intent, find_run, load_run
from agentrunner.records.kinds import thread_key
from agentrunner.runtime import AgentRuntime, tool
from agentrunner.stores import Change, Record
from support.fixtures import fixture_lines
from support.harness import Asking
from support.scripted_model import ScriptedModel, reply

LATER_ATTEMPT = "052f83c3-97c8-43b1-be50-88086b521cb6"


async def store_of_0_1_0(name: str) -> MemoryStore:
    """Return a store with the records that version 0.1.0 wrote."""
    store = MemoryStore()
    for kind, key, thread_id, value in fixture_lines(name):
        await store.write([Change(kind, key, thread_id, value.encode())])
    return store


def new_run() -> RunRecord:
    run = RunRecord("r", "t", "a", None, "me", {"forwardedProps": {}}, 1000, 1000)
    run.add_event("run.created", agent="a")
    run.attempt_runs.append(Attempt("r", 1, 1))
    return run


async def test_a_run_is_read_as_it_was_written() -> None:
    store, run = MemoryStore(), new_run()
    run.change_state("running")
    (run.version, _) = await store.write(run.to_changes())
    assert await load_run(store, "r") == run
    assert await kinds.ACTIVE_RUN.find(store, run.key) is not None
    run.change_state("failed", "no more milk")
    (run.version, _) = await store.write(run.to_changes())
    assert await load_run(store, "r") == run
    assert await kinds.ACTIVE_RUN.find(store, run.key) is None


async def test_a_run_that_another_process_changed_is_not_written() -> None:
    store = MemoryStore()
    await store.write(new_run().to_changes())
    with pytest.raises(RecordConflict):
        await store.write(new_run().to_changes())


async def test_a_run_is_found_by_the_id_of_any_attempt() -> None:
    store, run = MemoryStore(), new_run()
    await store.write([*run.to_changes(), *run.link_attempt("r"), *run.link_attempt("r2")])
    assert (await load_run(store, "r2")).run_id == "r"
    assert await find_run(store, "t", "r3") is None
    with pytest.raises(RunNotFound, match="'r3'"):
        await load_run(store, "r3")


def test_events_are_numbered_and_never_go_back_in_time() -> None:
    run = new_run()
    run.updated_at = ahead = run.updated_at + 10**6
    run.seq += 3
    event = run.change_state("running")
    assert (event.seq, event.at) == (5, ahead)
    assert event.data == {"previous": "queued", "state": "running", "checkpoint": None, "error": None}
    assert run.events_after(1) == [event]


def test_times_can_be_read_as_datetimes_in_utc() -> None:
    run = RunRecord("r", "t", "a", None, "me", {}, 0, 1_500)
    assert run.created_at_utc == datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    assert run.updated_at_utc.isoformat() == "1970-01-01T00:00:01.500000+00:00"
    assert HarnessEvent("run.created", "r", "t", 1, 60_000).at_utc.minute == 1


async def test_an_intent_is_read_as_it_was_written() -> None:
    store, intent = MemoryStore(), Intent("r", "t", "approval", "me", 2, across=True)
    (intent.version,) = await store.write([intent.to_change()])
    assert await find_intent(store, intent.key) == intent
    assert await find_intent(store, thread_key("t", "r2")) is None


def test_a_value_without_its_fields_is_damaged() -> None:
    for value in (b'{"v":1}', b'{"v":1,"run_id":"r"}'):
        with pytest.raises(RecordDamaged):
            RunRecord.from_record(Record("run", "r", "t", 1, value))
        with pytest.raises(RecordDamaged):
            Intent.from_record(Record("intent", "r", "t", 1, value))


async def test_runs_that_0_1_0_ended_are_read() -> None:
    store = await store_of_0_1_0("records-0.1.0-ended")
    run = await load_run(store, LATER_ATTEMPT)
    assert (run.run_id, run.state, run.attempts, run.waits_for) == ("r", "completed", 1, ["r/i1"])
    assert run.attempt_runs == run.segments == [Attempt("r", 1, 2), Attempt(LATER_ATTEMPT, 11, 9)]
    assert run.input_extras == {"forwardedProps": {}}
    assert [event.type for event in run.events][-2:] == ["run.resumed", "run.state.changed"]
    value = b'{"v":1,"kind":"checkpoint","owner":"host|1|2|3","attempts":1,"across":false}'
    await store.write([Change("intent", "r", "t", value)])
    intent = await find_intent(store, run.key)
    assert intent is not None
    assert (intent.kind, intent.attempts) == ("checkpoint", 1)


async def test_a_harness_continues_what_0_1_0_left_waiting() -> None:
    paid = []

    @tool(policy="ask")
    async def pay(sum: int) -> str:
        """Pay a sum."""
        paid.append(sum)
        return "paid"

    store = await store_of_0_1_0("records-0.1.0-waiting")
    agents = {"a": Asking(rounds=0), "rt": AgentRuntime(ScriptedModel(reply("done")), tools=[pay])}
    async with AgentRunner(store) as runner, Harness(runner, agents) as harness:
        assert [approval.approval_id for approval in await harness.approvals()] == ["r/i1", "q/int-c1"]
        result = await harness.decide("q/int-c1", "approve", by="ann")
        assert (result.state, result.content, paid) == ("completed", "done", [1])
        result = await harness.decide("r/i1", "approve")
        assert result.state == "completed"
        assert all(record.value.startswith(b'{"v":2,') for record in await store.records("run", None, None, 10)
                   if record.kind == "run")  # fmt: skip
