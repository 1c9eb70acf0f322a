"""The published clients in node, servers for them, and a thread for each test."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from agentrunner import InMemoryAgentRunner, SqliteAgentRunner
from support import booking_server
from support.bookings import Bookings
from support.copilotkit import Node
from support.copilotkit_server import Served, served_by

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_threads = itertools.count()


@pytest.fixture(scope="session")
def node() -> Iterator[Node]:
    """Yield the npm packages; clients and their scripts last as long as the session."""
    node = Node()
    yield node
    node.close()


@pytest.fixture(scope="session", params=["sqlite", "memory"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Yield a server on each store."""
    file = tmp_path_factory.mktemp("stock") / "threads.db"
    with served_by(SqliteAgentRunner(file) if request.param == "sqlite" else InMemoryAgentRunner()) as server:
        yield server


@pytest.fixture(scope="session")
def in_memory() -> Iterator[Served]:
    """Yield a server in memory, for tests in which the store plays no part."""
    with served_by(InMemoryAgentRunner()) as server:
        yield server


@pytest.fixture
def thread() -> str:
    """Return the id of a thread no other test uses, with characters that a URL must encode."""
    return f"thread/ü {next(_threads)}%"


@pytest.fixture
def here(tmp_path: Path) -> Iterator[booking_server.Served]:
    """Yield a server whose tool needs an approval."""
    with booking_server.serve_bookings(tmp_path) as server:
        yield server


@pytest.fixture
def bookings(tmp_path: Path) -> Bookings:
    """Return the bookings that server processes make."""
    return Bookings(tmp_path / "bookings")
