"""Event loops and runners of tests that are no `async def`."""

import asyncio

import pytest

from agentrunner import InMemoryAgentRunner, SqliteAgentRunner
from support.event_loops import (
    LOOPS,
)


@pytest.fixture(params=LOOPS)
def go(request):
    def run(main):
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as loop:
            return loop.run(main)

    return run


@pytest.fixture(params=["sqlite", "memory"])
def make(request, tmp_path):
    def build(**options):
        if request.param == "memory":
            return InMemoryAgentRunner(**options)
        return SqliteAgentRunner(tmp_path / "threads.db", **options)

    return build
