"""Hooks that run `async def` tests and mark them, and fixtures of runners and stores."""

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
from support.paths import TESTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from agentrunner import Store

FOLDERS = ("integration", "campaigns")
NOT_FAST = {*backends.SERVERS, *FOLDERS, "alone", "processes", "slow"}
"""Markers of tests that `make test-fast` leaves out."""

_runners = pytest.StashKey[list[AgentRunner]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--loop", choices=("asyncio", "eager", "uvloop"), default="asyncio", help="loop of async tests")


def pytest_configure(config: pytest.Config) -> None:
    for name in backends.SERVERS:
        config.addinivalue_line("markers", f"{name}: needs a server of this backend")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its server and its folder, or as fast if it needs nothing."""
    for item in items:
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        needs = {
            item.path.relative_to(TESTS).parts[0],
            *(each for each in parameters if isinstance(each, str)),
        }
        for name in (*backends.SERVERS, *FOLDERS):
            if name in needs:
                item.add_marker(name)
        if NOT_FAST.isdisjoint(marker.name for marker in item.iter_markers()):
            item.add_marker("fast")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skips = Counter(
        report.longrepr[2] for report in terminalreporter.stats.get("skipped", ()) if isinstance(report.longrepr, tuple)
    )
    for reason, count in skips.items():
        terminalreporter.write_line(f"{count} tests: {reason.removeprefix('Skipped: ')}", yellow=True)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an `async def` test on its own loop, and close the fixtures' runners on that loop."""
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
    """Return an empty location on each store that processes may share."""
    with backends.place(request.param, tmp_path) as location:
        yield location


@pytest.fixture(params=backends.ALL)
def runner_factory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., AgentRunner]]:
    """Return a function that makes runners on the same threads, and close them after the test.

    In memory each runner has its own threads.
    """
    runners = request.node.stash.setdefault(_runners, [])

    def in_memory(**options: Any) -> AgentRunner:
        runners.append(runner := InMemoryAgentRunner(**options))
        return runner

    if request.param == "memory":
        yield in_memory
        return
    with backends.place(request.param, tmp_path) as location:

        def make(**options: Any) -> AgentRunner:
            stores = {name: options.pop(name) for name in ("lease_ttl", "resume_window") if name in options}
            runners.append(runner := AgentRunner(store_from_url(location, **stores), **options))
            return runner

        yield make


@pytest.fixture(params=backends.ALL)
def store_factory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Return a function that opens the same threads again, as the next process would.

    In memory it returns the same store each time, because its threads end with it.
    """
    if request.param == "memory":
        store = MemoryStore()
        yield lambda: store
        return
    with backends.place(request.param, tmp_path) as location:
        yield lambda: store_from_url(location)


@pytest.fixture
def sqlite_factory(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., SqliteAgentRunner]:
    """Return a function that makes runners on one SQLite file, and close them after the test."""
    runners = request.node.stash.setdefault(_runners, [])

    def make(**options: Any) -> SqliteAgentRunner:
        runner = SqliteAgentRunner(tmp_path / "threads.db", **options)
        runners.append(runner)
        return runner

    return make


@pytest.fixture
def memory_factory(request: pytest.FixtureRequest) -> Callable[..., InMemoryAgentRunner]:
    """Return a function that makes runners in memory, and close them after the test."""
    runners = request.node.stash.setdefault(_runners, [])

    def make(**options: Any) -> InMemoryAgentRunner:
        runner = InMemoryAgentRunner(**options)
        runners.append(runner)
        return runner

    return make


@pytest.fixture
def runner(runner_factory: Callable[..., AgentRunner]) -> AgentRunner:
    """Return a runner with the default options, on each store in turn."""
    return runner_factory()
