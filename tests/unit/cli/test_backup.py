"""`agentrunner backup` and `agentrunner vacuum`, run as a user runs them."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from support.commands import command, one_line, sql
from support.database_files import copy_files
from support.paths import TYPESCRIPT_SAMPLE

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("typer")
pytest.importorskip("rich")
pytestmark = pytest.mark.processes


@pytest.mark.fault("D11")
def test_backup_is_a_store_with_the_same_threads(db: Path, tmp_path: Path) -> None:
    copy = tmp_path / "backup.db"
    code, out, err = command("backup", db, copy)
    assert (code, err) == (0, "")
    assert "2 threads, 3 runs" in out
    assert command("copy", db, copy, "--verify-only")[0] == 0
    assert "no problems found" in command("doctor", copy)[1]
    one_line(command("backup", db, copy), "exists; nothing was written")
    assert command("backup", db, copy, "--force")[0] == 0


@pytest.mark.fault("D11")
def test_backup_refuses_servers_and_says_what_to_use() -> None:
    for url, tool in (("redis://:secret@host/0", "BGSAVE"), ("postgresql://ann:secret@host/db", "pg_dump")):
        code, out, err = command("backup", url, "copy.db")
        assert (code, out) == (2, "")
        assert tool in err
        assert "agentrunner copy" in err
        assert "secret" not in err


@pytest.mark.fault("D11")
def test_backup_refuses_files_that_are_no_stores(tmp_path: Path) -> None:
    one_line(command("backup", tmp_path / "missing.db", tmp_path / "copy.db"), "there is no file")
    foreign = tmp_path / "foreign.db"
    sql(foreign, "CREATE TABLE cats (name)")
    one_line(command("backup", foreign, tmp_path / "copy.db"), "no tables of agentrunner")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["foreign.db"]


@pytest.mark.fault("D11")
def test_doctor_reports_a_copy_without_its_log_until_it_is_accepted(dead_db: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    copy_files(dead_db, copy, "")
    # A server that has opened the copy meanwhile does not make the loss invisible.
    for opens in (("doctor",), ("prune", "--max-runs", "9"), ("doctor",)):
        code, out, _ = command(opens[0], copy, *opens[1:])
        if opens[0] == "doctor":
            assert code == 1
            assert ["missing", "log", "1"] in [line.split()[:3] for line in out.splitlines()]
            assert "without its -wal file" in " ".join(out.split())
    assert command("doctor", copy, "--fix")[0] == 0
    assert command("doctor", copy)[0] == 0
    # After a crash the log is there.
    assert "missing log" not in command("doctor", dead_db)[1]


@pytest.mark.fault("D12")
def test_vacuum_makes_a_file_shrink_and_able_to_shrink_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "ts.db"
    shutil.copyfile(TYPESCRIPT_SAMPLE, path)
    sql(path, "CREATE TABLE filler AS SELECT randomblob(1000000) AS bytes")
    sql(path, "DROP TABLE filler")
    before = path.stat().st_size
    code, out, _ = command("vacuum", path)
    assert code == 0
    assert "before" in out
    assert path.stat().st_size < before - 900_000
    assert command("threads", path)[0] == 0
    sql(path, "CREATE TABLE filler AS SELECT randomblob(1000000) AS bytes")
    sql(path, "DROP TABLE filler")
    code, out, _ = command("prune", path, "--max-age", "0s")
    assert code == 0
    assert "removed 0 runs" not in out
    assert path.stat().st_size < before - 900_000


@pytest.mark.fault("D12")
def test_vacuum_refuses_a_store_with_a_live_run(dead_db: Path) -> None:
    one_line(command("vacuum", dead_db), "'dead' has a live run")


def test_backup_into_a_folder_that_does_not_exist_names_it(db: Path, tmp_path: Path) -> None:
    one_line(command("backup", db, tmp_path / "missing" / "copy.db"), os.fspath(tmp_path / "missing"))
