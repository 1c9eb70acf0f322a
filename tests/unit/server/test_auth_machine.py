"""Two principals with random requests never see anything of each other."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule

from agentrunner import InMemoryAgentRunner
from agentrunner.server import create_app
from support.agents import agent_with
from support.events import text_message
from support.inputs import make_input
from support.thread_requests import UNKNOWN_THREAD, authenticate_by_name, build_thread_requests, send
from support.wire import client

if TYPE_CHECKING:
    from agentrunner import AgentRunner

pytestmark = pytest.mark.slow


def app_of(runner: AgentRunner, agent: Any = None, **options: Any) -> Any:
    options = {"authenticate": authenticate_by_name, "mode": "both"} | options
    return create_app(runner, {"default": agent or agent_with(*text_message("m", "hello"))}, **options)


def comparable(answer: httpx.Response) -> tuple[int, bytes, list[tuple[str, str]]]:
    return answer.status_code, answer.content, sorted(answer.headers.items())


NAMES = ("ann-of-the-hills", "bob-of-the-sea")
THREADS = st.sampled_from(["t1", "t2", "t3"])
WHO = st.sampled_from(NAMES)


class TwoPrincipals(RuleBasedStateMachine):
    """Two principals share a few thread ids; all content contains its owner's name."""

    runs = Bundle("runs")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.owner: dict[str, str] = {}
        self.names: dict[str, str | None] = {}
        self.count = 0

    @initialize()
    def begin(self) -> None:
        async def agent(input: Any) -> Any:
            note = input.forwarded_props["said"]
            events = [
                {"type": "CUSTOM", "name": "note", "value": note},
                {"type": "STATE_SNAPSHOT", "snapshot": {"said": note}},
                *text_message(f"m-{input.run_id}", note),
            ]
            async for event in agent_with(*events)(input):
                yield event

        self.runner = InMemoryAgentRunner()
        self.http = client(app_of(self.runner, agent))

    def teardown(self) -> None:
        if hasattr(self, "runner"):
            self.loop.run(self.http.aclose())
            self.loop.run(self.runner.aclose())
        self.loop.close()

    def ask(self, who: str, way: tuple[str, str, Any, dict[str, str]]) -> httpx.Response:
        method, path, body, headers = way
        answer = self.loop.run(send(self.http, (method, path, body, headers | {"x-user": who})))
        other = NAMES[1 - NAMES.index(who)]
        assert other not in answer.text, (way, answer.text)
        assert other not in str(answer.headers)
        assert answer.status_code < 500, answer.text
        return answer

    def theirs(self, who: str, thread: str) -> bool:
        return self.owner.get(thread) == who

    @rule(who=WHO, thread=THREADS, way=st.sampled_from(["run", "run plain", "run plain by agent", "run single"]))
    def run(self, who: str, thread: str, way: str) -> None:
        self.count += 1
        method, path, body, headers = build_thread_requests(thread, f"{who}-{self.count}")[way]
        run_input = body["body"] if way == "run single" else body
        run_input["forwardedProps"] = {"said": f"{who} says {self.count}"}
        run_input["messages"] = [{"id": f"{who}-q{self.count}", "role": "user", "content": f"{who} asks"}]
        answer = self.ask(who, (method, path, body, headers))
        free = thread not in self.owner
        assert answer.status_code == (200 if free or self.theirs(who, thread) else 404)
        if free:
            self.owner[thread] = who
            self.names[thread] = None

    @rule(who=WHO, thread=THREADS, data=st.data())
    def anything(self, who: str, thread: str, data: st.DataObject) -> None:
        possible = {
            name: way
            for name, way in build_thread_requests(thread, "x").items()
            if not name.startswith(("run", "DELETE"))
        }
        name = data.draw(st.sampled_from(sorted(possible)))
        method, path, body, headers = possible[name]
        body = json.loads(json.dumps(body).replace("mine now", f"named by {who}"))
        answer = self.ask(who, (method, path, body, headers))
        if self.theirs(who, thread):
            assert answer.status_code != 404 or "ahead" in name
            if "mine now" in name:
                self.names[thread] = f"named by {who}"
        else:
            assert (answer.status_code, answer.content) == UNKNOWN_THREAD

    @rule(who=WHO, thread=THREADS, single=st.booleans())
    def delete(self, who: str, thread: str, single: bool) -> None:
        answer = self.ask(who, build_thread_requests(thread, "x")[f"DELETE  {{}}{' single' if single else ''}"])
        assert answer.status_code == (200 if self.theirs(who, thread) else 404)
        if self.theirs(who, thread):
            del self.owner[thread]

    @rule(who=WHO)
    def clear(self, who: str) -> None:
        assert self.ask(who, ("POST", "/threads/clear", {}, {})).status_code == 204
        self.owner = {thread: owner for thread, owner in self.owner.items() if owner != who}

    @rule(who=WHO, thread=THREADS, knows=st.booleans())
    def connect(self, who: str, thread: str, knows: bool) -> None:
        # A client with messages gets the whole thread in one snapshot.
        own = [{"id": f"{who}-own", "role": "user", "content": f"{who} has this"}] if knows else []
        answer = self.ask(who, ("POST", "/agent/default/connect", make_input(thread, "x", own), {}))
        assert answer.status_code == 200
        assert (answer.content != b"") == self.theirs(who, thread)

    @rule(who=WHO, agent=st.sampled_from(["default", "ann-of-the-hills", ""]), limit=st.integers(1, 3))
    def pages(self, who: str, agent: str, limit: int) -> None:
        if agent in NAMES and agent != who:
            return
        self.ask(who, ("GET", f"/threads?limit={limit}&agentId={agent}", None, {}))

    @invariant()
    def each_sees_its_own(self) -> None:
        if not hasattr(self, "runner"):
            return
        for who in NAMES:
            answer = self.ask(who, ("GET", "/threads?includeArchived=true", None, {}))
            names = {thread["id"]: thread["name"] for thread in answer.json()["threads"]}
            assert names == {thread: self.names[thread] for thread, owner in self.owner.items() if owner == who}


def test_two_principals_never_see_each_other() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    wanted = settings(max_examples=40, stateful_step_count=25, deadline=None, derandomize=True, database=None)
    run_state_machine_as_test(TwoPrincipals, settings=wanted)  # type: ignore[no-untyped-call]


def test_the_state_machine_finds_a_leak(monkeypatch: pytest.MonkeyPatch) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    from agentrunner.server.context import AppContext

    async def can_see(self: AppContext, principal: Any, thread_id: str) -> bool:
        return True

    monkeypatch.setattr(AppContext, "can_see", can_see)
    wanted = settings(max_examples=20, deadline=None, derandomize=True, database=None, phases=["generate"])
    with pytest.raises(AssertionError):
        run_state_machine_as_test(TwoPrincipals, settings=wanted)  # type: ignore[no-untyped-call]
