"""`agentrunner demo`; the tour itself is tested in `unit/demo`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.commands import command, one_line

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("typer")
pytest.importorskip("rich")
pytestmark = pytest.mark.processes


def test_demo_refuses_an_existing_file(db: Path) -> None:
    one_line(command("demo", "--db", db), str(db))
