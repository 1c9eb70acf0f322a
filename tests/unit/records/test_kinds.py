"""The kinds of records: their names on disk, and the verbs over their records."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from agentrunner import MemoryStore
from agentrunner.errors import RecordConflict
from agentrunner.records import kinds
from agentrunner.records.kinds import RecordKind, numbered_key, session_key
from agentrunner.stores import Change

if TYPE_CHECKING:
    from agentrunner import Store

ALL = {name: kind for name, kind in vars(kinds).items() if isinstance(kind, RecordKind)}


STORED_NAMES = {
    "HARNESS_RUN": "run",
    "ACTIVE_RUN": "active",
    "ATTEMPT": "segment",
    "INTENT": "intent",
    "APPROVAL": "approval",
    "OPEN_APPROVAL": "open",
    "HEARTBEAT": "beat",
    "SLOTS": "slots",
    "SESSION": "session",
    "MESSAGE": "message",
    "CHECKPOINT": "checkpoint",
    "TOOL_CALL": "tool",
}
"""Names of released kinds on disk; a new kind need not be listed."""


def test_names_on_disk_never_change() -> None:
    assert {name: ALL[name].name for name in STORED_NAMES} == STORED_NAMES


def test_each_kind_has_its_own_name() -> None:
    assert len({kind.name for kind in ALL.values()}) == len(ALL)


def test_all_kinds_but_those_of_processes_belong_to_a_thread() -> None:
    assert set(ALL.values()) - set(kinds.THREAD_KINDS) == {kinds.HEARTBEAT, kinds.SLOTS}


async def test_a_value_is_written_found_and_removed() -> None:
    store = MemoryStore()
    await store.write([kinds.SLOTS.change("default", "", {"held": []}, 0)])
    record = await kinds.SLOTS.find(store, "default")
    assert record is not None
    assert kinds.SLOTS.decode(record) == {"held": []}
    with pytest.raises(RecordConflict):
        await store.write([kinds.SLOTS.change("default", "", {"held": ["r"]}, 0)])
    with pytest.raises(RecordConflict):
        await store.write([kinds.SLOTS.removal("default", "", record.version + 1)])
    await store.write([kinds.SLOTS.removal("default", "", record.version)])
    assert await kinds.SLOTS.find(store, "default") is None


async def test_iteration_reads_page_by_page(store_factory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentrunner.records.kinds.PAGE_RECORDS", 2)
    store: Store = store_factory()
    await store.open()
    try:
        for number in range(5):
            await store.write([kinds.MESSAGE.change(f"{number}", f"t{number % 2}", {"number": number})])
        await store.write([kinds.SESSION.change("s", "t0", {})])
        assert [record.key async for record in kinds.MESSAGE.iterate(store)] == ["0", "1", "2", "3", "4"]
        assert [record.key async for record in kinds.MESSAGE.iterate(store, "t1")] == ["1", "3"]
        assert [record.key async for record in kinds.CHECKPOINT.iterate(store)] == []
    finally:
        await store.aclose()


async def test_a_record_that_cannot_be_read_is_skipped(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    await store.write([kinds.APPROVAL.change("a", "t", {"n": 1}), Change("approval", "b", "t", b"no json")])
    assert await kinds.APPROVAL.read_all(store, "t", kinds.APPROVAL.decode) == [{"n": 1}]
    assert "'b' is damaged" in caplog.text


def test_keys_of_different_sessions_differ() -> None:
    assert numbered_key("s", 7) == "s/00000007"
    assert session_key("a/b", "c") == "a%2Fb/c"
    assert session_key("a%2Fb", "c") == "a%252Fb/c"
