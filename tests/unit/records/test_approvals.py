"""Approvals as records, and what the server and the runtime ask about them."""

from __future__ import annotations

import contextvars
import datetime
from dataclasses import replace

import pytest

from agentrunner import MemoryStore
from agentrunner.errors import ApprovalNotFound, RecordDamaged
from agentrunner.records import kinds
from agentrunner.records.approvals import (
    Approval,
    accept_answers,
    approval_changes,
    find_approvals,
    find_open_interrupts,
    has_accepted_answers,
    is_every_interrupt_answered,
    is_every_interrupt_closed,
    list_approvals,
    load_approval,
    make_approval_id,
    read_approval,
)
from agentrunner.records.kinds import thread_key
from agentrunner.stores import Record
from support.fixtures import fixture_lines


def new_approval(interrupt_id: str = "i1", *, created_at: int = 1000, expires_at: int | None = None) -> Approval:
    return Approval(
        make_approval_id("r", interrupt_id), "r", "t", "a", "r", {"id": interrupt_id, "message": "May I?"},
        "pay", {"sum": 1}, None, created_at, expires_at,
    )  # fmt: skip


def with_decision(approval: Approval) -> Approval:
    return replace(approval, decision="approve", decided_at=2000, status="resolved", payload={"approved": True})


async def store_with(*approvals: Approval) -> MemoryStore:
    store = MemoryStore()
    await store.write([change for approval in approvals for change in approval_changes(approval)])
    return store


async def test_an_approval_is_read_as_it_was_written() -> None:
    approval = new_approval(expires_at=5000)
    store = await store_with(approval)
    stored = await load_approval(store, "r/i1")
    assert stored == approval
    assert await kinds.OPEN_APPROVAL.find(store, thread_key("t", "r/i1")) is not None
    await store.write(approval_changes(with_decision(stored)))
    assert await load_approval(store, "r/i1") == with_decision(approval)
    assert await kinds.OPEN_APPROVAL.find(store, thread_key("t", "r/i1")) is None
    with pytest.raises(ApprovalNotFound, match="'r/i2'"):
        await load_approval(store, "r/i2")
    assert [each.interrupt_id for each in await find_approvals(store, "t", ["r/i2", "r/i1"])] == ["i1"]


def test_states_depend_on_the_decision_and_the_time() -> None:
    approval = new_approval(expires_at=5000)
    assert (approval.state(4999), approval.state(5000)) == ("open", "expired")
    assert new_approval().state(10**15) == "open"
    assert with_decision(approval).state(10**15) == "approved"
    assert replace(approval, decision="withdrawn").state(0) == "withdrawn"
    assert (approval.open, with_decision(approval).open, approval.message) == (True, False, "May I?")


def test_times_can_be_read_as_datetimes_in_utc() -> None:
    approval = with_decision(new_approval(created_at=0, expires_at=60_000))
    assert approval.created_at_utc == datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    assert approval.expires_at_utc == datetime.datetime(1970, 1, 1, 0, 1, tzinfo=datetime.UTC)
    assert approval.decided_at_utc == datetime.datetime(1970, 1, 1, 0, 0, 2, tzinfo=datetime.UTC)
    assert (new_approval().expires_at_utc, new_approval().decided_at_utc) == (None, None)


async def test_approvals_are_listed_by_state_the_oldest_first() -> None:
    expired = new_approval("i0", created_at=3, expires_at=4)
    store = await store_with(new_approval("i2", created_at=2), new_approval("i1", created_at=1), expired,
                             with_decision(new_approval("i3")))  # fmt: skip

    async def names(state: str | None) -> list[str]:
        return [approval.interrupt_id for approval in await list_approvals(store, "t", state)]  # type: ignore[arg-type]

    assert await names("open") == ["i1", "i2"]
    assert await names("expired") == ["i0"]
    assert await names("approved") == ["i3"]
    assert await names(None) == ["i1", "i2", "i0", "i3"]
    assert await list_approvals(store, "another", None) == []


async def test_open_interrupts_are_those_without_a_decision() -> None:
    interrupts = [{"id": "i1"}, {"id": "i2"}, {"id": "unknown"}]
    assert await find_open_interrupts(MemoryStore(), "t", "r", interrupts) is None
    store = await store_with(with_decision(new_approval("i1")), new_approval("i2"))
    assert await find_open_interrupts(store, "t", "r", interrupts) == [{"id": "i2"}, {"id": "unknown"}]
    assert await find_open_interrupts(store, "t", "another", interrupts) is None


async def test_all_is_answered_when_nothing_is_open() -> None:
    store = await store_with(with_decision(new_approval("i1")), new_approval("i2"))
    assert not await is_every_interrupt_answered(store, "t", ["i1"])
    await store.write(approval_changes(with_decision(await load_approval(store, "r/i2"))))
    assert await is_every_interrupt_answered(store, "t", ["i1", "i2"])
    assert not await is_every_interrupt_answered(store, "t", ["i1", "unknown"])


async def test_interrupts_are_closed_if_they_have_approvals_and_none_is_open() -> None:
    store = await store_with(with_decision(new_approval("i1")), new_approval("i2"))
    assert await is_every_interrupt_closed(store, "t", ["i1"])
    assert not await is_every_interrupt_closed(store, "t", ["i1", "i2"])
    assert not await is_every_interrupt_closed(MemoryStore(), "t", ["i1"])


def test_accepted_answers_are_those_of_one_run() -> None:
    def accept_in_a_copy() -> list[bool]:
        accept_answers("t", "r")
        return [has_accepted_answers(*run) for run in (("t", "r"), ("t", "another"), ("another", "r"))]

    assert contextvars.copy_context().run(accept_in_a_copy) == [True, False, False]
    assert not has_accepted_answers("t", "r")


async def test_approvals_of_0_1_0_are_read() -> None:
    lines = {(kind, key): value.encode() for kind, key, _, value in fixture_lines("records-0.1.0-ended")}
    approval = read_approval(Record("approval", "r/i1", "t", 7, lines["approval", "r/i1"]))
    assert (approval.decision, approval.by, approval.decision_id, approval.version) == ("approve", "ann", "d1", 7)
    assert (approval.tool, approval.input, approval.interrupt_id) == ("pay", {"sum": 1}, "i1")
    with pytest.raises(RecordDamaged):
        read_approval(Record("approval", "r/i1", "t", 7, b'{"v":1,"unknown":1}'))
