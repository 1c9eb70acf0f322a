"""Whole conversations with crashes anywhere end as they would have without, and no finished tool is run twice."""

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

CHART = {"name": "chart", "description": "Draw.", "parameters": {"type": "object", "properties": {}}}

KINDS = ("read", "write", "fail", "ask", "chart", "unheard-of")
turns = st.lists(st.lists(st.lists(st.sampled_from(KINDS), min_size=1, max_size=3), max_size=2), min_size=1, max_size=3)
"""Of each of the user's turns, of each of the model's, what tools it calls; an answer follows."""
crashes = st.lists(st.tuples(st.integers(1, 9), st.booleans()), max_size=6)
"""With which write each process dies, counted from where it goes on, and whether that is still done."""


class Tools:
    def __init__(self, idempotent: bool) -> None:
        self.ran: Counter[str] = Counter()
        self.keys: set[tuple[str, str]] = set()
        self.tools = [
            Tool(self.done, name="read", concurrent=True, idempotent=idempotent),
            Tool(self.done, name="write", idempotent=idempotent),
            Tool(self.done, name="ask", policy="ask", idempotent=idempotent),
            Tool(self.fail, idempotent=idempotent),
        ]

    async def done(self, context: ToolContext, to: str = "") -> str:
        self.ran[context.tool_call_id] += 1
        self.keys.add((context.tool_call_id, context.idempotency_key))
        await asyncio.sleep(0)
        return f"{context.tool_call_id} done {to}"

    async def fail(self, context: ToolContext) -> str:
        await self.done(context)
        raise ValueError("no")


@dataclass
class Talk:
    """A conversation, over a store whose process dies now and then."""

    script: list[list[list[str]]]
    store: CrashingStore
    tools: Tools
    plan: list[tuple[int, bool]]

    def __post_init__(self) -> None:
        ids = itertools.count(1)
        answers = []
        for turn in self.script:
            answers += [call_tools(*[(f"c{next(ids)}", kind, {}) for kind in made]) for made in turn]
            answers.append(reply(f"answer {len(answers)}"))
        self._answers = answers
        self._runs = itertools.count(1)
        self.finished: Counter[str] = Counter()

    def agent(self) -> AgentRuntime:
        recovery = ToolErrorRecovery(max_retries=99)
        return AgentRuntime(StatelessModel(*self._answers), tools=self.tools.tools, error_recovery=recovery)

    async def attempt(self, runner: AgentRunner, **fields: Any) -> Session:
        """Run to the end of a run, by as many processes as that takes."""
        agent = self.agent().run
        while True:
            self.store.revive()
            if self.plan:
                self.store.crash_at(*self.plan.pop(0))
            await collect_run(runner, agent, make_input("t1", f"r{next(self._runs)}", tools=[CHART], **fields))
            if not self.store.has_crashed:
                return await load_session(self.store)
            self.store.revive()
            for _, call in await load_finished_calls(self.store):
                # What had an end when the process died has run its last.
                self.finished.setdefault(call, self.tools.ran[call])
            agent = self.agent().resume

    async def whole(self) -> Session:
        async with AgentRunner(self.store) as runner:
            for number in range(len(self.script)):
                known = await runner.threads.messages("t1")
                session = await self.attempt(runner, messages=[*known, f"question {number}"])
                while not isinstance(session.outcome, Completed):
                    known = await runner.threads.messages("t1")
                    if isinstance(session.outcome, Interrupted):
                        session = await self.attempt(
                            runner, messages=known, resume=[decided(one) for one in session.outcome.interrupts]
                        )
                    else:
                        assert isinstance(session.outcome, WaitingForClient)
                        results = [
                            {"id": f"{call}-mine", "role": "tool", "toolCallId": call, "content": "drawn"}
                            for call in session.outcome.tool_call_ids
                        ]
                        session = await self.attempt(runner, messages=[*known, *results])
            assert without_reasoning(session.messages) == without_reasoning(await runner.threads.messages("t1"))
        return session


def decided(interrupt: dict[str, Any]) -> dict[str, Any]:
    """Decide by the call's number, so that it is the same in every world."""
    number = int(interrupt["toolCallId"][1:]) % 3
    payload: dict[str, Any] = {"approved": number != 0, "reason": "no"}
    if number == 1:
        payload = {"approved": True, "editedArgs": {"to": "eve"}}
    return {"interruptId": interrupt["id"], "status": "resolved", "payload": payload}


async def check(script: Any, plan: list[tuple[int, bool]], idempotent: bool, store: Any, other: Any) -> None:
    reference = await Talk(script, CrashingStore(other), Tools(idempotent), []).whole()
    talk = Talk(script, CrashingStore(store), Tools(idempotent), list(plan))
    session = await talk.whole()
    lost = {
        m["toolCallId"] for m in session.messages if m["role"] == "tool" and m["content"].startswith(UNKNOWN_OUTCOME)
    }
    for call, times in talk.finished.items():
        assert talk.tools.ran[call] == times
        assert call not in lost
    if idempotent:
        assert not lost
        assert len(talk.tools.keys) == len(talk.tools.ran)
    else:
        assert all(times == 1 for times in talk.tools.ran.values())
    kept = [message for message in messages_without_ids(session) if message.get("toolCallId") not in lost]
    assert kept == [message for message in messages_without_ids(reference) if message.get("toolCallId") not in lost]


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, "agentrunner")


@settings(max_examples=150, deadline=None)
@given(turns, crashes, st.booleans())
def test_in_memory(script: Any, plan: list[tuple[int, bool]], idempotent: bool) -> None:
    run_async(check(script, plan, idempotent, MemoryStore(), MemoryStore()))


@pytest.mark.parametrize("backend", backends.SHARED)
def test_in_stores(backend: str, tmp_path: Path) -> None:
    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(turns, crashes, st.booleans())
    def over(script: Any, plan: list[tuple[int, bool]], idempotent: bool) -> None:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        with backends.place(backend, folder) as location:
            run_async(check(script, plan, idempotent, store_from_url(location), MemoryStore()))

    over()
