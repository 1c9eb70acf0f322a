"""Commands that only look create no file and change none."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from support.commands import command, one_line

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("typer")
pytest.importorskip("rich")
pytestmark = [pytest.mark.processes, pytest.mark.fault("D16")]


def state_of(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.iterdir() if file.is_file()}


def test_commands_that_look_change_nothing(db: Path, dead_db: Path) -> None:
    before = state_of(db.parent)
    assert command("threads", db)[0] == 0
    assert command("show", db, "t")[0] == 0
    assert command("doctor", db)[0] == 0
    # The process of this one was killed, so it has a log.
    assert "dead.db-wal" in before
    assert "dead" in command("threads", dead_db)[1]
    assert "half a sent" in command("show", dead_db, "dead")[1]
    assert command("doctor", dead_db)[0] == 1
    assert command("copy", "--verify-only", db, dead_db)[0] == 1
    assert state_of(db.parent) == before


def test_the_source_of_a_copy_is_unchanged(db: Path, tmp_path: Path) -> None:
    before = state_of(db.parent)
    destination = tmp_path / "elsewhere"
    destination.mkdir()
    assert command("copy", db, destination / "copy.db")[0] == 0
    assert state_of(db.parent) == before


def test_a_database_of_another_program_is_refused_and_unchanged(db: Path, tmp_path: Path) -> None:
    path = tmp_path / "notes.db"
    with closing(sqlite3.connect(path)) as notes:
        notes.execute("CREATE TABLE notes (text TEXT)")
        notes.commit()
    before = state_of(tmp_path)
    for arguments in (
        ("threads", path), ("show", path, "t"), ("doctor", path), ("doctor", path, "--fix"),
        ("prune", path, "--max-runs", 1), ("copy", path, tmp_path / "copy.db"), ("copy", db, path),
    ):  # fmt: skip
        one_line(command(*arguments), str(path), "has no tables of agentrunner")
    assert state_of(tmp_path) == before


def test_a_missing_file_is_not_created(tmp_path: Path) -> None:
    for arguments in (("threads",), ("show",), ("doctor",), ("doctor", "--fix"), ("prune", "--max-runs", 1)):
        name, *options = arguments
        thread = ["t"] if name == "show" else []
        one_line(command(name, tmp_path / "missing.db", *thread, *options), "there is no file")
    assert list(tmp_path.iterdir()) == []
