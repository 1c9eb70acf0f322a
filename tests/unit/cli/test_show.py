"""`agentrunner show`, run as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from support.commands import command, one_line
from support.recorded_runs import FAILED_RUN

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("typer")
pytest.importorskip("rich")
pytestmark = pytest.mark.processes


def test_show_prints_a_timeline(db: Path) -> None:
    code, out, _ = command("show", db, "t")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    for expected in (
        "user asked in r1",
        "user asked in r2",
        "reasoning let me see",
        'tool weather {"city":"Lisbon"}',
        "→ sunny",
        "step look starts",
        'state {"city": "Lisbon"}',
        "assistant It is \\x1b[31msunny [bold]:smile:",
        'from the… {"what": "unknown"}',
        "custom note 1",
        "interrupt approval: book it?",
        "error no luck (LUCK)",
    ):
        assert expected.split() in lines
    assert [line[1] for line in lines if line[:1] == ["run"]] == ["r1", "r2"]
    assert "\x1b" not in out


def test_show_prints_raw_lines_and_json(db: Path) -> None:
    code, out, _ = command("show", db, "t", "--raw", columns=60)
    lines = out.splitlines()
    assert code == 0
    assert all(len(line) <= 60 for line in lines)
    assert lines[0].split()[1] == "RUN_STARTED"
    code, out, _ = command("show", db, "t", "--json")
    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert len(events) == len(lines)
    assert events[0]["runId"] == "r1"
    assert events[-1] == FAILED_RUN[-1]


def test_show_replaces_characters_that_the_terminal_lacks(db: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agentrunner", "show", str(db), "t"],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"? sunny" in done.stdout


def test_unknown_thread_is_one_line(db: Path) -> None:
    one_line(command("show", db, "no\x1bwhere"), "no thread", "no\\x1bwhere")


def test_closed_pipe_ends_show_quietly(db: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "agentrunner", "show", str(db), "t", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.close()
    assert child.stderr is not None
    assert child.stderr.read() == b""
    child.stderr.close()
    assert child.wait() == 1
