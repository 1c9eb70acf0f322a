"""Checkpoints: going on from any of them ends as if nothing had happened; a damaged one is told of, and never used."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrunner import AgentRunner, MemoryStore
from agentrunner.errors import (
    LeaseLost,
    RecordConflict,
    RecordDamaged,
    RecordTooNew,
    SessionAlreadyExists,
    SessionNotFound,
    StoreFull,
)
from agentrunner.runtime import (
    AgentRuntime,
    Completed,
    LlmRequest,
    Middleware,
    ReasoningDelta,
    RuntimeConfig,
    Tool,
    ToolContext,
)
from agentrunner.stores import Change
from support.inputs import make_input
from support.loops import run_async
from support.scripted_model import Dying, Model, Script, calls, run, says, session_in, shown, steps, told
from support.tool_ledger import UNKNOWN, ended_calls, spoken

if TYPE_CHECKING:
    from agentrunner.runtime import Session


class Tools:
    """Tools that note which calls they ran, and under which idempotency keys."""

    def __init__(self, idempotent: bool = False) -> None:
        self.ran: Counter[str] = Counter()
        self.keys: dict[str, set[str]] = {}
        self.tools = [
            Tool(self.read, concurrent=True, idempotent=idempotent),
            Tool(self.write, idempotent=idempotent),
            Tool(self.fail, idempotent=idempotent),
        ]

    def _note(self, context: ToolContext) -> None:
        self.ran[context.tool_call_id] += 1
        self.keys.setdefault(context.tool_call_id, set()).add(context.idempotency_key)

    async def read(self, n: int, context: ToolContext) -> str:
        await asyncio.sleep(0)
        self._note(context)
        return f"read {n}"

    async def write(self, n: int, context: ToolContext) -> str:
        self._note(context)
        return f"wrote {n}"

    async def fail(self, context: ToolContext) -> str:
        self._note(context)
        raise ValueError("no")


class Counting(Middleware):
    """Tells the model how often it was asked."""

    async def on_pre_llm(self, context: Any, request: LlmRequest) -> LlmRequest:
        note = {"id": "note", "role": "system", "content": f"question {context.turn}"}
        return LlmRequest([*request.messages, note], request.tools, request.settings)


def agent(tools: Tools, **options: Any) -> AgentRuntime:
    model = Model(
        [ReasoningDelta("first"), *calls(("c1", "write", {"n": 1}), text="Let me see.")],
        calls(("c2", "read", {"n": 2}), ("c3", "read", {"n": 3}), ("c4", "write", {"n": 4})),
        calls(("c5", "fail", {}), ("c6", "read", {"n": "x"})),
        says("all ", "done"),
    )
    return AgentRuntime(model, tools=tools.tools, middlewares=[Counting()], **options)


async def uninterrupted() -> tuple[Session, Dying]:
    store = Dying()
    async with AgentRunner(store) as runner:
        await run(runner, agent(Tools()), make_input("t1", "r1", ["go"]))
        session = await session_in(store)
        assert session.outcome == Completed("all done")
        assert session.messages == await runner.threads.messages("t1")
    return session, store


WRITES = len(run_async(uninterrupted())[1].log)


async def test_what_is_written_of_a_turn() -> None:
    _, store = await uninterrupted()
    assert steps(store.log) == [
        "after_user_input", *["before_llm", "before_tool_calls", "after_tool_calls"] * 3, "before_llm",
    ]  # fmt: skip
    assert len(store.log) == 21
    # With the results goes the checkpoint behind them, with the answer the outcome: all or nothing.
    assert store.log[5] == ["message", "after_tool_calls", "session"]
    assert store.log[-1] == ["message", "session"]


@pytest.mark.parametrize("idempotent", [False, True], ids=["plain", "idempotent"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, WRITES + 1))
async def test_a_crash_around_any_write(at: int, after: bool, idempotent: bool) -> None:
    whole, _ = await uninterrupted()
    tools, store = Tools(idempotent), Dying(at=at, after=after)
    async with AgentRunner(store) as runner:
        await run(runner, agent(tools), make_input("t1", "r1", ["go"]))
        assert store.died
        finished = [key for kind, key in await ended_calls(store) if kind == "tool"]
        store.survive()
        ran = tools.ran.copy()
        await run(runner, agent(tools).resume, make_input("t1", "r2", ["go"]))
        session = await session_in(store)
        assert spoken(session.messages) == spoken(await runner.threads.messages("t1"))
    assert session.outcome == Completed("all done")
    assert all(tools.ran[call] == ran[call] == 1 for call in finished)
    lost = [m["toolCallId"] for m in session.messages if m["role"] == "tool" and m["content"].startswith(UNKNOWN)]
    if idempotent:
        assert not lost
        assert all(len(keys) == 1 for keys in tools.keys.values())
    else:
        assert max(tools.ran.values()) == 1
        assert not set(lost) & set(finished)
    kept = [message for message in told(session) if message.get("toolCallId") not in lost]
    assert kept == [message for message in told(whole) if message.get("toolCallId") not in lost]


@pytest.mark.parametrize("number", range(1, 12))
async def test_going_on_from_each_checkpoint(number: int) -> None:
    tools, store = Tools(), MemoryStore()
    async with agent(tools, session_store=store) as runtime:
        await runtime.create_session("s")
        whole = (await runtime.run_turn("s", "go")).session
        assert whole.checkpoints == 11
        ran = tools.ran.copy()
        result = await runtime.resume_from_checkpoint("s", number)
        assert result.outcome == Completed("all done")
        assert told(result.session) == told(whole)
        assert result.session.checkpoints == 11
        # What the model has called before this checkpoint is not run again; what it calls anew is.
        called = sum(number >= first for first in (3, 6, 6, 6, 9))
        again = dict.fromkeys(("c1", "c2", "c3", "c4", "c5")[called:], 1)
        assert tools.ran == ran + Counter(again)


async def test_going_on_with_what_has_ended_changes_nothing() -> None:
    tools = Tools()
    runtime = agent(tools)
    await runtime.create_session("s")
    with pytest.raises(SessionNotFound):
        await runtime.resume_from_checkpoint("s")
    whole = await runtime.run_turn("s", "go")
    ran = tools.ran.copy()
    result = await runtime.resume_from_checkpoint("s")
    assert result.session == whole.session
    result = await runtime.resume_from_checkpoint("s", whole.session.checkpoints)
    assert told(result.session) == told(whole.session)
    assert tools.ran == ran


async def test_a_resumed_run_tells_its_readers_all_anew() -> None:
    store = Dying(at=6, after=False)
    async with AgentRunner(store) as runner:
        events = await run(runner, agent(Tools()), make_input("t1", "r1", ["go"]))
        # The result was shown, and its record was not written.
        assert shown(events)[-2:] == ["TOOL_CALL_RESULT", "Crash"]
        store.survive()
        events = await run(runner, agent(Tools()).resume, make_input("t1", "r2", ["go"]))
        assert shown(events)[:4] == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "STEP_STARTED", "TOOL_CALL_RESULT"]
        # Once more: it is over, and that is what is told.
        events = await run(runner, agent(Tools()).resume, make_input("t1", "r3", ["go"]))
        assert shown(events) == [
            "RUN_STARTED", "MESSAGES_SNAPSHOT",
            "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "RUN_FINISHED",
        ]  # fmt: skip
        assert (await session_in(store)).messages == await runner.threads.messages("t1")


async def test_what_is_new_to_a_resumed_run_and_what_was_said_to_others() -> None:
    store, tools = Dying(at=4), Tools()
    async with AgentRunner(store) as runner:
        await run(runner, agent(tools), make_input("t1", "r1", ["go"]))
        store.survive()
        # A harness gives all the thread has: also what was said before the session began, to another agent.
        half = {"id": "half", "role": "assistant", "content": "Let me"}
        await run(runner, agent(tools).resume, make_input("t1", "r2", ["before", "go", half]))
        assert [m["content"] for m in (await session_in(store)).messages if m["role"] == "user"] == ["go"]
        assert tools.ran["c1"] == 1
        # A run whose process died before it had written anything has a question nobody was told of.
        llm = Script(says("more"))
        known = await runner.threads.messages("t1")
        await run(runner, AgentRuntime(llm).resume, make_input("t1", "r3", [*known, "and?"]))
        assert (await session_in(store)).messages[-1]["content"] == "more"


async def test_the_question_is_kept_as_it_was() -> None:
    model = Script(says("one"), says("two"), says("three"))
    store = Dying()

    class Last:
        def trim(self, messages: list[dict[str, Any]], tools: Any, /) -> list[dict[str, Any]]:
            return [messages[0], *messages[-2:]]

    class Once(Counting):
        async def on_pre_llm(self, context: Any, request: LlmRequest) -> LlmRequest:
            assert not over
            return await super().on_pre_llm(context, request)

    over = False
    # Not all that a client takes for a setting can be written down.
    config = RuntimeConfig(system_prompt="Be.", settings={"timeout": object()})
    runtime = AgentRuntime(
        model, config=config, tools=Tools().tools, middlewares=[Once()], session_store=store, context_manager=Last()
    )
    await runtime.create_session("s")
    await runtime.run_turn("s", "a")
    await runtime.run_turn("s", "b")
    record = (await store.records("checkpoint", "s", None, 100))[3]
    note = {"id": "note", "role": "system", "content": "question 1"}
    assert orjson.loads(record.value)["value"]["request"] == {
        "messages": ["system", [1, 3], note], "tools": ["read", "write", "fail"], "settings": None,
    }  # fmt: skip
    over = True
    await runtime.resume_from_checkpoint("s", 4)
    assert model.requests[2] == model.requests[1]
    assert [message["content"] for message in model.requests[2].messages] == ["Be.", "one", "b", "question 1"]


class Refusing(MemoryStore):
    """A store that refuses one write, and notes by what claim each is made."""

    def __init__(self, at: int, error: Exception | None) -> None:
        super().__init__()
        self.claims: list[Any] = []
        self._at, self._error = at, error

    async def write(self, changes: list[Change], claim: Any = None) -> list[int]:
        self.claims.append(claim)
        if len(self.claims) == self._at and self._error is not None:
            raise self._error
        return await super().write(changes, claim)


@pytest.mark.parametrize("error", [LeaseLost("it is another's"), StoreFull("full"), RecordConflict("tool", "t1/c1")])
@pytest.mark.parametrize("at", range(1, 7))
async def test_a_store_that_refuses_ends_the_run_and_not_the_turn(at: int, error: Exception) -> None:
    store, tools = Refusing(at, error), Tools()
    async with AgentRunner(store) as runner:
        events = await run(runner, agent(tools), make_input("t1", "r1", ["go"]))
        assert shown(events)[-1] == str(error)
        await run(runner, agent(tools).resume, make_input("t1", "r2", ["go"]))
        assert (await session_in(store)).outcome == Completed("all done")
    assert max(tools.ran.values()) == 1


async def test_what_is_written_in_a_run_is_written_under_its_claim() -> None:
    store = Refusing(0, None)
    async with AgentRunner(store) as runner:
        await run(runner, agent(Tools()), make_input("t1", "r1", ["go"]))
        assert {claim.run_id for claim in store.claims} == {"r1"}
        assert len(store.claims) == WRITES


# Damage


async def a_session(store: MemoryStore) -> AgentRuntime:
    runtime = AgentRuntime(Script(calls(("c1", "write", {"n": 1})), [ValueError("away")]), tools=Tools().tools,
                           session_store=store)  # fmt: skip
    await runtime.create_session("s")
    await runtime.run_turn("s", "go")
    return runtime


async def everything(runtime: AgentRuntime) -> Any:
    """Read all there is of a session: itself, its checkpoints, its ledger."""
    await runtime.restore_session("s")
    return await runtime.resume_from_checkpoint("s", 3)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_damaged_record_is_an_error_and_never_a_wrong_session(data: st.DataObject) -> None:
    async def check() -> None:
        store = MemoryStore()
        runtime = await a_session(store)
        records = [
            r for kind in ("session", "message", "checkpoint") for r in await store.records(kind, "s", None, 100)
        ]
        records = [r for r in records if r.kind != "checkpoint" or r.key == "s/00000003"]
        records = [r for r in records if r.kind != "message" or r.key <= "s/00000001"]
        record = data.draw(st.sampled_from(records))
        how = data.draw(st.sampled_from(["flip", "cut", "gone", "other"]))
        at = data.draw(st.integers(0, len(record.value) - 1))
        value: bytes | None = None
        if how == "flip":
            byte = record.value[at] ^ data.draw(st.integers(1, 255))
            value = record.value[:at] + bytes([byte]) + record.value[at + 1 :]
        elif how == "cut":
            value = record.value[:at]
        elif how == "other":
            value = data.draw(st.sampled_from([r for r in records if r.value != record.value])).value
        await store.write([Change(record.kind, record.key, "s", value)])
        with pytest.raises((RecordDamaged, RecordTooNew, SessionNotFound)) as raised:
            await everything(runtime)
        if raised.type is SessionNotFound:
            assert how == "gone"

    run_async(check())


async def swap(store: MemoryStore, one: tuple[str, str], other: tuple[str, str]) -> None:
    """Put the two records' values in each other's places."""
    first, second = await store.record(*one), await store.record(*other)
    assert first is not None
    assert second is not None
    await store.write([Change(*one, "s", second.value), Change(*other, "s", first.value)])


async def test_whole_records_in_the_wrong_places() -> None:
    for kind, names in (("message", ("s/00000000", "s/00000001")), ("checkpoint", ("s/00000003", "s/00000004"))):
        store = MemoryStore()
        runtime = await a_session(store)
        await swap(store, (kind, names[0]), (kind, names[1]))
        with pytest.raises(RecordDamaged):
            await (runtime.restore_session("s") if kind == "message" else runtime.resume_from_checkpoint("s", 3))
    # Of another conversation in which all went the same way but for the words.
    store, elsewhere = MemoryStore(), MemoryStore()
    runtime = await a_session(store)
    await a_session(elsewhere)
    record = await elsewhere.record("checkpoint", "s/00000003")
    assert record is not None
    await store.write([Change("checkpoint", record.key, "s", record.value)])
    with pytest.raises(RecordDamaged):
        await runtime.resume_from_checkpoint("s", 3)


async def test_what_a_newer_version_wrote_is_not_guessed_at() -> None:
    store = MemoryStore()
    runtime = await a_session(store)
    record = await store.record("session", "s")
    assert record is not None
    await store.write([Change("session", "s", "s", record.value.replace(b'{"v":2,', b'{"v":3,'))])
    with pytest.raises(RecordTooNew):
        await runtime.restore_session("s")


async def test_a_session_is_made_once_and_changed_by_one() -> None:
    store = MemoryStore()
    runtime = AgentRuntime(Script(says("a")), session_store=store)
    await runtime.create_session("s")
    with pytest.raises(SessionAlreadyExists):
        await runtime.create_session("s")

    class Slow(Middleware):
        async def on_post_llm(self, context: Any, answer: Any) -> None:
            # Meanwhile another process has a turn of the same session.
            await AgentRuntime(Script(says("b")), session_store=store).run_turn("s", "me first")

    slow = AgentRuntime(Script(says("c")), middlewares=[Slow()], session_store=store)
    with pytest.raises(RecordConflict):
        await slow.run_turn("s", "me")
    assert [m["content"] for m in (await runtime.restore_session("s")).messages] == ["me", "me first", "b"]


async def test_sessions_whose_names_look_like_keys_stay_apart() -> None:
    store = MemoryStore()
    for name in ("a", "a/00000000", "a%2F00000000", "ä/…"):
        runtime = AgentRuntime(Script(calls(("b/c", "write", {"n": 1})), says("x")), tools=Tools().tools,
                               session_store=store)  # fmt: skip
        await runtime.create_session(name)
        assert (await runtime.run_turn(name, name)).outcome == Completed("x")
    for name in ("a", "a/00000000", "a%2F00000000", "ä/…"):
        assert (await runtime.restore_session(name)).messages[0]["content"] == name
