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
from agentrunner.server import Principal, create_app
from support.agents import agent_with
from support.events import text_message
from support.inputs import make_input
from support.wire import client

if TYPE_CHECKING:
    from starlette.requests import Request

    from agentrunner import AgentRunner
NOT_THERE = (404, b'{"error":"Thread not found"}')


def by_name(request: Request) -> Principal | None:
    """Return the principal that the request names."""
    name = request.headers.get("x-user")
    return Principal(name) if name else None


def app_of(runner: AgentRunner, agent: Any = None, **options: Any) -> Any:
    options = {"authenticate": by_name, "mode": "both"} | options
    return create_app(runner, {"default": agent or agent_with(*text_message("m", "hello"))}, **options)


CURSOR = {"last-event-id": "1"}


def _resource(path: str, verb: str, body: Any = None) -> dict[str, Any]:
    return {"method": "resource/request", "params": {"path": path, "httpMethod": verb}, "body": body}


def ways(thread: str, run: str) -> dict[str, tuple[str, str, Any, dict[str, str]]]:
    """Return requests by name: method, path, body, headers."""
    asked = make_input(thread, run)
    agent, both = {"agentId": "default"}, {"agentId": "default", "threadId": thread}
    behind = asked | {"lastSeenEventId": "1"}
    found: dict[str, tuple[str, str, Any, dict[str, str]]] = {
        "run": ("POST", "/agent/default/run", asked, {}),
        "run plain": ("POST", "/", asked, {}),
        "run plain by agent": ("POST", "/default", asked, {}),
        "run single": ("POST", "/", {"method": "agent/run", "params": agent, "body": asked}, {}),
        "connect": ("POST", "/agent/default/connect", asked, CURSOR),
        "connect by body": ("POST", "/agent/default/connect", behind, {}),
        "connect far ahead": ("POST", "/agent/default/connect", asked, {"last-event-id": "999999"}),
        "connect by a bad cursor": ("POST", "/agent/default/connect", asked, {"last-event-id": "no"}),
        "connect single": ("POST", "/", {"method": "agent/connect", "params": agent, "body": behind}, {}),
        "stop": ("POST", f"/agent/default/stop/{thread}", {}, {}),
        "stop one": ("POST", f"/agent/default/stop/{thread}", {"runId": "r1"}, {}),
        "stop single": ("POST", "/", {"method": "agent/stop", "params": both}, {}),
    }
    verbs = [
        ("GET", "/messages", None), ("GET", "/events", None), ("GET", "/state", None),
        ("PATCH", "", {"name": "mine now"}), ("PATCH", "", {"archived": True}), ("PATCH", "", {}),
        ("POST", "/archive", {}), ("DELETE", "", {}),
    ]  # fmt: skip
    for verb, rest, body in verbs:
        name = f"{verb} {rest} {body}"
        found[name] = (verb, f"/threads/{thread}{rest}", body, {})
        found[f"{name} single"] = ("POST", "/", _resource(f"/threads/{thread}{rest}", verb, body), {})
    return found


async def ask(http: httpx.AsyncClient, way: tuple[str, str, Any, dict[str, str]]) -> httpx.Response:
    method, path, body, headers = way
    return await http.request(method, path, json=body, headers=headers)


def said(answer: httpx.Response) -> tuple[int, bytes, list[tuple[str, str]]]:
    return answer.status_code, answer.content, sorted(answer.headers.items())


NAMES = ("ann-of-the-hills", "bob-of-the-sea")
THREADS = st.sampled_from(["t1", "t2", "t3"])
WHO = st.sampled_from(NAMES)


class TwoPrincipals(RuleBasedStateMachine):
    """Two principals share a few thread ids; every event, message, name and state contains its owner's name."""

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
            said = input.forwarded_props["said"]
            events = [
                {"type": "CUSTOM", "name": "note", "value": said},
                {"type": "STATE_SNAPSHOT", "snapshot": {"said": said}},
                *text_message(f"m-{input.run_id}", said),
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
        answer = self.loop.run(ask(self.http, (method, path, body, headers | {"x-user": who})))
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
        method, path, body, headers = ways(thread, f"{who}-{self.count}")[way]
        given = body["body"] if way == "run single" else body
        given["forwardedProps"] = {"said": f"{who} says {self.count}"}
        given["messages"] = [{"id": f"{who}-q{self.count}", "role": "user", "content": f"{who} asks"}]
        answer = self.ask(who, (method, path, body, headers))
        free = thread not in self.owner
        assert answer.status_code == (200 if free or self.theirs(who, thread) else 404)
        if free:
            self.owner[thread] = who
            self.names[thread] = None

    @rule(who=WHO, thread=THREADS, data=st.data())
    def anything(self, who: str, thread: str, data: st.DataObject) -> None:
        possible = {name: way for name, way in ways(thread, "x").items() if not name.startswith(("run", "DELETE"))}
        name = data.draw(st.sampled_from(sorted(possible)))
        method, path, body, headers = possible[name]
        body = json.loads(json.dumps(body).replace("mine now", f"named by {who}"))
        answer = self.ask(who, (method, path, body, headers))
        if self.theirs(who, thread):
            assert answer.status_code != 404 or "ahead" in name
            if "mine now" in name:
                self.names[thread] = f"named by {who}"
        else:
            assert (answer.status_code, answer.content) == NOT_THERE

    @rule(who=WHO, thread=THREADS, single=st.booleans())
    def delete(self, who: str, thread: str, single: bool) -> None:
        answer = self.ask(who, ways(thread, "x")[f"DELETE  {{}}{' single' if single else ''}"])
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
            found = {thread["id"]: thread["name"] for thread in answer.json()["threads"]}
            assert found == {thread: self.names[thread] for thread, owner in self.owner.items() if owner == who}


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
