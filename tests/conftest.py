"""What the tests share: `async def` tests, runners on every store, inputs, agents."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import backends
from agentrunner import AgentRunner, InMemoryAgentRunner, MemoryStore, SqliteAgentRunner
from agentrunner.stores.urls import store_from_url

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

    from ag_ui.core import RunAgentInput

    from agentrunner import Event, EventStream, Store

FIXTURES = Path(__file__).parent / "fixtures"
TIMEOUT = 30.0
"""Seconds a test may take."""

_runners = pytest.StashKey[list[AgentRunner]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--loop", choices=("asyncio", "eager", "uvloop"), default="asyncio", help="what runs async tests")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skips = Counter(
        report.longrepr[2] for report in terminalreporter.stats.get("skipped", ()) if isinstance(report.longrepr, tuple)
    )
    for why, count in skips.items():
        terminalreporter.write_line(f"{count} tests: {why.removeprefix('Skipped: ')}", yellow=True)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an `async def` test on a loop of its own, and close the runners its fixtures made on that loop."""
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}

    async def run() -> None:
        try:
            async with asyncio.timeout(TIMEOUT):
                await test(**arguments)
        finally:
            for runner in pyfuncitem.stash.get(_runners, []):
                await runner.aclose()

    run_async(run(), pyfuncitem.config.getoption("loop"))
    return True


def run_async(coroutine: Any, loop: str = "asyncio") -> Any:
    """Run a coroutine to its end on a new loop: `asyncio`, `eager` (eager tasks, from Python 3.12) or `uvloop`."""
    factory: Any = None
    if loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        if loop == "eager":
            runner.get_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        return runner.run(coroutine)


@pytest.fixture(params=backends.SHARED)
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Give a location of the test's own, on each store that processes may share."""
    with backends.place(request.param, tmp_path) as location:
        yield location


@pytest.fixture(params=backends.ALL)
def runner_factory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., AgentRunner]]:
    """Make runners with options, on the same threads or each in its own memory; closed when the test ends."""
    made = request.node.stash.setdefault(_runners, [])

    def in_memory(**options: Any) -> AgentRunner:
        made.append(runner := InMemoryAgentRunner(**options))
        return runner

    if request.param == "memory":
        yield in_memory
        return
    with backends.place(request.param, tmp_path) as location:

        def make(**options: Any) -> AgentRunner:
            stores = {name: options.pop(name) for name in ("lease_ttl", "resume_window") if name in options}
            made.append(runner := AgentRunner(store_from_url(location, **stores), **options))
            return runner

        yield make


@pytest.fixture(params=backends.ALL)
def store_factory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Make stores over the same threads, one for each life of a process; in memory it is one that has many lives."""
    if request.param == "memory":
        store = MemoryStore()
        yield lambda: store
        return
    with backends.place(request.param, tmp_path) as location:
        yield lambda: store_from_url(location)


@pytest.fixture
def sqlite_factory(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., SqliteAgentRunner]:
    """Make runners on the same SQLite file; closed when the test ends."""
    made = request.node.stash.setdefault(_runners, [])

    def make(**options: Any) -> SqliteAgentRunner:
        runner = SqliteAgentRunner(tmp_path / "threads.db", **options)
        made.append(runner)
        return runner

    return make


@pytest.fixture
def memory_factory(request: pytest.FixtureRequest) -> Callable[..., InMemoryAgentRunner]:
    """Make runners, each in its own memory; closed when the test ends."""
    made = request.node.stash.setdefault(_runners, [])

    def make(**options: Any) -> InMemoryAgentRunner:
        runner = InMemoryAgentRunner(**options)
        made.append(runner)
        return runner

    return make


@pytest.fixture
def runner(runner_factory: Callable[..., AgentRunner]) -> AgentRunner:
    """Give a runner with the default options, on each store in turn."""
    return runner_factory()


def fixture_lines(name: str) -> list[dict[str, Any]]:
    """Give the cases of `tests/fixtures/<name>.jsonl`."""
    with (FIXTURES / f"{name}.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def make_input(thread: str = "t1", run: str = "r1", messages: Sequence[Any] = (), **fields: Any) -> dict[str, Any]:
    """Give a run's input; a message given as `str` is a user's, its id and content that string."""
    given = [{"id": m, "role": "user", "content": m} if isinstance(m, str) else m for m in messages]
    return {
        "threadId": thread, "runId": run, "state": {}, "messages": given,
        "tools": [], "context": [], "forwardedProps": {}, **fields,
    }  # fmt: skip


async def collect(stream: EventStream) -> list[dict[str, Any]]:
    """Read a stream to its end, as dicts."""
    return [event.to_dict() async for event in stream]


def types(events: Iterable[Any]) -> list[str]:
    """Give the kinds of events: dicts or `Event`s."""
    return [event["type"] if isinstance(event, dict) else event.type for event in events]


def dicts(events: Iterable[Event]) -> list[dict[str, Any]]:
    """Give `Event`s as dicts."""
    return [event.to_dict() for event in events]


def started(thread: str = "t1", run: str = "r1", **fields: Any) -> dict[str, Any]:
    return {"type": "RUN_STARTED", "threadId": thread, "runId": run, **fields}


def finished(thread: str = "t1", run: str = "r1", **fields: Any) -> dict[str, Any]:
    return {"type": "RUN_FINISHED", "threadId": thread, "runId": run, **fields}


def text(message: str, *deltas: str, role: str = "assistant") -> list[dict[str, Any]]:
    """Give the events of a text message."""
    return [
        {"type": "TEXT_MESSAGE_START", "messageId": message, "role": role},
        *({"type": "TEXT_MESSAGE_CONTENT", "messageId": message, "delta": delta} for delta in deltas),
        {"type": "TEXT_MESSAGE_END", "messageId": message},
    ]


def tool_call(call: str, name: str, *args: str, result: str | None = None) -> list[dict[str, Any]]:
    """Give the events of a tool call, with its result if that is said; the result's message id is `<call>-result`."""
    events: list[dict[str, Any]] = [
        {"type": "TOOL_CALL_START", "toolCallId": call, "toolCallName": name},
        *({"type": "TOOL_CALL_ARGS", "toolCallId": call, "delta": delta} for delta in args),
        {"type": "TOOL_CALL_END", "toolCallId": call},
    ]
    if result is not None:
        message = f"{call}-result"
        events.append(
            {"type": "TOOL_CALL_RESULT", "toolCallId": call, "messageId": message, "role": "tool", "content": result}
        )
    return events


def scripted(events: Iterable[Any]) -> Callable[[RunAgentInput], AsyncIterator[Any]]:
    """Give an agent that yields exactly these events."""
    script = list(events)

    async def agent(input: RunAgentInput) -> AsyncIterator[Any]:
        for event in script:
            yield event

    return agent


def saying(*events: Any) -> Callable[[RunAgentInput], AsyncIterator[Any]]:
    """Give an agent that yields these events between the RUN_STARTED and RUN_FINISHED of whatever run it is in."""

    async def agent(input: RunAgentInput) -> AsyncIterator[Any]:
        yield started(input.thread_id, input.run_id)
        for event in events:
            yield event
        yield finished(input.thread_id, input.run_id)

    return agent


class Gate:
    """An agent that yields some events, waits until `open()`, and yields the rest. `reached`: it waits."""

    def __init__(self, before: Iterable[Any] = (), after: Iterable[Any] = ()) -> None:
        self.reached = asyncio.Event()
        self.cancelled = False
        self._opened = asyncio.Event()
        self._before, self._after = list(before), list(after)

    def open(self) -> None:
        self._opened.set()

    async def run(self, input: RunAgentInput) -> AsyncIterator[Any]:
        yield started(input.thread_id, input.run_id)
        for event in self._before:
            yield event
        self.reached.set()
        try:
            await self._opened.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        for event in self._after:
            yield event
        yield finished(input.thread_id, input.run_id)
