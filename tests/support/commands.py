"""`agentrunner` commands, run as a user runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def command(*args: object, stdin: bytes = b"", columns: int = 100) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "agentrunner", *map(str, args)],
        input=stdin,
        capture_output=True,
        timeout=60,
        env={**os.environ, "COLUMNS": str(columns), "PYTHONIOENCODING": "utf-8"},
    )
    out, err = done.stdout.decode(), done.stderr.decode()
    assert "Traceback" not in err
    return done.returncode, out, err


def one_line(outcome: tuple[int, str, str], *words: str) -> None:
    code, out, err = outcome
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert all(word in err for word in words), err


def sql(path: Path, statement: str) -> None:
    # In a process of its own: two copies of SQLite in one drop each other's locks.
    code = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1]); db.execute(sys.argv[2]); db.commit(); db.close()"
    subprocess.run([sys.executable, "-c", code, str(path), statement], check=True)
