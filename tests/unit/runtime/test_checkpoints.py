"""A turn continues from any checkpoint to the same end, and never from a damaged one."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from agentrunner import AgentRunner, MemoryStore
from agentrunner.errors import (
    LeaseLost,
    RecordConflict,
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
from support.scripted_model import (
    CrashingStore,
    ScriptedModel,
    StatelessModel,
    call_tools,
    collect_run,
    list_steps,
    load_session,
    messages_without_ids,
    reply,
    summarize,
)
from support.tool_ledger import UNKNOWN_OUTCOME, load_finished_calls, without_reasoning

if TYPE_CHECKING:
    from agentrunner.runtime import Session


class Tools:
    """Tools that record which calls they ran, and under which idempotency keys."""

    def __init__(self, idempotent: bool = False) -> None:
        self.ran: Counter[str] = Counter()
        self.keys: dict[str, set[str]] = {}
        self.tools = [
            Tool(self.read, concurrent=True, idempotent=idempotent),
            Tool(self.write, idempotent=idempotent),
            Tool(self.fail, idempotent=idempotent),
        ]

    def _record(self, context: ToolContext) -> None:
        self.ran[context.tool_call_id] += 1
        self.keys.setdefault(context.tool_call_id, set()).add(context.idempotency_key)

    async def read(self, n: int, context: ToolContext) -> str:
        await asyncio.sleep(0)
        self._record(context)
        return f"read {n}"

    async def write(self, n: int, context: ToolContext) -> str:
        self._record(context)
        return f"wrote {n}"

    async def fail(self, context: ToolContext) -> str:
        self._record(context)
        raise ValueError("no")


class RequestCounter(Middleware):
    """Tells the model the number of the request."""

    async def on_pre_llm(self, context: Any, request: LlmRequest) -> LlmRequest:
        note = {"id": "note", "role": "system", "content": f"request {context.turn}"}
        return LlmRequest([*request.messages, note], request.tools, request.settings)


def make_agent(tools: Tools, **options: Any) -> AgentRuntime:
    model = StatelessModel(
        [ReasoningDelta("first"), *call_tools(("c1", "write", {"n": 1}), text="Let me see.")],
        call_tools(("c2", "read", {"n": 2}), ("c3", "read", {"n": 3}), ("c4", "write", {"n": 4})),
        call_tools(("c5", "fail", {}), ("c6", "read", {"n": "x"})),
        reply("all ", "done"),
    )
    return AgentRuntime(model, tools=tools.tools, middlewares=[RequestCounter()], **options)


async def run_without_crash() -> tuple[Session, CrashingStore]:
    store = CrashingStore()
    async with AgentRunner(store) as runner:
        await collect_run(runner, make_agent(Tools()), make_input("t1", "r1", ["go"]))
        session = await load_session(store)
        assert session.outcome == Completed("all done")
        assert session.messages == await runner.threads.messages("t1")
    return session, store


WRITES = len(run_async(run_without_crash())[1].log)


async def test_what_a_turn_writes() -> None:
    _, store = await run_without_crash()
    assert list_steps(store.log) == [
        "after_user_input", *["before_llm", "before_tool_calls", "after_tool_calls"] * 3, "before_llm",
    ]  # fmt: skip
    assert len(store.log) == 21
    # Results and their checkpoint are one write, and so are the answer and the outcome.
    assert store.log[5] == ["message", "after_tool_calls", "session"]
    assert store.log[-1] == ["message", "session"]


@pytest.mark.parametrize("idempotent", [False, True], ids=["plain", "idempotent"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(1, WRITES + 1))
async def test_a_crash_at_any_write(at: int, after: bool, idempotent: bool) -> None:
    reference, _ = await run_without_crash()
    tools, store = Tools(idempotent), CrashingStore(at=at, after=after)
    async with AgentRunner(store) as runner:
        await collect_run(runner, make_agent(tools), make_input("t1", "r1", ["go"]))
        assert store.has_crashed
        finished_calls = [call_id for kind, call_id in await load_finished_calls(store) if kind == "tool"]
        store.revive()
        ran_before = tools.ran.copy()
        await collect_run(runner, make_agent(tools).resume, make_input("t1", "r2", ["go"]))
        session = await load_session(store)
        assert without_reasoning(session.messages) == without_reasoning(await runner.threads.messages("t1"))
    assert session.outcome == Completed("all done")
    assert all(tools.ran[call] == ran_before[call] == 1 for call in finished_calls)
    unknown_calls = [
        m["toolCallId"] for m in session.messages if m["role"] == "tool" and m["content"].startswith(UNKNOWN_OUTCOME)
    ]
    if idempotent:
        assert not unknown_calls
        assert all(len(keys) == 1 for keys in tools.keys.values())
    else:
        assert max(tools.ran.values()) == 1
        assert not set(unknown_calls) & set(finished_calls)
    known_messages = [
        message for message in messages_without_ids(session) if message.get("toolCallId") not in unknown_calls
    ]
    assert known_messages == [
        message for message in messages_without_ids(reference) if message.get("toolCallId") not in unknown_calls
    ]


@pytest.mark.parametrize("number", range(1, 12))
async def test_a_turn_continues_from_each_checkpoint(number: int) -> None:
    tools, store = Tools(), MemoryStore()
    async with make_agent(tools, session_store=store) as runtime:
        await runtime.create_session("s")
        whole = (await runtime.run_turn("s", "go")).session
        assert whole.checkpoints == 11
        ran_before = tools.ran.copy()
        result = await runtime.resume_from_checkpoint("s", number)
        assert result.outcome == Completed("all done")
        assert messages_without_ids(result.session) == messages_without_ids(whole)
        assert result.session.checkpoints == 11
        # Calls from before this checkpoint do not run again; the calls of later responses do.
        calls_before = sum(number >= first for first in (3, 6, 6, 6, 9))
        ran_again = dict.fromkeys(("c1", "c2", "c3", "c4", "c5")[calls_before:], 1)
        assert tools.ran == ran_before + Counter(ran_again)


async def test_continuing_a_finished_turn_changes_nothing() -> None:
    tools = Tools()
    runtime = make_agent(tools)
    await runtime.create_session("s")
    with pytest.raises(SessionNotFound):
        await runtime.resume_from_checkpoint("s")
    whole = await runtime.run_turn("s", "go")
    ran_before = tools.ran.copy()
    result = await runtime.resume_from_checkpoint("s")
    assert result.session == whole.session
    result = await runtime.resume_from_checkpoint("s", whole.session.checkpoints)
    assert messages_without_ids(result.session) == messages_without_ids(whole.session)
    assert tools.ran == ran_before


async def test_a_resumed_run_sends_all_messages_again() -> None:
    store = CrashingStore(at=6, after=False)
    async with AgentRunner(store) as runner:
        events = await collect_run(runner, make_agent(Tools()), make_input("t1", "r1", ["go"]))
        # Readers saw the result, but its record was not written.
        assert [event["type"] for event in events][-2:] == ["TOOL_CALL_RESULT", "RUN_ERROR"]
        store.revive()
        known = await runner.threads.messages("t1")
        events = await collect_run(runner, make_agent(Tools()).resume, make_input("t1", "r2", known))
        assert summarize(events)[:4] == ["RUN_STARTED", "MESSAGES_SNAPSHOT", "STEP_STARTED", "TOOL_CALL_RESULT"]
        # The turn has ended, so resuming again repeats its end.
        known = await runner.threads.messages("t1")
        events = await collect_run(runner, make_agent(Tools()).resume, make_input("t1", "r3", known))
        assert summarize(events) == [
            "RUN_STARTED", "MESSAGES_SNAPSHOT",
            "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "RUN_FINISHED",
        ]  # fmt: skip
        assert (await load_session(store)).messages == await runner.threads.messages("t1")


async def test_a_resumed_run_takes_new_messages_and_skips_those_for_other_agents() -> None:
    store, tools = CrashingStore(at=4), Tools()
    async with AgentRunner(store) as runner:
        await collect_run(runner, make_agent(tools), make_input("t1", "r1", ["go"]))
        store.revive()
        # A harness passes all messages of the thread, including those for another agent before this session.
        half = {"id": "half", "role": "assistant", "content": "Let me"}
        await collect_run(runner, make_agent(tools).resume, make_input("t1", "r2", ["before", "go", half]))
        assert [m["content"] for m in (await load_session(store)).messages if m["role"] == "user"] == ["go"]
        assert tools.ran["c1"] == 1
        # The process of this run died before it wrote anything, so the session lacks its user message.
        llm = ScriptedModel(reply("more"))
        known = await runner.threads.messages("t1")
        await collect_run(runner, AgentRuntime(llm).resume, make_input("t1", "r3", [*known, "and?"]))
        assert (await load_session(store)).messages[-1]["content"] == "more"


async def test_a_checkpoint_keeps_the_request_unchanged() -> None:
    model = ScriptedModel(reply("one"), reply("two"), reply("three"))
    store = CrashingStore()

    class Last:
        def trim(self, messages: list[dict[str, Any]], tools: Any, /) -> list[dict[str, Any]]:
            return [messages[0], *messages[-2:]]

    class Once(RequestCounter):
        async def on_pre_llm(self, context: Any, request: LlmRequest) -> LlmRequest:
            assert not is_stored
            return await super().on_pre_llm(context, request)

    is_stored = False
    # A setting of the client need not be JSON.
    config = RuntimeConfig(system_prompt="Be.", settings={"timeout": object()})
    runtime = AgentRuntime(
        model, config=config, tools=Tools().tools, middlewares=[Once()], session_store=store, context_manager=Last()
    )
    await runtime.create_session("s")
    await runtime.run_turn("s", "a")
    await runtime.run_turn("s", "b")
    record = (await store.records("checkpoint", "s", None, 100))[3]
    note = {"id": "note", "role": "system", "content": "request 1"}
    assert orjson.loads(record.value)["value"]["request"] == {
        "messages": ["system", [1, 3], note], "tools": ["read", "write", "fail"], "settings": None,
    }  # fmt: skip
    is_stored = True
    await runtime.resume_from_checkpoint("s", 4)
    assert model.requests[2] == model.requests[1]
    assert [message["content"] for message in model.requests[2].messages] == ["Be.", "one", "b", "request 1"]


class FailingStore(MemoryStore):
    """A store that fails one write, and records the claim of each."""

    def __init__(self, at: int, error: Exception | None) -> None:
        super().__init__()
        self.claims: list[Any] = []
        self._at, self._error = at, error

    async def write(self, changes: list[Change], claim: Any = None) -> list[int]:
        self.claims.append(claim)
        if len(self.claims) == self._at and self._error is not None:
            raise self._error
        return await super().write(changes, claim)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (LeaseLost("lost"), "lost"),
        (StoreFull("full"), "The store could not be read or written"),
        (conflict := RecordConflict("tool", "t1/c1"), str(conflict)),
    ],
)
@pytest.mark.parametrize("at", range(1, 7))
async def test_a_failing_store_ends_the_run_but_not_the_turn(at: int, error: Exception, text: str) -> None:
    store, tools = FailingStore(at, error), Tools()
    async with AgentRunner(store) as runner:
        events = await collect_run(runner, make_agent(tools), make_input("t1", "r1", ["go"]))
        assert summarize(events)[-1].startswith(text)
        await collect_run(runner, make_agent(tools).resume, make_input("t1", "r2", ["go"]))
        assert (await load_session(store)).outcome == Completed("all done")
    assert max(tools.ran.values()) == 1


async def test_every_write_of_a_run_uses_its_claim() -> None:
    store = FailingStore(0, None)
    async with AgentRunner(store) as runner:
        await collect_run(runner, make_agent(Tools()), make_input("t1", "r1", ["go"]))
        assert {claim.run_id for claim in store.claims} == {"r1"}
        assert len(store.claims) == WRITES
