"""What the tests share: `async def` tests, runners on every store, inputs, agents."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from agentrunner import AgentRunner, InMemoryAgentRunner, MemoryStore, SqliteAgentRunner
from agentrunner.stores.urls import store_from_url
from support import backends
from support.loops import TIMEOUT, run_async

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from agentrunner import Store

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
