"""Crashes change no conversation's end, and no finished tool call runs twice."""

from __future__ import annotations

import asyncio
import itertools
import logging
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentrunner import AgentRunner, MemoryStore
from agentrunner.runtime import (
    AgentRuntime,
    Completed,
    Interrupted,
    Session,
    Tool,
    ToolContext,
    ToolErrorRecovery,
    WaitingForClient,
)
from agentrunner.stores.urls import store_from_url
from support import backends
from support.inputs import make_input
from support.loops import run_async
from support.scripted_model import (
    CrashingStore,
    StatelessModel,
    call_tools,
    collect_run,
    load_session,
    messages_without_ids,
    reply,
)
from support.tool_ledger import UNKNOWN_OUTCOME, load_finished_calls, without_reasoning

pytestmark = pytest.mark.slow

CHART = {"name": "chart", "description": "Draw.", "parameters": {"type": "object", "properties": {}}}

KINDS = ("read", "write", "fail", "ask", "chart", "unknown")
turns = st.lists(st.lists(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3), max_size=2), min_size=1, max_size=3)
"""For each user turn, for each model response in it, the tools it calls; a final answer follows."""
crashes = st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=6)
"""For each process, the write at which it dies, counted from its start, and whether that write is done."""


class Tools:
    def __init__(self, idempotent: bool) -> None:
        self.ran: Counter[str] = Counter()
        self.keys: set[tuple[str, str]] = set()
        self.tools = [
            Tool(self.work, name="read", concurrent=True, idempotent=idempotent),
            Tool(self.work, name="write", idempotent=idempotent),
            Tool(self.work, name="ask", policy="ask", idempotent=idempotent),
            Tool(self.fail, idempotent=idempotent),
        ]

    async def work(self, context: ToolContext, to: str = "") -> str:
        self.ran[context.tool_call_id] += 1
        self.keys.add((context.tool_call_id, context.idempotency_key))
        await asyncio.sleep(0)
        return f"{context.tool_call_id} done {to}"

    async def fail(self, context: ToolContext) -> str:
        await self.work(context)
        raise ValueError("no")


@dataclass
class Conversation:
    """A conversation over a store whose processes die as planned."""

    script: list[list[list[str]]]
    store: CrashingStore
    tools: Tools
    plan: list[tuple[int, bool]]

    def __post_init__(self) -> None:
        ids = itertools.count(1)
        responses = []
        for turn in self.script:
            responses += [call_tools(*[(f"c{next(ids)}", kind, {}) for kind in response]) for response in turn]
            responses.append(reply(f"answer {len(responses)}"))
        self._responses = responses
        self._runs = itertools.count(1)
        self.finished: Counter[str] = Counter()

    def make_agent(self) -> AgentRuntime:
        recovery = ToolErrorRecovery(max_retries=99)
        return AgentRuntime(StatelessModel(*self._responses), tools=self.tools.tools, error_recovery=recovery)

    async def complete_run(self, runner: AgentRunner, **fields: Any) -> Session:
        """Complete one run, with as many processes as that takes."""
        agent = self.make_agent().run
        while True:
            self.store.revive()
            if self.plan:
                self.store.crash_at(*self.plan.pop(0))
            await collect_run(runner, agent, make_input("t1", f"r{next(self._runs)}", tools=[CHART], **fields))
            if not self.store.has_crashed:
                return await load_session(self.store)
            self.store.revive()
            for _, call in await load_finished_calls(self.store):
                # A call that had its result when the process died must not run again.
                self.finished.setdefault(call, self.tools.ran[call])
            agent = self.make_agent().resume

    async def complete(self) -> Session:
        async with AgentRunner(self.store) as runner:
            for number in range(len(self.script)):
                messages = await runner.threads.messages("t1")
                session = await self.complete_run(runner, messages=[*messages, f"question {number}"])
                while not isinstance(session.outcome, Completed):
                    messages = await runner.threads.messages("t1")
                    if isinstance(session.outcome, Interrupted):
                        session = await self.complete_run(
                            runner,
                            messages=messages,
                            resume=[decide(interrupt) for interrupt in session.outcome.interrupts],
                        )
                    else:
                        assert isinstance(session.outcome, WaitingForClient)
                        results = [
                            {"id": f"{call}-mine", "role": "tool", "toolCallId": call, "content": "drawn"}
                            for call in session.outcome.tool_call_ids
                        ]
                        session = await self.complete_run(runner, messages=[*messages, *results])
            assert without_reasoning(session.messages) == without_reasoning(await runner.threads.messages("t1"))
        return session


def decide(interrupt: dict[str, Any]) -> dict[str, Any]:
    """Return a decision that depends only on the call's number.

    Both conversations therefore get the same decisions.
    """
    number = int(interrupt["toolCallId"][1:]) % 3
    payload: dict[str, Any] = {"approved": number != 0, "reason": "no"}
    if number == 1:
        payload = {"approved": True, "editedArgs": {"to": "eve"}}
    return {"interruptId": interrupt["id"], "status": "resolved", "payload": payload}


async def check(script: Any, plan: list[tuple[int, bool]], idempotent: bool, store: Any, other: Any) -> None:
    reference = await Conversation(script, CrashingStore(other), Tools(idempotent), []).complete()
    conversation = Conversation(script, CrashingStore(store), Tools(idempotent), list(plan))
    session = await conversation.complete()
    unknown_calls = {
        m["toolCallId"] for m in session.messages if m["role"] == "tool" and m["content"].startswith(UNKNOWN_OUTCOME)
    }
    for call, times in conversation.finished.items():
        assert conversation.tools.ran[call] == times
        assert call not in unknown_calls
    if idempotent:
        assert not unknown_calls
        assert len(conversation.tools.keys) == len(conversation.tools.ran)
    else:
        assert all(times == 1 for times in conversation.tools.ran.values())
    messages = [message for message in messages_without_ids(session) if message.get("toolCallId") not in unknown_calls]
    assert messages == [
        message for message in messages_without_ids(reference) if message.get("toolCallId") not in unknown_calls
    ]


@pytest.fixture(autouse=True)
def silence_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "agentrunner")


@settings(max_examples=150, deadline=None)
@given(turns, crashes, st.booleans())
def test_crashes_with_memory(script: Any, plan: list[tuple[int, bool]], idempotent: bool) -> None:
    run_async(check(script, plan, idempotent, MemoryStore(), MemoryStore()))


@pytest.mark.parametrize("backend", backends.SHARED)
def test_crashes_with_shared_stores(backend: str, tmp_path: Path) -> None:
    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(turns, crashes, st.booleans())
    def check_conversations(script: Any, plan: list[tuple[int, bool]], idempotent: bool) -> None:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        with backends.place(backend, folder) as location:
            run_async(check(script, plan, idempotent, store_from_url(location), MemoryStore()))

    check_conversations()
