"""Sessions: damaged records, records of other versions, and processes that write at once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrunner import MemoryStore
from agentrunner.errors import (
    RecordConflict,
    RecordDamaged,
    RecordTooNew,
    SessionAlreadyExists,
    SessionNotFound,
)
from agentrunner.runtime import AgentRuntime, Completed, Interrupted, Middleware, Tool
from agentrunner.stores import Change
from support.loops import run_async
from support.paths import FIXTURES
from support.scripted_model import ScriptedModel, call_tools, reply


def write(n: int) -> str:
    return f"wrote {n}"


async def create_session_with_turn(store: MemoryStore) -> AgentRuntime:
    llm = ScriptedModel(call_tools(("c1", "write", {"n": 1})), [ValueError("gone")])
    runtime = AgentRuntime(llm, tools=[write], session_store=store)
    await runtime.create_session("s")
    await runtime.run_turn("s", "go")
    return runtime


async def read_everything(runtime: AgentRuntime) -> Any:
    """Read a session, its checkpoints and its ledger."""
    await runtime.restore_session("s")
    return await runtime.resume_from_checkpoint("s", 3)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_record_raises_and_never_yields_a_wrong_session(data: st.DataObject) -> None:
    async def check() -> None:
        store = MemoryStore()
        runtime = await create_session_with_turn(store)
        records = [
            r for kind in ("session", "message", "checkpoint") for r in await store.records(kind, "s", None, 100)
        ]
        records = [r for r in records if r.kind != "checkpoint" or r.key == "s/00000003"]
        records = [r for r in records if r.kind != "message" or r.key <= "s/00000001"]
        record = data.draw(st.sampled_from(records))
        damage = data.draw(st.sampled_from(["flip", "cut", "gone", "other"]))
        at = data.draw(st.integers(0, len(record.value) - 1))
        value: bytes | None = None
        if damage == "flip":
            byte = record.value[at] ^ data.draw(st.integers(1, 255))
            value = record.value[:at] + bytes([byte]) + record.value[at + 1 :]
        elif damage == "cut":
            value = record.value[:at]
        elif damage == "other":
            value = data.draw(st.sampled_from([r for r in records if r.value != record.value])).value
        await store.write([Change(record.kind, record.key, "s", value)])
        with pytest.raises((RecordDamaged, RecordTooNew, SessionNotFound)) as raised:
            await read_everything(runtime)
        if raised.type is SessionNotFound:
            assert damage == "gone"

    run_async(check())


async def swap(store: MemoryStore, one: tuple[str, str], other: tuple[str, str]) -> None:
    """Swap the values of two records."""
    first, second = await store.record(*one), await store.record(*other)
    assert first is not None
    assert second is not None
    await store.write([Change(*one, "s", second.value), Change(*other, "s", first.value)])


async def test_undamaged_records_in_the_wrong_places() -> None:
    for kind, names in (("message", ("s/00000000", "s/00000001")), ("checkpoint", ("s/00000003", "s/00000004"))):
        store = MemoryStore()
        runtime = await create_session_with_turn(store)
        await swap(store, (kind, names[0]), (kind, names[1]))
        with pytest.raises(RecordDamaged):
            await (runtime.restore_session("s") if kind == "message" else runtime.resume_from_checkpoint("s", 3))
    # The checkpoint of another conversation, which took the same steps with other ids.
    store, other_store = MemoryStore(), MemoryStore()
    runtime = await create_session_with_turn(store)
    await create_session_with_turn(other_store)
    record = await other_store.record("checkpoint", "s/00000003")
    assert record is not None
    await store.write([Change("checkpoint", record.key, "s", record.value)])
    with pytest.raises(RecordDamaged):
        await runtime.resume_from_checkpoint("s", 3)


async def test_a_session_of_version_0_1_0_continues() -> None:
    """Continue a session that version 0.1.0 stored while it waited for an approval of `pay`."""
    store = MemoryStore()
    records = json.loads((FIXTURES / "runtime-0.1.0.json").read_text())
    await store.write([Change(each["kind"], each["key"], "s", each["value"].encode()) for each in records])
    llm = ScriptedModel(reply("done"))
    agent = AgentRuntime(llm, tools=[Tool(lambda to: f"paid {to}", name="pay", policy="ask")], session_store=store)
    session = await agent.restore_session("s")
    assert isinstance(session.outcome, Interrupted)
    assert session.metadata == {"customer": "c-17"}
    assert session.client_input == session.given == {"tools": [], "context": [], "state": None}
    assert session.created_at_utc.isoformat() == "2026-11-30T09:57:01.645000+00:00"
    approval = {"interruptId": "int-c2", "status": "resolved", "payload": {"approved": True}}
    result = await agent.run_turn("s", resume=[approval])
    assert result.outcome == Completed("done")
    assert [message["content"] for message in result.session.messages if message["role"] == "tool"] == [
        "seen", "paid bob",
    ]  # fmt: skip


async def test_a_session_written_by_a_newer_version_is_refused() -> None:
    store = MemoryStore()
    runtime = await create_session_with_turn(store)
    record = await store.record("session", "s")
    assert record is not None
    await store.write([Change("session", "s", "s", record.value.replace(b'{"v":2,', b'{"v":3,'))])
    with pytest.raises(RecordTooNew):
        await runtime.restore_session("s")


async def test_two_processes_cannot_create_or_change_a_session_at_once() -> None:
    store = MemoryStore()
    runtime = AgentRuntime(ScriptedModel(reply("a")), session_store=store)
    await runtime.create_session("s")
    with pytest.raises(SessionAlreadyExists):
        await runtime.create_session("s")

    class Slow(Middleware):
        async def on_post_llm(self, context: Any, answer: Any) -> None:
            # Another process finishes a turn of the same session in the meantime.
            await AgentRuntime(ScriptedModel(reply("b")), session_store=store).run_turn("s", "me first")

    slow = AgentRuntime(ScriptedModel(reply("c")), middlewares=[Slow()], session_store=store)
    with pytest.raises(RecordConflict):
        await slow.run_turn("s", "me")
    assert [m["content"] for m in (await runtime.restore_session("s")).messages] == ["me", "me first", "b"]


async def test_sessions_whose_ids_look_like_keys_stay_apart() -> None:
    store = MemoryStore()
    for name in ("a", "a/00000000", "a%2F00000000", "ä/…"):
        runtime = AgentRuntime(ScriptedModel(call_tools(("b/c", "write", {"n": 1})), reply("x")), tools=[write],
                               session_store=store)  # fmt: skip
        await runtime.create_session(name)
        assert (await runtime.run_turn(name, name)).outcome == Completed("x")
    for name in ("a", "a/00000000", "a%2F00000000", "ä/…"):
        assert (await runtime.restore_session(name)).messages[0]["content"] == name
