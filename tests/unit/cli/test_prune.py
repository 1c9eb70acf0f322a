"""`agentrunner prune`, run as a user runs it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.commands import command

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("typer")
pytest.importorskip("rich")
pytestmark = pytest.mark.processes


def test_prune_removes_the_oldest_runs(db: Path) -> None:
    assert command("prune", db, "--max-age", "1h", "--max-runs", "2")[1] == "removed 0 runs\n"
    assert command("prune", db, "--max-runs", "1")[1] == "removed 1 run\n"
    assert [name in command("show", db, "t")[1] for name in ("run r1", "run r2")] == [False, True]
    assert command("prune", db, "--max-age", "0s")[1] == "removed 2 runs\n"
    assert command("threads", db, "--archived")[1].startswith("no threads")


@pytest.mark.parametrize("args", [(), ("--max-age", "30"), ("--max-age", "1y"), ("--max-age", "-1d")])
def test_prune_without_a_valid_limit_is_refused(db: Path, args: tuple[str, ...]) -> None:
    code, out, err = command("prune", db, *args)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "30d" in err or "--max-runs" in err
