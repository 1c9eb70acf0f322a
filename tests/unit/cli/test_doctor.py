"""`agentrunner doctor`, run as a user runs it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from support.commands import command, sql
from support.paths import TYPESCRIPT_SAMPLE

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("typer")
pytest.importorskip("rich")
pytestmark = pytest.mark.processes


def test_sound_file_has_no_problems(db: Path) -> None:
    code, out, _ = command("doctor", db)
    assert code == 0
    assert "no problems found" in out


def test_stuck_threads_are_freed_only_with_fix(tmp_path: Path) -> None:
    path = tmp_path / "ts.db"
    shutil.copyfile(TYPESCRIPT_SAMPLE, path)
    for _ in range(2):
        code, out, _ = command("doctor", path)
        assert code == 1
        assert ["stuck", "threads", "2"] in [line.split()[:3] for line in out.splitlines()]
        assert command("threads", path)[0] == 0
    code, out, _ = command("doctor", path, "--fix")
    assert code == 0
    assert "after the repair" in out
    assert command("doctor", path)[0] == 0


def test_dead_run_is_shown_and_recovered_with_fix(dead_db: Path) -> None:
    assert ["dead", "0", "yes", "just", "now"] in [line.split() for line in command("threads", dead_db)[1].splitlines()]
    code, out, _ = command("show", dead_db, "dead")
    assert code == 0
    assert "half a sent" in out
    assert "still live" in out
    code, out, _ = command("doctor", dead_db)
    assert code == 1
    assert "dead/d1" in out
    assert command("doctor", dead_db, "--fix")[0] == 0
    code, out, _ = command("show", dead_db, "dead")
    assert "INTERRUPTED" in out
    assert "still live" not in out


def test_orphans_are_linked_with_fix(db: Path) -> None:
    sql(db, "UPDATE agent_runs SET parent_run_id = 'gone' WHERE run_id = 'r2'")
    code, out, _ = command("doctor", db)
    assert code == 1
    assert "t/r2" in out
    assert command("doctor", db, "--fix")[0] == 0


def test_corrupt_run_is_reported_as_beyond_repair(db: Path) -> None:
    sql(db, "UPDATE agent_runs SET events = 'rubbish' WHERE run_id = 'r1'")
    for args in ((), ("--fix",)):
        code, out, _ = command("doctor", db, *args)
        assert code == 1
        assert "t/r1" in out
        assert "--fix cannot repair" in out
    assert "no luck" in command("show", db, "t")[1]
