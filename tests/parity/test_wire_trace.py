"""The recorded responses of CopilotKit's runtime 1.75.0, compared with this server's.

Where they differ is written down in `DEPARTURES`: a difference that is not there fails, and so does one that is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import AgentError, InMemoryAgentRunner, SqliteAgentRunner, __version__
from agentrunner.server.responses import BUSY_THREAD_ADVICE
from support.asgi import Answer, Exchange, client_of, frames_of
from support.events import run_finished, run_started, text_message
from support.fixtures import FIXTURES
from support.loops import TIMEOUT, run_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

    from ag_ui.core import RunAgentInput

    from agentrunner import AgentRunner


@dataclass(frozen=True)
class Pair:
    """A request, and what the original answered."""

    title: str
    method: str
    target: str
    sent: bytes | None
    answer: Answer


def read_trace() -> list[Pair]:
    pairs = []
    trace = (FIXTURES / "wire-trace.txt").read_text("utf-8")
    for block in re.split(r"^### ", trace, flags=re.MULTILINE)[1:]:
        title, request, *lines = block.split("\n")
        method, _, target = request.partition(" ")
        sent = lines.pop(0)[2:].encode() if lines[0].startswith("> ") else None
        status, headers = re.fullmatch(r"< (\d+) (\{.*\})", lines.pop(0)).groups()  # type: ignore[union-attr]
        body = "\n".join(line[2:] for line in lines if line.startswith("  ")).removesuffix("\n")
        if "event-stream" in headers and body:
            body += "\n"
        answer = Answer(int(status), json.loads(headers), body.encode())
        pairs.append(Pair(title, method, target or "/", sent, answer))
    return pairs


TRACE = read_trace()

MUTATIONS = "rename, archive and delete work here without the paid service"
OURS = "the version is this package's"
ISSUES = "the issues are pydantic's, in its words; since AG-UI 1.0 tools and context may be left out"
MISSING, EXTRA = "<missing>", "<not in the original>"


@dataclass(frozen=True)
class Departure:
    """Where an answer differs from the original's: a place, what is there instead, and why."""

    titles: tuple[str, ...]
    place: str
    ours: Any
    """The value here, or a function that says whether it is right."""
    why: str

    def holds(self, ours: Any) -> bool:
        return bool(self.ours(ours)) if callable(self.ours) else ours == self.ours


def is_time(value: Any) -> bool:
    return bool(re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", value))


def names_paths(*paths: str) -> Callable[[str], bool]:
    return lambda details: [issue["path"] for issue in json.loads(details)] == [[path] for path in paths]


def has_states_once(events: list[dict[str, Any]]) -> bool:
    """Tell whether these are the original's events without the states replaced later."""
    (original,) = (value_of(pair.answer) for pair in TRACE if pair.title == "connect")
    original.remove(next(event for event in original if event["type"] == "STATE_SNAPSHOT"))
    for event in original:
        if event["type"] == "RUN_STARTED":
            del event["input"]["state"]
    return events == original


REFUSED = "concurrent run same thread"
STREAMS = tuple(pair.title for pair in TRACE if "cache-control" in pair.answer.headers and pair.title != REFUSED)
LISTS = ("threads", "single threads via resource/request")
DEPARTURES = [
    Departure(("info", "single info"), "body.version", __version__, OURS),
    Departure(("info",), "body.threadEndpoints.mutations", True, MUTATIONS),
    Departure(("single info",), "body.singleRoute.threadEndpoints.mutations", True, MUTATIONS),
    Departure(("bad body",), "body.details", names_paths("runId", "messages"), ISSUES),
    Departure(("bad json",), "body.details", lambda details: "column 2" in details, "the words are another parser's"),
    Departure(
        ("concurrent run same thread",), "status", 409, "an empty 200 is taken for a run that said nothing"
    ),
    Departure(("concurrent run same thread",), "headers.content-type", "application/json", "as above"),
    Departure(("concurrent run same thread",), "headers.cache-control", MISSING, "as above"),
    Departure(("concurrent run same thread",), "headers.connection", MISSING, "as above"),
    Departure(
        ("concurrent run same thread",),
        "body",
        {
            "error": "Thread lock denied", "code": "agent_thread_locked", "message": "Thread already running",
            "details": BUSY_THREAD_ADVICE,
        },
        "as above",
    ),
    Departure(("slow run (stopped)",), "body[6].threadId", "t3", "clients refuse a RUN_FINISHED without ids"),
    Departure(("slow run (stopped)",), "body[6].runId", "r1", "as above"),
    Departure(
        STREAMS, "headers.cache-control", "no-cache, no-transform", "proxies that compress would keep the events"
    ),
    Departure(("connect",), "body", has_states_once, "states that a later snapshot replaces are not replayed"),
    Departure(LISTS, "body.threads[0].createdAt", is_time, "time has passed"),
    Departure(LISTS, "body.threads[0].updatedAt", is_time, "time has passed"),
    Departure(LISTS, "body.threads[0].lastRunAt", is_time, "clients sort by it; the original leaves it out"),
    Departure(LISTS, "body.threads[0].running", False, "whether a run is live, for whoever shows it"),
    Departure(
        ("thread messages",),
        "body.messages",
        [
            {"id": "u1", "role": "user", "content": "hi"},
            {"id": "m-r1", "role": "assistant", "content": "hello"},
            {"id": "u2", "role": "user", "content": "again"},
            {"id": "m-r2", "role": "assistant", "content": "hello"},
        ],
        "the thread's messages, as a replay gives them; the original shows what the last run was sent and said",
    ),
    Departure(("thread rename", "thread delete", "thread archive"), "status", 200, MUTATIONS),
    Departure(("thread rename", "thread delete", "thread archive"), "body.error", MISSING, MUTATIONS),
    Departure(("thread rename",), "body.id", "t1", MUTATIONS),
    Departure(("thread rename",), "body.name", "x", MUTATIONS),
    Departure(("thread rename",), "body.agentId", "default", MUTATIONS),
    Departure(("thread rename",), "body.organizationId", "", MUTATIONS),
    Departure(("thread rename",), "body.createdById", "", MUTATIONS),
    Departure(("thread rename",), "body.archived", False, MUTATIONS),
    Departure(("thread rename",), "body.running", False, MUTATIONS),
    Departure(("thread rename",), "body.createdAt", is_time, MUTATIONS),
    Departure(("thread rename",), "body.updatedAt", is_time, MUTATIONS),
    Departure(("thread rename",), "body.lastRunAt", is_time, MUTATIONS),
    Departure(("thread delete", "thread archive"), "body.threadId", "t1", MUTATIONS),
    Departure(("thread delete",), "body.deleted", True, MUTATIONS),
    Departure(("thread archive",), "body.archived", True, MUTATIONS),
    Departure(
        ("threads subscribe",), "body.error", "Thread subscriptions are not available",
        "the missing service is named by what it would do",
    ),
]  # fmt: skip


class Echo:
    """The trace's agent."""

    description = "echo agent"

    def __init__(self, then: str = "") -> None:
        self._then = then
        self.waits = asyncio.Event()

    async def run(self, input: RunAgentInput) -> AsyncIterator[Any]:
        yield run_started(input.thread_id, input.run_id)
        yield {"type": "STATE_SNAPSHOT", "snapshot": {"n": 1}}
        for event in text_message(f"m-{input.run_id}", "hel", "lo"):
            yield event
        if self._then == "wait":
            self.waits.set()
            await asyncio.Event().wait()
        if self._then == "fail":
            raise AgentError("boom")
        yield run_finished(input.thread_id, input.run_id)


def value_of(answer: Answer) -> Any:
    """Return a body as a value, and a stream as its events."""
    if answer.headers.get("content-type") == "text/event-stream":
        return [event for _, event in frames_of(answer.body)]
    return json.loads(answer.body) if answer.body else None


def differences(theirs: Any, ours: Any, place: str) -> Iterator[tuple[str, Any]]:
    """Yield each place where two values differ, with the value there in ours."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        for key in theirs.keys() | ours.keys():
            yield from differences(theirs.get(key, EXTRA), ours.get(key, MISSING), f"{place}.{key}")
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for index, (one, other) in enumerate(zip(theirs, ours, strict=True)):
            yield from differences(one, other, f"{place}[{index}]")
    elif type(theirs) is not type(ours) or theirs != ours:
        yield place, ours


def collect_differences(pair: Pair, ours: Answer) -> dict[str, Any]:
    """Return where a response differs; of its headers, compare only those the trace names."""
    named = {name: ours.headers.get(name, MISSING) for name in pair.answer.headers}
    return dict(
        [
            *differences(pair.answer.status, ours.status, "status"),
            *differences(dict(pair.answer.headers), named, "headers"),
            *differences(value_of(pair.answer), value_of(ours), "body"),
        ]
    )


def with_answer(sent: bytes | None) -> bytes:
    """Return a second run's request as a stock client sends it: with the first run's answer.

    The trace leaves it out, which means here that the user has removed it.
    """
    content = json.loads(sent or b"")
    content["messages"].insert(1, {"id": "m-r1", "role": "assistant", "content": "hello"})
    return json.dumps(content).encode()


class Replay:
    """Sends the trace's requests, in their order."""

    def __init__(self, make_runner: Callable[[], AgentRunner]) -> None:
        self._make_runner = make_runner
        self.found: dict[str, dict[str, Any]] = {}

    async def run(self) -> dict[str, dict[str, Any]]:
        async with self._make_runner() as runner:
            slow = Echo("wait")
            agents = {"default": Echo(), "slow": slow, "err": Echo("fail")}
            self._plain = client_of(runner, agents, cors=True)
            self._single = client_of(runner, agents, cors=True, mode="single-route")
            async with contextlib.AsyncExitStack() as stack:
                held: Exchange | None = None
                for pair in TRACE:
                    if pair.title == "concurrent run same thread":
                        # It comes later in the trace because it ended later.
                        (slow_run,) = (pair for pair in TRACE if pair.title == "slow run (stopped)")
                        held = await stack.enter_async_context(self._open(slow_run))
                        await slow.waits.wait()
                    if pair.title == "slow run (stopped)":
                        assert held is not None
                        self._compare(pair, await held.answer())
                    elif pair.title in ("thread rename", "thread delete", "thread archive"):
                        await self._apart(pair)
                    else:
                        self._compare(pair, await self._answer(pair))
        return self.found

    def _open(self, pair: Pair) -> Exchange:
        client = self._single if pair.title.startswith("single ") else self._plain
        sent = with_answer(pair.sent) if pair.title == "run2 (dedupe)" else pair.sent
        return client.open(pair.method, pair.target, sent)

    async def _answer(self, pair: Pair) -> Answer:
        async with self._open(pair) as exchange:
            return await exchange.answer()

    def _compare(self, pair: Pair, ours: Answer) -> None:
        self.found.setdefault(pair.title, {}).update(collect_differences(pair, ours))

    async def _apart(self, pair: Pair) -> None:
        """Send a request that the original refused to a separate runner.

        The rest of the trace then continues as if nothing had been changed.
        """
        async with InMemoryAgentRunner() as runner:
            client = client_of(runner, {"default": Echo()}, cors=True)
            for run in TRACE[2:4]:
                assert (await client.send(run.method, run.target, run.sent)).status == 200
            self._compare(pair, await client.send(pair.method, pair.target, pair.sent))


@pytest.fixture(scope="module", params=["sqlite", "memory"])
def replayed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    path: Path = tmp_path_factory.mktemp("trace") / "threads.db"
    sqlite = request.param == "sqlite"
    loop = request.config.getoption("loop")
    replay = Replay(lambda: SqliteAgentRunner(path) if sqlite else InMemoryAgentRunner())
    return run_async(asyncio.wait_for(replay.run(), TIMEOUT), loop)


def test_the_trace_is_read_whole() -> None:
    assert len(TRACE) == 37
    assert len({pair.title for pair in TRACE}) == 37
    assert {pair.answer.status for pair in TRACE} == {200, 204, 400, 404, 405, 415, 422, 503}


@pytest.mark.parametrize("title", [pair.title for pair in TRACE])
def test_an_answer_is_the_originals_save_what_the_table_says(title: str, replayed: dict[str, dict[str, Any]]) -> None:
    expected = {one.place: one for one in DEPARTURES if title in one.titles}
    departures = replayed[title]
    assert sorted(departures) == sorted(expected)
    wrong = {place: ours for place, ours in departures.items() if not expected[place].holds(ours)}
    assert not wrong


def test_the_table_names_pairs_of_the_trace_and_each_place_once() -> None:
    titles = {pair.title for pair in TRACE}
    named = [(title, one.place) for one in DEPARTURES for title in one.titles]
    assert {title for title, _ in named} <= titles
    assert len(named) == len(set(named))
    assert all(one.why for one in DEPARTURES)
