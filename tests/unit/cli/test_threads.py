"""`agentrunner threads`, run as a user runs it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from agentrunner import SqliteAgentRunner
from support.commands import command

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("typer")
pytest.importorskip("rich")
pytestmark = pytest.mark.processes


def test_threads_are_listed(db: Path) -> None:
    code, out, _ = command("threads", db)
    assert code == 0
    header, row = out.splitlines()
    assert header.split() == ["thread", "name", "agent", "runs", "running", "updated"]
    assert row.split() == ["t", "A", "day", "guide", "2", "just", "now"]
    assert "old" in command("threads", db, "--archived")[1]
    code, out, _ = command("threads", db, "--archived", "--limit", 1)
    assert "more than 1" in out
    assert command("threads", db, "--limit", 0)[0] == 2


def test_empty_store_has_no_threads(tmp_path: Path) -> None:
    path = tmp_path / "empty.db"

    async def create() -> None:
        async with SqliteAgentRunner(path):
            pass

    asyncio.run(create())
    code, out, _ = command("threads", path, columns=200)
    assert code == 0
    assert "no threads in" in out
